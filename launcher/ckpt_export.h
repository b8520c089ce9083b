/* A generation as a file that others read: safetensors (docs/formats.md). */
#ifndef MU_LAUNCHER_CKPT_EXPORT_H
#define MU_LAUNCHER_CKPT_EXPORT_H

#include <stdint.h>

#include "runtime/base/err.h"

/* Verifies what it reads; the file appears when it is whole, and until then nothing is changed that is there. bytes:
 * called with how many more are done, and of how many; nonzero: to be given up, EABORTED. See mu_ckpt_verify for what
 * is wrong with the generation. EARG: the file cannot be made; ENOSPC,
 * ENODE: or not be written. ETYPE: safetensors cannot have such tensors. One at a time: it has a look at signals that
 * end the process, so that they leave nothing. */
int mu_ckpt_export(const char *dir, uint64_t generation, const char *file,
                   int (*bytes)(void *arg, uint64_t n, uint64_t of), void *arg, struct mu_err *);

/* The other way: the file becomes the next generation of the directory, which is made, and which no job may be using:
 * EBUSY. step NULL: that of the file's metadata, or 0. Takes as much memory as the generation has bytes. EARG: it is
 * not such a file, or not a sound one, or has types that checkpoints do not have; ECORRUPT: it has become shorter
 * meanwhile. bytes: as above, those that are read and those that are written. One at a time. */
int mu_ckpt_import(const char *file, const char *dir, const uint64_t *step,
                   int (*bytes)(void *arg, uint64_t n, uint64_t of), void *arg, uint64_t *generation, uint64_t *saved,
                   struct mu_err *);

#endif
