/* Which file our binary is. Daemons live on while muster is installed anew: a file that has taken the place of theirs
 * is what they start from then on, if it speaks their version of the protocol (docs/formats.md, "Mark of a binary");
 * otherwise they start themselves, whatever lies on the disk. */
#ifndef MU_WIRE_EXE_H
#define MU_WIRE_EXE_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/err.h"

/* A path that may be given to others: our binary, or what has taken its place. MUSTER_EIO, MUSTER_ENODE: nothing is
 * there; MUSTER_EVERSION: it speaks another version, or is none. */
int mu_exe_find(char *buf, size_t n, struct mu_err *);
/* Becomes file, newest, or if that is not to be had, what we are; else the other way round. file: as mu_path_exe says,
 * "" when nothing is there. Returns when nothing could be executed, with errno. Async-signal-safe. */
void mu_exe_become(const char *file, bool newest, char *const argv[], char *const env[]);
/* Waits, a few seconds at most, until no daemon lives in RUN that speaks another version than we do. MUSTER_EVERSION,
 * naming one: what it has, we could not take over. */
int mu_exe_alike(const char *run, struct mu_err *);

#endif
