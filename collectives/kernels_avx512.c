#ifdef __x86_64__

#include <immintrin.h>
#include <string.h>

#define MU_KERNELS_TABLE mu_kernels_avx512
#define MU_KERNELS_NAME "avx512"

#include "collectives/kernels.h"

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")
#if defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__)
#pragma GCC optimize("O3")
#endif
#endif

#define VEC __m512i
#define VEC_LOAD _mm512_loadu_si512
#define VEC_STORE _mm512_storeu_si512
#define VEC_STREAM _mm512_stream_si512
#include "collectives/kernel_copy.h"

#include "collectives/kernel_body.h"

#ifdef __clang__
#pragma clang attribute pop
#endif

#endif
