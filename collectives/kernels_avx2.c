#ifdef __x86_64__

#include <immintrin.h>
#include <string.h>

#define MU_KERNELS_TABLE mu_kernels_avx2
#define MU_KERNELS_NAME "avx2"

#include "collectives/kernels.h"

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#else
#pragma GCC target("avx2")
#if defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__)
#pragma GCC optimize("O3")
#endif
#endif

#define VEC __m256i
#define VEC_LOAD _mm256_loadu_si256
#define VEC_STORE _mm256_storeu_si256
#define VEC_STREAM _mm256_stream_si256
#include "collectives/kernel_copy.h"

#include "collectives/kernel_body.h"

#ifdef __clang__
#pragma clang attribute pop
#endif

#endif
