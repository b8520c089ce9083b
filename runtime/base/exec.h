/* Whether a file is something that can be executed, by what it begins with. */
#ifndef MU_BASE_EXEC_H
#define MU_BASE_EXEC_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/err.h"

#define MU_EXEC_HEAD 256 /* bytes of a file that are looked at; the kernel looks at as many for "#!" */

/* What the kernel has not taken (ENOEXEC) is a script for the shell unless it is binary: an ELF file, or a NUL in its
 * first line. Async-signal-safe. */
bool mu_exec_is_binary(const char *head, size_t n);
/* path as seen from the working directory wdir, for relative interpreters: 0, or MUSTER_EARG with one line when the
 * kernel would not execute it for sure. What cannot be read is not judged. */
int mu_exec_check(const char *path, const char *wdir, struct mu_err *);

#endif
