/* Shared by the files of muster ckpt. */
#ifndef MU_LAUNCHER_CKPT_H
#define MU_LAUNCHER_CKPT_H

#include <jansson.h>
#include <stdbool.h>

#include "runtime/ckpt/format.h"

struct mu_ckpt_opts {
    bool json, dry, quiet;
    uint64_t keep, generation;
};

/* One generation, as a list shows it. */
struct mu_ckpt_seen {
    uint64_t number, step, bytes, wall;
    uint32_t ranks, attempt;
    bool complete, pinned;
    int verified; /* -1: not looked at */
    char job[MU_CKPT_JOB_MAX + 1], why[300];
};

json_t *mu_ckpt_as_json(const struct mu_ckpt_seen *);
/* With an empty list of generations; the root is the caller's. */
json_t *mu_ckpt_document(json_t **list);
/* Takes the root; 0. */
int mu_ckpt_print_json(json_t *root);
const char *mu_ckpt_size_text(uint64_t bytes, char buf[32]);
void mu_ckpt_print_table(const struct mu_ckpt_seen *, size_t n);
/* As the options say; 0. */
int mu_ckpt_show_list(const struct mu_ckpt_opts *, const struct mu_ckpt_seen *, size_t n);

/* A line on a terminal's stderr, with the time that is left. */
struct mu_ckpt_progress {
    const char *what;
    uint64_t total, done, began, shown;
    bool on;
};
struct mu_ckpt_progress mu_ckpt_progress(const struct mu_ckpt_opts *, const char *what, uint64_t total);
int mu_ckpt_advance(void *progress, uint64_t n);
void mu_ckpt_finish(const struct mu_ckpt_progress *);

#endif
