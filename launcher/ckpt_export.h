/* A generation as a file that others read: safetensors (docs/formats.md). */
#ifndef MU_LAUNCHER_CKPT_EXPORT_H
#define MU_LAUNCHER_CKPT_EXPORT_H

#include <stdint.h>

#include "runtime/base/err.h"

/* Verifies what it reads; the file appears when it is whole. bytes: as for mu_ckpt_verify, after each tensor. */
int mu_ckpt_export(const char *dir, uint64_t generation, const char *file, int (*bytes)(void *arg, uint64_t n),
                   void *arg, struct mu_err *);

#endif
