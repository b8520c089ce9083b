/* $MUSTER_HOME/access: reading it, and looking up whom it names. */
#ifndef MU_LAUNCHER_ACCESS_LOAD_H
#define MU_LAUNCHER_ACCESS_LOAD_H

#include <sys/types.h>
#include <time.h>

#include "launcher/core/access.h"

struct mu_access_stamp { /* of what the file was; all zero: there is none */
    struct timespec changed;
    off_t size;
    ino_t inode;
    bool there;
};
/* Defaults where there is no file. On an error *out is as it was: EARG for a mistake, with its place, or for a file
 * that others than the pool's account and root could have written. Looks names up, which may take as long as the host's
 * directory of users does. stamp may be NULL. */
int mu_access_load(const char *home, struct mu_access *out, struct mu_access_stamp *stamp, struct mu_err *);
/* Whether the file is another one than that. */
bool mu_access_changed(const char *home, const struct mu_access_stamp *);
/* The first name that nobody has here; NULL: none. */
const char *mu_access_unknown(const struct mu_access *);
/* Of a uid, in digits where it has none. Returns buf. */
char *mu_access_user(uint32_t uid, char *buf, size_t n);

#endif
