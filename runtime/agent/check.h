/* Health checks of this node. They are made by a process of their own, `muster check`, which the agent starts
 * (checkup.h) and kills when something that it looks at hangs.
 *
 * How to add one: a row in check.c, its function, a row for what its failure leads to in launcher/core/checks_file.c,
 * its line in docs/operations.md. Scripts of the site's own (check_script.c) need none of that. */
#ifndef MU_AGENT_CHECK_H
#define MU_AGENT_CHECK_H

#include "runtime/base/path.h"
#include "runtime/wire/core.h"

struct mu_check_seen; /* what earlier runs have seen, in RUN/checks.seen: counters only grow */
struct mu_check {
    const char *root; /* before /proc, /sys and /dev; "" outside of tests */
    const struct mu_paths *paths;
    const struct mu_m_check *asked;
    struct mu_check_seen *seen;
    int reader; /* who wants to know; a script ends when he is gone. -1: nobody to look at */
};

/* What was found: MU_LEVEL_, and why in a line. */
struct mu_check_found {
    uint32_t level;
    char reason[300];
};
void mu_check_say(struct mu_check_found *, uint32_t level, const char *fmt, ...) MU_PRINTF(3, 4);
/* The same, if it is worse than what was said before. */
void mu_check_worse(struct mu_check_found *, uint32_t level, const char *fmt, ...) MU_PRINTF(3, 4);

/* A name that is about to be checked (found NULL), and then what was found. Nonzero: nobody listens, so end. */
typedef int (*mu_check_fn)(void *arg, const char *name, const struct mu_check_found *found, uint32_t took_ms);
/* All checks but those in asked->off; the built-in ones first. */
int mu_check_run(struct mu_check *, mu_check_fn, void *arg);
bool mu_check_is_built_in(const char *name);

/* The value now, and how much it has grown since the last run that saw it; 0 if none did, or it began anew. */
uint64_t mu_check_grown(struct mu_check *, const char *what, uint64_t value);
/* What it was then; `none` if no run has seen it. It stays so. */
uint64_t mu_check_was(struct mu_check *, const char *what, uint64_t none);

/* One file's number, or its text without the end of line. MUSTER_E* when it cannot be had. */
int mu_check_number(const struct mu_check *, uint64_t *out, const char *fmt, ...) MU_PRINTF(3, 4);
int mu_check_text(const struct mu_check *, char *out, size_t n, const char *fmt, ...) MU_PRINTF(4, 5);

bool mu_check_has(char *const *list, const char *name);

/* check_host.c */
void mu_check_memory(struct mu_check *, struct mu_check_found *);
void mu_check_ecc(struct mu_check *, struct mu_check_found *);
void mu_check_disk(struct mu_check *, struct mu_check_found *);
void mu_check_stray(struct mu_check *, struct mu_check_found *);
/* check_dev.c */
void mu_check_gpu(struct mu_check *, struct mu_check_found *);
void mu_check_infiniband(struct mu_check *, struct mu_check_found *);
/* check_script.c: $MUSTER_HOME/checks.d, each as a check of its file's name. */
int mu_check_scripts(struct mu_check *, mu_check_fn, void *arg);

/* muster check --fd N: reads a `check` message there and answers with `checked` messages: one with a name alone before
 * each check, and one with its row behind it. */
int mu_check_main(int argc, char **argv);

#endif
