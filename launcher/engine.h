/* Engines: how agents come to run on other hosts. The controller asks for one host at a time; an engine brings an agent
 * there, which joins by itself, or says in one line why not and what to do.
 *
 * To add one: write launcher/engine_NAME.c with its start function, declare that below, give it a row in engine.c; name
 * it in docs/operations.md and in the manual pages of run and nodes (--engine). */
#ifndef MU_LAUNCHER_ENGINE_H
#define MU_LAUNCHER_ENGINE_H

#include "launcher/child.h"
#include "runtime/base/path.h"
#include "runtime/wire/key.h"

struct event_base;
struct mu_starter;

/* A host on its way, the starter's. The engine ends it with mu_start_done, once, from the loop or in its start. */
struct mu_start {
    struct mu_starter *starter;
    const struct mu_engine *engine;
    char node[256]; /* its name in the pool, which the agent must give */
    char dest[256]; /* how the user reaches it */
    uint64_t job;   /* that the host belongs to; 0: the pool */
    char *ssh;      /* the command that the user wants; NULL: not said */
    char **env;     /* what the engine needs of the submitter's environment; may be NULL */
    uint64_t begun;
    bool here;              /* its agent has joined */
    bool superseded;        /* the node was asked for again: what fails here is no word on that */
    struct mu_alarm *late;  /* its engine has ended well, and this is how long the agent has */
    struct mu_child *child; /* the engine's own from here on */
    unsigned phase;
    char key[MU_KEY_TEXT];
    void *work;
    struct mu_start *next;
};

struct mu_engine {
    const char *name, *doc;
    const char *const *env; /* names of variables of the submitter's environment that it needs, NULL at the end */
    bool (*inside)(void);   /* this process runs where the engine is the natural one; NULL: never by itself */
    void (*start)(struct mu_start *);
    /* Of the processes by which it keeps agents alive, how many still run; ends them. NULL: it has none. */
    unsigned (*left)(const struct mu_paths *, bool kill_them);
    bool bounded;    /* by the starter's fan-out */
    bool until_here; /* a start is over once its agent is here, not before */
};
extern const struct mu_engine mu_engines[];
extern const unsigned mu_engine_count;

/* NULL or "": the default. EARG names the engines. */
int mu_engine_find(const char *name, const struct mu_engine **, struct mu_err *);
/* The one in which this process runs; otherwise the default. */
const struct mu_engine *mu_engine_here(void);
/* The entries of env that the engine needs, for mu_strv_free; *out is NULL when there are none. */
int mu_engine_env(const struct mu_engine *, char *const *env, char ***out);

void mu_engine_ssh(struct mu_start *);
void mu_engine_slurm(struct mu_start *);
bool mu_engine_slurm_inside(void);
unsigned mu_engine_slurm_left(const struct mu_paths *, bool kill_them);

/* --- the starter: the hosts that are on their way, so many at a time ---------------------------------------------- */

#define MU_START_FAN_OUT 64u
#define MU_START_NS (30 * 1000000000ull)

/* In the way of mu_starter_start; all borrowed for the call. */
struct mu_start_request {
    const char *node, *dest, *engine, *ssh;
    char *const *env;
    uint64_t job;
};
struct mu_starter_config {
    const struct mu_paths *paths;
    unsigned fan_out;  /* of engines that have a bound */
    uint64_t limit_ns; /* each step of a host may take so long */
    /* Where agents reach us, and the key; opens the door first if need be. Strings are ours until the next call. */
    int (*listening)(void *arg, const char **join, const struct mu_key **key, struct mu_err *);
    /* 0, or what went wrong. From the loop; once for each request, but for what goes wrong with one after which the
     * same node was asked for again. */
    void (*done)(void *arg, const char *node, int status, const char *text);
    void *arg;
};
struct mu_starter *mu_starter_new(struct event_base *, const struct mu_starter_config *); /* NULL: out of memory */
void mu_starter_free(struct mu_starter *);                                                /* NULL is fine */
void mu_starter_start(struct mu_starter *, const struct mu_start_request *);
/* The node's agent is here: an engine that waits for it is done with it. */
void mu_starter_joined(struct mu_starter *, const char *node);
/* Begins none any more. Whether one runs whose agent may still come, with nobody who would end it. */
bool mu_starter_ending(struct mu_starter *);
/* Processes of the engines that should end with the agents; kill_them: those that have not are ended. */
unsigned mu_starter_left(const struct mu_starter *, bool kill_them);
/* For the owner of SIGCHLD. */
bool mu_starter_reaped(struct mu_starter *, pid_t pid, int status);

/* --- for engines ---------------------------------------------------------------------------------------------------
 */

struct event_base *mu_start_base(const struct mu_start *);
struct mu_children *mu_start_children(const struct mu_start *);
uint64_t mu_start_deadline(const struct mu_start *); /* of a step that begins now */
unsigned mu_start_limit_s(const struct mu_start *);
/* One word for each argument of `muster agent` on that host, apart from how it gets the key; for mu_strv_free. NULL:
 * out of memory. node NULL: left out. */
char **mu_start_agent_words(const struct mu_start *, const char *node);
const char *mu_start_join(const struct mu_start *);
const struct mu_paths *mu_start_paths(const struct mu_start *);
/* The hosts that are on their way now, of all engines; go on with next. */
struct mu_start *mu_starter_first(const struct mu_starter *);
/* What an engine keeps in the starter; drop frees it at the end. */
struct mu_start_shared {
    void *p;
    void (*drop)(void *);
};
struct mu_start_shared *mu_start_shared(const struct mu_start *);
/* status 0: it runs, or joins soon. The start is gone then. */
void mu_start_done(struct mu_start *, int status, const char *fmt, ...) MU_PRINTF(3, 4);

#endif
