/* Shared by the files of muster ckpt. */
#ifndef MU_LAUNCHER_CKPT_H
#define MU_LAUNCHER_CKPT_H

#include <jansson.h>
#include <stdbool.h>

#include "runtime/base/opt.h"
#include "runtime/ckpt/format.h"

struct mu_ckpt_opts {
    bool json, dry, quiet, all, read_back, incremental;
    uint64_t keep, every, generation;
    const char *step;
    const char *endpoint, *credentials, *key; /* of an object store */
    uint64_t patience, part;
    int lanes;
};

/* One generation, as a list shows it. */
struct mu_ckpt_seen {
    uint64_t number, step, bytes, wall;
    uint32_t ranks, attempt;
    bool complete, pinned;
    bool newer;   /* of a version that this muster does not read */
    int verified; /* -1: not looked at */
    char job[MU_CKPT_JOB_MAX + 1], why[300];
};

json_t *mu_ckpt_as_json(const struct mu_ckpt_seen *);
/* With an empty list of generations; the root is the caller's. */
json_t *mu_ckpt_document(json_t **list);
/* Takes the root. */
int mu_ckpt_print_json(json_t *root, struct mu_err *);
const char *mu_ckpt_size_text(uint64_t bytes, char buf[32]);
void mu_ckpt_print_table(const struct mu_ckpt_seen *, size_t n);
/* As the options say. */
int mu_ckpt_show_list(const struct mu_ckpt_opts *, const struct mu_ckpt_seen *, size_t n, struct mu_err *);
int mu_ckpt_show_tensors(const struct mu_ckpt_opts *, const struct mu_ckpt_seen *, const struct mu_ckpt_tensors *,
                         struct mu_err *);

/* A line on a terminal's stderr, with the time that is left. */
struct mu_ckpt_progress {
    const char *what;
    uint64_t total, done, began, shown;
    bool on;
};
struct mu_ckpt_progress mu_ckpt_progress(const struct mu_ckpt_opts *, const char *what, uint64_t total);
int mu_ckpt_advance(void *progress, uint64_t n);
/* Of so many; for what is not known beforehand. */
int mu_ckpt_advance_of(void *progress, uint64_t n, uint64_t total);
void mu_ckpt_finish(const struct mu_ckpt_progress *);

/* The same commands on s3:// (launcher/ckpt_remote.c); push takes the store's URL behind the directory, pull the
 * directory behind the URL. */
typedef int mu_ckpt_sub(const char *where, const struct mu_ckpt_opts *, int argc, char **argv, struct mu_err *);
mu_ckpt_sub mu_ckpt_remote_list, mu_ckpt_remote_verify, mu_ckpt_remote_prune, mu_ckpt_remote_push, mu_ckpt_remote_pull,
    mu_ckpt_remote_set_pin, mu_ckpt_remote_unset_pin;
/* Of a directory: those that are named, or all, newest first. *v is malloc'ed. */
int mu_ckpt_collect(const char *dir, int argc, char **argv, struct mu_ckpt_seen **v, size_t *n, struct mu_err *);
/* "7", "g00000007" */
int mu_ckpt_number(const char *text, uint64_t *number, struct mu_err *);

#endif
