/* The pool key: 32 random bytes that every host of a pool has and nobody else. Whoever has it is trusted: it proves
 * both ends of the wire between hosts. It lives in a file of mode 0600 beside the hosts' state (docs/formats.md) and
 * travels through descriptors only: never in arguments, the environment or a log. */
#ifndef MU_WIRE_KEY_H
#define MU_WIRE_KEY_H

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/base/path.h"

enum { MU_KEY_BYTES = 32, MU_KEY_TEXT = 128, MU_KEY_PRINT = 17 };

struct mu_key {
    uint8_t bytes[MU_KEY_BYTES];
};
void mu_key_wipe(struct mu_key *);
#define mu_auto_key __attribute__((cleanup(mu_key_wipe)))

/* HOME/pool.key. */
int mu_key_path(const struct mu_paths *, char path[PATH_MAX], struct mu_err *);
/* EARG with the fix when the file is not a regular one, not of our account (or root), open to others, damaged or
 * missing; EVERSION: of a newer version. */
int mu_key_load(const char *path, struct mu_key *, struct mu_err *);
/* Loads it, or makes it first; of many that make it at once, on whatever hosts, all get the same. */
int mu_key_create(const char *path, struct mu_key *, struct mu_err *);

/* The key as one line through a pipe, to an agent's standard input. Reading takes not a byte more than that line;
 * ETIMEOUT after timeout_ms. It fits into an empty pipe: writing it there does not wait. */
int mu_key_read(int fd, int timeout_ms, struct mu_key *, struct mu_err *);
int mu_key_write(int fd, const struct mu_key *, struct mu_err *);

/* The line, with and without its newline; text is the caller's to wipe. mu_key_format returns its length. */
int mu_key_parse(const char *text, size_t len, struct mu_key *, struct mu_err *);
size_t mu_key_format(const struct mu_key *, char text[MU_KEY_TEXT]);

/* Names the key without giving anything of it away: 16 hexadecimal digits, for logs and for telling pools apart. */
void mu_key_fingerprint(const struct mu_key *, char print[MU_KEY_PRINT]);
/* A key of its own for each purpose (HKDF-SHA256); the pool key itself is used for nothing else. */
int mu_key_derive(const struct mu_key *, const char *purpose, uint8_t out[MU_KEY_BYTES], struct mu_err *);

#endif
