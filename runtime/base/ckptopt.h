/* What a checkpoint is told: "key=value,key=value" from the program, from `muster run --ckpt`, from the environment. */
#ifndef MU_BASE_CKPTOPT_H
#define MU_BASE_CKPTOPT_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/err.h"

#define MU_CKPT_DIR_MAX 3900 /* longest store directory; what is below it fits a path */

struct mu_ckpt_options {
    char dir[MU_CKPT_DIR_MAX];
    uint64_t interval_ns;    /* 0: by steps */
    uint64_t interval_steps; /* 0: by time */
    bool interval_auto;      /* the times are found while the job runs */
    uint64_t mtbf_ns;        /* of one node, for that; 0: what is usual */
    uint32_t keep;
    uint32_t parities; /* 0: the nodes' memory is not protected, unless mirrored */
    bool mirror;
    bool open;              /* what goes to protecting nodes is authenticated, but not encrypted */
    uint32_t every;         /* generations whose number it divides are kept for ever; 0: none are */
    char store[600];        /* "s3://BUCKET/PREFIX"; "": none */
    char endpoint[300];     /* of the store; "": as the AWS tools find it */
    char credentials[1024]; /* absolute; "": the same */
    char key[1024]; /* absolute, of a file with keys that encrypt what lies in the store; "": it is not encrypted */
    uint32_t full;  /* of so many generations in the store one is whole by itself; 0, 1: each */
    uint64_t rate;  /* bytes a second towards the store; 0: as many as there can be */
};

/* The defaults, overlaid in this order by dir_env (MUSTER_CKPT_DIR), options_env (MUSTER_CKPT) and options (the
 * program's); each may be NULL or empty. EARG names the key and what it takes. dir is as given, maybe relative. */
int mu_ckpt_options_parse(const char *options, const char *options_env, const char *dir_env,
                          struct mu_ckpt_options *out, struct mu_err *);
/* One such text more, over what is in *o; where: its name, for the error. */
int mu_ckpt_options_overlay(struct mu_ckpt_options *o, const char *text, const char *where, struct mu_err *);

#endif
