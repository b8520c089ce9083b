#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/engine.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/str.h"
#include "runtime/wire/daemon.h"

enum { ENGINES_MAX = 8 };

struct mu_starter {
    struct event_base *base;
    struct mu_starter_config cfg;
    struct mu_children *children;
    struct mu_alarm *alarm;
    struct mu_start *running, *waiting, **waiting_tail;
    unsigned nbound; /* running ones that count */
    char *join;      /* of the start under way */
    struct mu_start_shared shared[ENGINES_MAX];
};

static void free_start(struct mu_start *s)
{
    if (s->child)
        mu_child_kill(s->child);
    mu_alarm_free(s->late);
    explicit_bzero(s->key, sizeof s->key);
    free(s->ssh);
    free(s->work);
    mu_strv_free(s->env);
    free(s);
}

/* The door must be open before an agent is told of it. */
static int prepare(struct mu_starter *st, struct mu_start *s, struct mu_err *err)
{
    const struct mu_key *key;
    const char *join;
    int rc = st->cfg.listening(st->cfg.arg, &join, &key, err);

    if (rc)
        return mu_err_prefix(err, "the controller cannot be reached from other hosts");
    mu_key_format(key, s->key);
    free(st->join);
    st->join = strdup(join);
    return st->join ? 0 : mu_err_set(err, MUSTER_ENOMEM, "out of memory");
}

static void begin(struct mu_starter *st, struct mu_start *s)
{
    struct mu_err err;

    s->next = st->running;
    st->running = s;
    s->begun = mu_now();
    st->nbound += s->engine->bounded;
    mu_log(MU_LOG_INFO, "engine", "starting an agent on %s (%s, by %s)", s->node, s->dest, s->engine->name);
    if (prepare(st, s, &err))
        mu_start_done(s, err.code, "%s", err.text);
    else
        s->engine->start(s);
}

static bool end_one_that_is_here(struct mu_starter *st);

static void on_alarm(void *arg)
{
    struct mu_starter *st = arg;
    struct mu_start **at;

    while (end_one_that_is_here(st))
        ;
    at = &st->waiting;
    while (*at) {
        struct mu_start *s = *at;
        if (s->engine->bounded && st->nbound >= st->cfg.fan_out) {
            at = &s->next;
            continue;
        }
        *at = s->next;
        if (!*at)
            st->waiting_tail = at;
        begin(st, s);
        at = &st->waiting; /* it may have ended at once, and told the core */
    }
}

void mu_start_done(struct mu_start *s, int status, const char *fmt, ...)
{
    struct mu_starter *st = s->starter;
    char text[400], node[sizeof s->node];
    bool tell = !status || !s->superseded;
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    for (struct mu_start **at = &st->running; *at; at = &(*at)->next) {
        if (*at == s) {
            *at = s->next;
            break;
        }
    }
    if (status)
        mu_log(MU_LOG_WARN, "engine", "%s: %s", s->node, text);
    else
        mu_log(MU_LOG_INFO, "engine", "%s: started after %llu ms", s->node,
               (unsigned long long)((mu_now() - s->begun) / MU_MS));
    st->nbound -= s->engine->bounded;
    snprintf(node, sizeof node, "%s", s->node);
    free_start(s);
    if (st->waiting)
        mu_alarm_set(st->alarm, mu_now());
    if (tell)
        st->cfg.done(st->cfg.arg, node, status, text);
}

static void supersede(struct mu_start *list, const char *node)
{
    for (struct mu_start *s = list; s; s = s->next)
        s->superseded |= !strcmp(s->node, node);
}

void mu_starter_start(struct mu_starter *st, const struct mu_start_request *r)
{
    struct mu_start *s = calloc(1, sizeof *s);
    struct mu_err err;

    if (!s) {
        mu_log(MU_LOG_ERROR, "engine", "out of memory: %s is not started", r->node);
        return;
    }
    supersede(st->running, r->node);
    supersede(st->waiting, r->node);
    s->starter = st;
    snprintf(s->node, sizeof s->node, "%s", r->node);
    snprintf(s->dest, sizeof s->dest, "%s", r->dest && *r->dest ? r->dest : r->node);
    s->job = r->job;
    s->ssh = r->ssh && *r->ssh ? strdup(r->ssh) : NULL;
    s->env = r->env ? mu_strv_dup(r->env) : NULL;
    if (mu_engine_find(r->engine, &s->engine, &err))
        mu_log(MU_LOG_WARN, "engine", "%s: %s; using %s", s->node, err.text, s->engine->name);
    *st->waiting_tail = s;
    st->waiting_tail = &s->next;
    mu_alarm_set(st->alarm, mu_now());
}

void mu_starter_joined(struct mu_starter *st, const char *node)
{
    for (struct mu_start *s = st->running; s; s = s->next) {
        if (strcmp(s->node, node))
            continue;
        s->here = true;
        if (s->engine->until_here || s->late)
            mu_alarm_set(st->alarm, mu_now()); /* the core is told from the loop */
    }
}

static bool end_one_that_is_here(struct mu_starter *st)
{
    for (struct mu_start *s = st->running; s; s = s->next) {
        if (s->here && (s->engine->until_here || s->late)) {
            mu_start_done(s, 0, "%s", "");
            return true;
        }
    }
    return false;
}

static void free_list(struct mu_start *s)
{
    while (s) {
        struct mu_start *next = s->next;
        free_start(s);
        s = next;
    }
}

bool mu_starter_ending(struct mu_starter *st)
{
    free_list(MU_STEAL(st->waiting, NULL));
    st->waiting_tail = &st->waiting;
    for (struct mu_start *s = st->running; s; s = s->next)
        if (!s->engine->left)
            return true;
    return false;
}

unsigned mu_starter_left(const struct mu_starter *st, bool kill_them)
{
    unsigned n = 0;

    for (unsigned i = 0; i < mu_engine_count; i++)
        if (mu_engines[i].left)
            n += mu_engines[i].left(st->cfg.paths, kill_them);
    return n;
}

bool mu_starter_reaped(struct mu_starter *st, pid_t pid, int status)
{
    return mu_children_reaped(st->children, pid, status);
}

struct mu_starter *mu_starter_new(struct event_base *base, const struct mu_starter_config *cfg)
{
    struct mu_starter *st = calloc(1, sizeof *st);

    if (!st)
        return NULL;
    st->base = base;
    st->cfg = *cfg;
    st->waiting_tail = &st->waiting;
    st->children = mu_children_new(base, cfg->paths);
    st->alarm = mu_alarm_new(base, on_alarm, st);
    if (!st->children || !st->alarm) {
        mu_starter_free(st);
        return NULL;
    }
    return st;
}

void mu_starter_free(struct mu_starter *st)
{
    if (!st)
        return;
    free_list(st->running);
    free_list(st->waiting);
    mu_children_free(st->children);
    mu_alarm_free(st->alarm);
    for (unsigned i = 0; i < ENGINES_MAX; i++)
        if (st->shared[i].drop)
            st->shared[i].drop(st->shared[i].p);
    free(st->join);
    free(st);
}

/* --- for engines -------------------------------------------------------------------------------------------------- */

struct event_base *mu_start_base(const struct mu_start *s)
{
    return s->starter->base;
}

struct mu_children *mu_start_children(const struct mu_start *s)
{
    return s->starter->children;
}

uint64_t mu_start_deadline(const struct mu_start *s)
{
    return mu_now() + s->starter->cfg.limit_ns;
}

unsigned mu_start_limit_s(const struct mu_start *s)
{
    return (unsigned)(s->starter->cfg.limit_ns / MU_SEC);
}

const char *mu_start_join(const struct mu_start *s)
{
    return s->starter->join;
}

const struct mu_paths *mu_start_paths(const struct mu_start *s)
{
    return s->starter->cfg.paths;
}

struct mu_start *mu_starter_first(const struct mu_starter *st)
{
    return st->running;
}

struct mu_start_shared *mu_start_shared(const struct mu_start *s)
{
    return &s->starter->shared[s->engine - mu_engines];
}

char **mu_start_agent_words(const struct mu_start *s, const char *node)
{
    char pool[9], owner[24], slot[] = "agent";
    const char *const words[] = {slot,      "--join", s->starter->join,       "--pool", pool,
                                 "--owner", owner,    node ? "--node" : NULL, node,     NULL};
    char **v = NULL;
    int rc = 0;

    snprintf(pool, sizeof pool, "%08x", s->starter->cfg.paths->pool_hash);
    snprintf(owner, sizeof owner, "%llu", (unsigned long long)s->job);
    for (size_t i = 0; words[i] && !rc; i++)
        rc = mu_strv_append(&v, words[i]);
    if (rc) {
        mu_strv_free(v);
        return NULL;
    }
    return v;
}
