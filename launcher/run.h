/* What `muster run` and `muster submit` are made of: options -> plan (checked) -> spec -> a job that is watched to its
 * end. Everything here belongs to the command; one thread. */
#ifndef MU_LAUNCHER_RUN_H
#define MU_LAUNCHER_RUN_H

#include "launcher/client.h"
#include "launcher/core/pool.h"
#include "runtime/base/hosts.h"
#include "runtime/base/opt.h"
#include "runtime/wire/core.h"

struct mu_run_opts {
    /* of one program: start afresh behind each ':' */
    int ranks; /* 0: not said */
    const char *wdir;
    char **exports; /* -x as given */
    char **mca;     /* OMPI_MCA_name=value */
    const char *mca_name;
    /* of the job */
    const char *name, *output, *ckpt_dir, *ssh, *engine, *rankfile;
    char **hosts, **hostfiles, **ckpt;
    int nodes, ppn, bind, restarts, min_ranks, spares, group, on_failure, input;
    char map[16];
    int priority;
    char **after; /* numbers of jobs */
    bool oversubscribe, smt, tag_output, quiet, dry_run, json, hold, accepted;
    int gpus; /* of each rank */
    uint64_t memory;
    const char *label;
    bool baseline;
    uint64_t timeout_ns, grace_ns, hang_ns; /* hang_ns: UINT64_MAX not said, 0 never */
};
enum { MU_RUN_RANKS_MAX = 1000000 }; /* of a job */
enum { MU_RUN_BIND_UNSAID = -1, MU_RUN_BIND_NONE, MU_RUN_BIND_CORE, MU_RUN_BIND_NUMA, MU_RUN_BIND_GPU };
enum { MU_RUN_INPUT_RANK0, MU_RUN_INPUT_NONE };

struct mu_run_app {
    uint32_t ranks;
    char **argv; /* argc words, borrowed from the command line */
    int argc;
    char wdir[4096]; /* absolute */
    char **env;      /* NAME=VALUE: PWD, --mca, -x, in this order */
};

struct mu_run_plan {
    struct mu_run_opts opts;
    struct mu_run_app *apps;
    unsigned napps;
    uint32_t ranks; /* of all programs; 0: as many as there are slots */
    /* Of -H, hostfiles or the allocation; none: the pool's. This machine has its node name in it. */
    struct mu_hosts hosts;
    uint32_t host_slots; /* that they allow, spare ones left out; 0: not said for all of them */
    bool from_slurm;
    char **slots;       /* of a rank file, by rank; NULL: there is none */
    const char *engine; /* how their agents are started; NULL: none are given */
    char **engine_env;
    char output[4096], ckpt_dir[4096], ckpt[1024], user[64];
    char **env;     /* what is handed on of our own environment */
    char note[256]; /* worth saying, no error */
};

/* The option tables; submit's is run's without what needs somebody watching. */
const struct mu_opt *mu_run_options(size_t *n);
const struct mu_opt *mu_submit_options(size_t *n);
/* The value of a `--mca NAME` that waits for it (opts.mca_name). */
int mu_run_mca_value(struct mu_run_opts *o, const char *value, struct mu_err *err);

/* Parses the command line (argv[0] is the command) and checks everything that can be known before a job exists. 1: help
 * was asked for. On any result mu_run_plan_free it. */
int mu_run_plan_make(struct mu_run_plan *p, const struct mu_opt *table, size_t n, int argc, char **argv,
                     struct mu_err *err);
void mu_run_plan_free(struct mu_run_plan *p);
/* ranks of a plan that does not say: fills apps[0].ranks. */
int mu_run_plan_slots(struct mu_run_plan *p, uint32_t slots, uint32_t nodes, struct mu_err *err);

/* run_check.c: each names the thing and the fix. */
/* Programs and their directories where this host has ranks of them; of others their keepers tell. */
int mu_run_check_programs(const struct mu_run_plan *p, struct mu_err *err);
/* dir is absolute; create: it is made, with its parents, and written into. MUSTER_ENOSPC: but for room it would do. */
int mu_run_check_dir(const char *option, const char *dir, bool create, struct mu_err *err);

/* run_ranks.c: reads the rank file: its hosts take the place of those that were named, which it may count. */
int mu_run_rankfile(struct mu_run_plan *p, struct mu_err *err);

/* run_hosts.c: which hosts the job has named. */
int mu_run_check_hosts(struct mu_run_plan *p, struct mu_err *err);
/* As a spec and the messages about nodes have them: "name:slots,..."; NULL: out of memory. */
char *mu_run_hosts_text(const struct mu_hosts *hosts);
/* This machine is among them, or none are named. */
bool mu_run_hosts_here(const struct mu_hosts *hosts);
/* One list of "HOST[:SLOTS],...", this machine under its node name, added to out. */
int mu_run_hosts_add(struct mu_hosts *out, const char *list, struct mu_err *err);
/* Once the number of ranks is known: whether they and the spares fit the hosts; nothing is said where slots are not.
 * shares (may be NULL): malloced, the placement, n of them with ranks and nspares behind; their nodes are hosts. */
int mu_run_place(const struct mu_run_plan *p, struct mu_share **shares, unsigned *n, unsigned *nspares,
                 struct mu_err *err);
/* The command in place of ssh that the user wants (--ssh, MUSTER_SSH), checked; *out NULL: none. */
int mu_run_ssh(const char *option, const char **out, struct mu_err *err);

/* run_env.c: whether a variable of the submitter is handed on; the copy of `environ` that is. */
bool mu_run_env_passes(const char *entry);
bool mu_run_env_is_own(const char *entry); /* muster sets it, one value a rank */
char **mu_run_env_copy(char *const *env);
/* Value of name in NAME=VALUE vectors (either may be NULL), the last one wins; NULL if none. */
const char *mu_run_env_get(char *const *first, char *const *second, const char *name);

/* Packs the plan as a spec; *out is the caller's to free. */
int mu_run_spec(const struct mu_run_plan *p, bool foreground, bool input, struct mu_bytes *out, struct mu_err *err);
/* Random; a repeated submission with it is the same job. */
int mu_run_token(char token[33], struct mu_err *err);
/* Slots and number of the nodes that are up and not another job's, of the plan's hosts when it names any; waits for the
 * first node a while. */
int mu_run_pool(struct mu_client *c, const struct mu_run_plan *p, uint32_t *slots, uint32_t *nodes, struct mu_err *err);
/* Submits, over new connections if need be. */
int mu_run_submit(struct mu_client *c, const char *token, const struct mu_bytes *spec, uint64_t *job,
                  struct mu_err *err);

/* run_ask.c: where the pool's controller would put such a job now. 1: no controller runs. */
struct mu_run_asked {
    char **names;            /* of nodes; shares have indexes of it */
    struct mu_share *shares; /* n with ranks, nspares without behind them */
    unsigned n, nspares;
    char why[440];   /* "": they were chosen in the pool's order */
    bool starts;     /* at once */
    double expected; /* if not, by then; 0: not known */
    char waits[400]; /* and why not */
};
int mu_run_ask(struct mu_run_plan *p, struct mu_run_asked *out, struct mu_err *err);
void mu_run_asked_free(struct mu_run_asked *);

/* run_dry.c: prints what would be started. */
int mu_run_dry(struct mu_run_plan *p, struct mu_err *err);

/* run_live.c: watches the job to its end and returns the exit code of `muster run`. */
int mu_run_watch(struct mu_client *c, const struct mu_run_plan *p, uint64_t job, const char *token, bool input);

/* run_report.c */
struct mu_run_sight { /* what the watcher knows beyond the row */
    int signo;        /* that made us cancel, 0: none */
    bool quiet;
};
int mu_run_exit_code(const struct mu_m_jobrow *row, int signo);
/* The one-screen report; empty when there is nothing to say. */
void mu_run_report(struct mu_buf *out, const struct mu_m_jobrow *row, const struct mu_run_sight *sight);

#endif
