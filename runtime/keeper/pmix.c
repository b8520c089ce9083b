#include "runtime/keeper/pmix.h"

#include <errno.h>
#include <pmix.h>
#include <pmix_server.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "runtime/base/buf.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/str.h"

/* Operations of the server library answer on its own thread, at once; so long may they take. */
enum { PATIENCE_S = 10 };

struct node {
    struct node *next;
    struct mu_pmix_event ev;
};
struct open { /* a fence or a question that PMIx waits for */
    struct open *next;
    uint64_t seq;
    pmix_modex_cbfunc_t done;
    void *arg;
};
struct kind { /* of fences: who takes part */
    struct kind *next;
    uint64_t hash;
    uint16_t count;
};
struct ask { /* a question that PMIx answers; it may do so when the attempt is over */
    uint32_t attempt, rank, node;
    uint64_t seq;
};

enum { KINDS_MAX = 1024 };

struct mu_pmix {
    pthread_mutex_t lock; /* of everything down to `open`; PMIx's threads take it too */
    int efd;
    struct node *head, **tail;
    struct open *fences, *questions;
    struct kind *kinds;
    unsigned nkinds;
    uint64_t fence_seq, question_seq;
    pmix_nspace_t nspace;
    uint32_t attempt;
    uint32_t *node_ranks, nnodes, world;
    bool open;
    bool *connected; /* by local rank */
    uint32_t first, nlocal, nconnected;
    bool left;   /* a namespace is still registered that must not be touched any more, see mu_pmix_end */
    bool broken; /* the library has not answered */
};

/* The library has one server a process and gives its callbacks no argument. */
static struct mu_pmix *server;

/* --- events out of PMIx's threads ------------------------------------------------------------------------------- */

static void push_locked(struct mu_pmix *p, const struct mu_pmix_event *ev)
{
    struct node *n = calloc(1, sizeof *n);
    uint64_t one = 1;

    if (!n) {
        free(ev->text);
        free(ev->data);
        free(ev->among);
        return;
    }
    n->ev = *ev;
    n->ev.attempt = p->attempt;
    *p->tail = n;
    p->tail = &n->next;
    while (write(p->efd, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

static pmix_status_t push(const pmix_proc_t *proc, struct mu_pmix_event ev)
{
    pmix_status_t rc = PMIX_ERR_NOT_FOUND;

    pthread_mutex_lock(&server->lock);
    if (server->open && !strncmp(proc->nspace, server->nspace, PMIX_MAX_NSLEN)) {
        ev.rank = proc->rank;
        push_locked(server, &ev);
        rc = PMIX_OPERATION_SUCCEEDED;
    } else {
        free(ev.text);
    }
    pthread_mutex_unlock(&server->lock);
    return rc;
}

static pmix_status_t on_connected(const pmix_proc_t *proc, void *object, pmix_op_cbfunc_t cb, void *arg)
{
    (void)object, (void)cb, (void)arg;
    pmix_status_t rc = push(proc, (struct mu_pmix_event){.kind = MU_PMIX_CONNECTED});
    pthread_mutex_lock(&server->lock);
    uint32_t i = proc->rank - server->first;
    if (rc == PMIX_OPERATION_SUCCEEDED && server->open && i < server->nlocal && !server->connected[i]) {
        server->connected[i] = true;
        server->nconnected++;
    }
    pthread_mutex_unlock(&server->lock);
    return rc;
}

static pmix_status_t on_finalized(const pmix_proc_t *proc, void *object, pmix_op_cbfunc_t cb, void *arg)
{
    (void)object, (void)cb, (void)arg;
    return push(proc, (struct mu_pmix_event){.kind = MU_PMIX_FINALIZED});
}

static pmix_status_t on_abort(const pmix_proc_t *proc, void *object, int status, const char msg[], pmix_proc_t procs[],
                              size_t n, pmix_op_cbfunc_t cb, void *arg)
{
    (void)object, (void)procs, (void)n, (void)cb, (void)arg;
    return push(proc, (struct mu_pmix_event){
                          .kind = MU_PMIX_ABORTED, .status = status, .text = msg && *msg ? strdup(msg) : NULL});
}

/* Remembers what PMIx waits for. */
static bool keep_locked(struct open **list, uint64_t seq, pmix_modex_cbfunc_t cb, void *arg)
{
    struct open *o = malloc(sizeof *o);

    if (!o)
        return false;
    *o = (struct open){.next = *list, .seq = seq, .done = cb, .arg = arg};
    *list = o;
    return true;
}

/* The number of the next fence of these ranks; false: too many kinds, or out of memory. */
static bool number_locked(struct mu_pmix *p, const bool *in, uint64_t *seq)
{
    uint64_t hash = mu_str_hash(in, p->world * sizeof *in) & 0x3fffffffffff0000ull;
    struct kind *k = p->kinds;

    while (k && k->hash != hash)
        k = k->next;
    if (!k) {
        k = p->nkinds < KINDS_MAX ? malloc(sizeof *k) : NULL;
        if (!k)
            return false;
        *k = (struct kind){.next = p->kinds, .hash = hash};
        p->kinds = k;
        p->nkinds++;
    }
    *seq = 1ull << 63 | hash | k->count++;
    return true;
}

/* Who takes part: fills seq and among. All nodes that have one of the ranks must count alike. (Fences of some ranks of
 * several nodes never come out of libpmix 4.2.2; Open MPI has none.) */
static pmix_status_t sort_fence_locked(struct mu_pmix *p, const pmix_proc_t *procs, size_t nprocs,
                                       struct mu_pmix_event *ev)
{
    mu_auto_free bool *in = calloc(p->world + 1u, sizeof *in);
    uint32_t n = 0, rank = 0;
    bool all = false;

    if (!in)
        return PMIX_ERR_NOMEM;
    for (size_t i = 0; i < nprocs; i++) {
        if (strncmp(procs[i].nspace, p->nspace, PMIX_MAX_NSLEN))
            return PMIX_ERR_NOT_SUPPORTED;
        if (procs[i].rank == PMIX_RANK_WILDCARD) {
            all = true;
        } else if (procs[i].rank < p->world) {
            n += !in[procs[i].rank];
            in[procs[i].rank] = true;
        } else {
            return PMIX_ERR_BAD_PARAM;
        }
    }
    if (all || n == p->world) {
        ev->seq = p->fence_seq++;
        return PMIX_SUCCESS;
    }
    ev->among = calloc(p->nnodes, sizeof *ev->among);
    if (!ev->among || !number_locked(p, in, &ev->seq))
        return PMIX_ERR_NOMEM;
    for (uint32_t i = 0; i < p->nnodes; rank += p->node_ranks[i++])
        for (uint32_t k = 0; k < p->node_ranks[i]; k++)
            if (in[rank + k]) {
                ev->among[ev->namong++] = i;
                break;
            }
    return PMIX_SUCCESS;
}

static pmix_status_t on_fence(const pmix_proc_t procs[], size_t nprocs, const pmix_info_t info[], size_t ninfo,
                              char *data, size_t ndata, pmix_modex_cbfunc_t cb, void *arg)
{
    struct mu_pmix_event ev = {.kind = MU_PMIX_FENCE, .rank = PMIX_RANK_WILDCARD, .len = ndata};
    pmix_status_t rc = PMIX_ERR_NOT_FOUND;

    (void)info, (void)ninfo;
    ev.data = malloc(ndata ? ndata : 1);
    if (!ev.data)
        return PMIX_ERR_NOMEM;
    if (ndata)
        memcpy(ev.data, data, ndata);
    pthread_mutex_lock(&server->lock);
    if (server->open)
        rc = sort_fence_locked(server, procs, nprocs, &ev);
    if (rc == PMIX_SUCCESS && !keep_locked(&server->fences, ev.seq, cb, arg))
        rc = PMIX_ERR_NOMEM;
    if (rc == PMIX_SUCCESS)
        push_locked(server, &ev);
    else
        mu_pmix_event_free(&ev);
    pthread_mutex_unlock(&server->lock);
    return rc;
}

/* Ranks of this node are answered by the library itself. */
static pmix_status_t on_direct_modex(const pmix_proc_t *proc, const pmix_info_t info[], size_t ninfo,
                                     pmix_modex_cbfunc_t cb, void *arg)
{
    struct mu_pmix_event ev = {.kind = MU_PMIX_MODEX, .rank = proc->rank};
    pmix_status_t rc = PMIX_ERR_NOT_FOUND;

    (void)info, (void)ninfo;
    pthread_mutex_lock(&server->lock);
    bool ours = server->open && !strncmp(proc->nspace, server->nspace, PMIX_MAX_NSLEN) && proc->rank < server->world;
    if (ours && server->nnodes > 1) {
        ev.seq = server->question_seq++;
        rc = keep_locked(&server->questions, ev.seq, cb, arg) ? PMIX_SUCCESS : PMIX_ERR_NOMEM;
        if (rc == PMIX_SUCCESS)
            push_locked(server, &ev);
    }
    pthread_mutex_unlock(&server->lock);
    return rc;
}

static void on_published(pmix_status_t status, char *data, size_t len, void *arg)
{
    struct ask *q = arg;
    struct mu_pmix_event ev = {.kind = MU_PMIX_MODEX,
                               .rank = q->rank,
                               .status = status == PMIX_SUCCESS ? 0 : MUSTER_EPEER,
                               .seq = q->seq,
                               .node = q->node,
                               .answer = true};

    if (!ev.status && len) {
        ev.data = malloc(len);
        ev.len = ev.data ? len : 0;
        ev.status = ev.data ? 0 : MUSTER_ENOMEM;
        if (ev.data)
            memcpy(ev.data, data, len);
    }
    pthread_mutex_lock(&server->lock);
    if (server->open && q->attempt == server->attempt)
        push_locked(server, &ev);
    else
        mu_pmix_event_free(&ev);
    pthread_mutex_unlock(&server->lock);
    free(q);
}

/* Failures are told by ending the attempt; whoever registers for them may. */
static pmix_status_t on_register_events(pmix_status_t *codes, size_t ncodes, const pmix_info_t info[], size_t ninfo,
                                        pmix_op_cbfunc_t cb, void *arg)
{
    (void)codes, (void)ncodes, (void)info, (void)ninfo, (void)cb, (void)arg;
    return PMIX_OPERATION_SUCCEEDED;
}

static pmix_status_t on_deregister_events(pmix_status_t *codes, size_t ncodes, pmix_op_cbfunc_t cb, void *arg)
{
    (void)codes, (void)ncodes, (void)cb, (void)arg;
    return PMIX_OPERATION_SUCCEEDED;
}

/* publish, lookup, spawn, connect and groups are not offered: NULL. */
static pmix_server_module_t module = {
    .client_connected = on_connected,
    .client_finalized = on_finalized,
    .abort = on_abort,
    .fence_nb = on_fence,
    .direct_modex = on_direct_modex,
    .register_events = on_register_events,
    .deregister_events = on_deregister_events,
};

/* --- operations that answer through a callback ------------------------------------------------------------------ */

/* On the heap and counted: an answer that comes after we stopped waiting still finds its memory. */
struct wait {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    pmix_status_t status;
    bool done;
    int refs;
};

static void wait_put(struct wait *w)
{
    pthread_mutex_lock(&w->lock);
    int left = --w->refs;
    pthread_mutex_unlock(&w->lock);
    if (left)
        return;
    pthread_cond_destroy(&w->cond);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

static struct wait *wait_new(void)
{
    struct wait *w = calloc(1, sizeof *w);
    pthread_condattr_t attr;

    if (!w)
        return NULL;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->cond, &attr);
    pthread_condattr_destroy(&attr);
    w->refs = 2;
    return w;
}

static void on_done(pmix_status_t status, void *arg)
{
    struct wait *w = arg;

    pthread_mutex_lock(&w->lock);
    w->status = status;
    w->done = true;
    pthread_cond_signal(&w->cond);
    pthread_mutex_unlock(&w->lock);
    wait_put(w);
}

/* rc: what the call returned. PMIX_SUCCESS means that the answer comes. */
static pmix_status_t wait_for(struct wait *w, pmix_status_t rc)
{
    if (rc != PMIX_SUCCESS) {
        wait_put(w);
        wait_put(w);
        return rc == PMIX_OPERATION_SUCCEEDED ? PMIX_SUCCESS : rc;
    }
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += PATIENCE_S;
    pthread_mutex_lock(&w->lock);
    while (!w->done && pthread_cond_timedwait(&w->cond, &w->lock, &until) == 0)
        ;
    rc = w->done ? w->status : PMIX_ERR_TIMEOUT;
    pthread_mutex_unlock(&w->lock);
    wait_put(w);
    return rc;
}

#ifdef __SANITIZE_ADDRESS__
/* What the library allocates when it starts it keeps, also after its end. */
__attribute__((visibility("default"))) const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libpmix\n";
}
#endif

/* --- server ----------------------------------------------------------------------------------------------------- */

int mu_pmix_init(const char *tmpdir, struct mu_pmix **out, struct mu_err *err)
{
    pmix_info_t info[2];

    if (server)
        return mu_err_set(err, MUSTER_EARG, "this process has a PMIx server already");
    struct mu_pmix *p = calloc(1, sizeof *p);
    if (!p)
        return mu_err_set(err, MUSTER_ENOMEM, "PMIx server: out of memory");
    p->efd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (p->efd < 0) {
        free(p);
        return mu_err_errno(err, 0, "eventfd");
    }
    p->tail = &p->head;
    pthread_mutex_init(&p->lock, NULL);
    server = p;
    /* The library looks at the machine when it starts; without hwloc's plugins (X11, OpenCL) that takes half as long.
     */
    bool plain = !getenv("HWLOC_PLUGINS_PATH") && !setenv("HWLOC_PLUGINS_PATH", "/nonexistent", 0);
    /* Only our own ranks are served: no system-wide rendezvous file, no tools. */
    PMIX_INFO_LOAD(&info[0], PMIX_SERVER_TMPDIR, tmpdir, PMIX_STRING);
    PMIX_INFO_LOAD(&info[1], PMIX_SYSTEM_TMPDIR, tmpdir, PMIX_STRING);
    /* A store without locks in memory that clients share, which may be killed while they hold one. What is set wins. */
    setenv("PMIX_MCA_gds", "hash", 0);
    pmix_status_t rc = PMIx_server_init(&module, info, MU_COUNT(info));
    for (size_t i = 0; i < MU_COUNT(info); i++)
        PMIX_INFO_DESTRUCT(&info[i]);
    if (plain)
        unsetenv("HWLOC_PLUGINS_PATH"); /* who is started by us may want them */
    if (rc != PMIX_SUCCESS) {
        server = NULL;
        close(p->efd);
        pthread_mutex_destroy(&p->lock);
        free(p);
        return mu_err_set(err, MUSTER_EJOB, "the PMIx server does not start in %s: %s", tmpdir, PMIx_Error_string(rc));
    }
    *out = p;
    return 0;
}

#define FINALIZE_S 3

void mu_pmix_free(struct mu_pmix *p)
{
    struct mu_pmix_event ev;

    if (!p)
        return;
    mu_pmix_end(p);
    while (mu_pmix_next(p, &ev))
        mu_pmix_event_free(&ev);
    if (p->left || p->broken)
        return; /* its thread lives until the process ends, and what it uses */
    /* It may wait for a thread of its own for ever; the agent cleans up after a keeper that dies here. */
    signal(SIGALRM, SIG_DFL);
    pthread_sigmask(SIG_UNBLOCK, &(sigset_t){{1ul << (SIGALRM - 1)}}, NULL);
    alarm(FINALIZE_S);
    PMIx_server_finalize();
    alarm(0);
    server = NULL;
    free(p->connected);
    close(p->efd);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

/* --- a namespace ------------------------------------------------------------------------------------------------ */

struct infos {
    pmix_info_t *v;
    size_t n, cap;
};

static void put(struct infos *in, const char *key, const void *value, pmix_data_type_t type)
{
    if (in->n < in->cap) {
        PMIX_INFO_LOAD(&in->v[in->n], key, value, type);
        in->n++;
    }
}

static uint32_t app_of(const struct mu_pmix_job *j, uint32_t rank)
{
    uint32_t end = 0;

    for (uint32_t a = 0; a < j->napps; a++)
        if (rank < (end += j->app_ranks[a]))
            return a;
    return 0;
}

static int put_rank(struct infos *in, const struct mu_pmix_job *j, uint32_t rank, uint32_t node, uint16_t local)
{
    enum { FIELDS = 7 };
    uint32_t app = app_of(j, rank);
    pmix_rank_t r = rank;
    pmix_data_array_t *da;

    PMIX_DATA_ARRAY_CREATE(da, FIELDS, PMIX_INFO);
    if (!da || !da->array)
        return MUSTER_ENOMEM;
    pmix_info_t *v = da->array;
    PMIX_INFO_LOAD(&v[0], PMIX_RANK, &r, PMIX_PROC_RANK);
    PMIX_INFO_LOAD(&v[1], PMIX_GLOBAL_RANK, &r, PMIX_PROC_RANK);
    PMIX_INFO_LOAD(&v[2], PMIX_LOCAL_RANK, &local, PMIX_UINT16);
    PMIX_INFO_LOAD(&v[3], PMIX_NODE_RANK, &local, PMIX_UINT16);
    PMIX_INFO_LOAD(&v[4], PMIX_NODEID, &node, PMIX_UINT32);
    PMIX_INFO_LOAD(&v[5], PMIX_HOSTNAME, j->nodes[node], PMIX_STRING);
    PMIX_INFO_LOAD(&v[6], PMIX_APPNUM, &app, PMIX_UINT32);
    pmix_info_t *to = &in->v[in->n++];
    snprintf(to->key, sizeof to->key, "%s", PMIX_PROC_DATA);
    to->value.type = PMIX_DATA_ARRAY;
    to->value.data.darray = da;
    return 0;
}

static int put_job(struct infos *in, const struct mu_pmix_job *j, uint32_t nranks, uint32_t first, struct mu_err *err)
{
    mu_auto_buf struct mu_buf nodes = {0}, ranks = {0}, local = {0};
    uint32_t n = j->node_ranks[j->node_id];
    pmix_rank_t leader = first;
    uint32_t zero = 0, rank = 0;
    char *node_map = NULL, *proc_map = NULL;

    for (uint32_t i = 0; i < j->nnodes; i++) {
        mu_buf_appendf(&nodes, "%s%s", i ? "," : "", j->nodes[i]);
        mu_buf_puts(&ranks, i ? ";" : "");
        for (uint32_t k = 0; k < j->node_ranks[i]; k++)
            mu_buf_appendf(&ranks, "%s%u", k ? "," : "", rank++);
    }
    for (uint32_t k = 0; k < n; k++)
        mu_buf_appendf(&local, "%s%u", k ? "," : "", first + k);
    if (nodes.failed || ranks.failed || local.failed)
        return mu_err_set(err, MUSTER_ENOMEM, "PMIx namespace: out of memory");
    if (PMIx_generate_regex(mu_buf_str(&nodes), &node_map) != PMIX_SUCCESS ||
        PMIx_generate_ppn(mu_buf_str(&ranks), &proc_map) != PMIX_SUCCESS) {
        free(node_map);
        return mu_err_set(err, MUSTER_EJOB, "PMIx cannot describe the nodes %.200s", mu_buf_str(&nodes));
    }
    put(in, PMIX_JOBID, j->nspace, PMIX_STRING);
    put(in, PMIX_NODE_MAP, node_map, PMIX_REGEX);
    put(in, PMIX_PROC_MAP, proc_map, PMIX_REGEX);
    put(in, PMIX_LOCAL_PEERS, mu_buf_str(&local), PMIX_STRING);
    put(in, PMIX_LOCALLDR, &leader, PMIX_PROC_RANK);
    put(in, PMIX_LOCAL_SIZE, &n, PMIX_UINT32);
    put(in, PMIX_NODE_SIZE, &n, PMIX_UINT32);
    put(in, PMIX_NUM_NODES, &j->nnodes, PMIX_UINT32);
    put(in, PMIX_UNIV_SIZE, &nranks, PMIX_UINT32);
    put(in, PMIX_JOB_SIZE, &nranks, PMIX_UINT32);
    put(in, PMIX_MAX_PROCS, &nranks, PMIX_UINT32);
    put(in, PMIX_JOB_NUM_APPS, &j->napps, PMIX_UINT32);
    put(in, PMIX_APPNUM, &zero, PMIX_UINT32);
    put(in, PMIX_HOSTNAME, j->nodes[j->node_id], PMIX_STRING);
    put(in, PMIX_NODEID, &j->node_id, PMIX_UINT32);
    put(in, PMIX_TMPDIR, j->session_dir, PMIX_STRING);
    put(in, PMIX_NSDIR, j->session_dir, PMIX_STRING);
    free(node_map);
    free(proc_map);
    return 0;
}

int mu_pmix_begin(struct mu_pmix *p, const struct mu_pmix_job *j, struct mu_err *err)
{
    enum { JOB_FIELDS = 24 };
    uint32_t nranks = 0, first = 0, rank = 0;
    pmix_status_t st = PMIX_SUCCESS;
    struct wait *w;
    int rc = 0;

    if (p->open)
        return mu_err_set(err, MUSTER_EARG, "the last attempt's namespace is still open");
    if (strlen(j->nspace) >= sizeof p->nspace || j->node_id >= j->nnodes)
        return mu_err_set(err, MUSTER_EARG, "unusable namespace %.100s", j->nspace);
    if (p->broken)
        return mu_err_set(err, MUSTER_EJOB, "the PMIx server does not answer any more");
    for (uint32_t i = 0; i < j->nnodes; i++) {
        if (i == j->node_id)
            first = nranks;
        nranks += j->node_ranks[i];
    }
    struct infos in = {.cap = JOB_FIELDS + (size_t)nranks};
    uint32_t *node_ranks = malloc(j->nnodes * sizeof *node_ranks);
    bool *connected = calloc(j->node_ranks[j->node_id] + 1u, sizeof *connected);
    PMIX_INFO_CREATE(in.v, in.cap);
    if (!in.v || !node_ranks || !connected) {
        free(node_ranks);
        free(connected);
        PMIX_INFO_FREE(in.v, in.cap);
        return mu_err_set(err, MUSTER_ENOMEM, "PMIx namespace: out of memory");
    }
    memcpy(node_ranks, j->node_ranks, j->nnodes * sizeof *node_ranks);
    rc = put_job(&in, j, nranks, first, err);
    for (uint32_t i = 0; i < j->nnodes && !rc; i++)
        for (uint32_t k = 0; k < j->node_ranks[i] && !rc; k++)
            rc = put_rank(&in, j, rank++, i, (uint16_t)k);
    if (rc) {
        free(node_ranks);
        goto out;
    }

    pthread_mutex_lock(&p->lock);
    memset(p->nspace, 0, sizeof p->nspace);
    memcpy(p->nspace, j->nspace, strlen(j->nspace));
    p->attempt = j->attempt;
    p->first = first;
    p->nlocal = j->node_ranks[j->node_id];
    free(p->connected);
    p->connected = MU_STEAL(connected, NULL);
    p->nconnected = 0;
    p->world = nranks;
    p->nnodes = j->nnodes;
    p->node_ranks = node_ranks;
    p->fence_seq = 0;
    p->open = true;
    pthread_mutex_unlock(&p->lock);

    w = wait_new();
    st = w ? wait_for(w, PMIx_server_register_nspace(p->nspace, (int)p->nlocal, in.v, in.n, on_done, w))
           : PMIX_ERR_NOMEM;
    for (uint32_t k = 0; k < p->nlocal && st == PMIX_SUCCESS; k++) {
        pmix_proc_t proc;

        PMIX_LOAD_PROCID(&proc, p->nspace, first + k);
        w = wait_new();
        st = w ? wait_for(w, PMIx_server_register_client(&proc, geteuid(), getegid(), NULL, on_done, w))
               : PMIX_ERR_NOMEM;
    }
    if (st != PMIX_SUCCESS) {
        mu_pmix_end(p);
        rc = mu_err_set(err, MUSTER_EJOB, "PMIx does not take the namespace %s: %s", j->nspace, PMIx_Error_string(st));
    }
out:
    free(connected);
    PMIX_INFO_FREE(in.v, in.cap);
    return rc;
}

static void fail_all(struct open *waiting)
{
    while (waiting) {
        struct open *o = waiting;

        waiting = o->next;
        o->done(PMIX_ERR_LOST_CONNECTION, NULL, 0, o->arg, NULL, NULL);
        free(o);
    }
}

/* A client that dies between its connecting and the server's answer: the library (all of 4.2, 5.0) gives its record of
 * the rank back twice, and taking the namespace down walks over it, mostly into a wait for ever. Therefore a namespace
 * that not all of its ranks have connected to stays as it is until the process ends; its name never comes again. */
void mu_pmix_end(struct mu_pmix *p)
{
    struct open *fences, *questions;
    struct wait *w;

    pthread_mutex_lock(&p->lock);
    if (!p->open) {
        pthread_mutex_unlock(&p->lock);
        return;
    }
    p->open = false;
    fences = MU_STEAL(p->fences, NULL);
    questions = MU_STEAL(p->questions, NULL);
    for (struct kind *k = MU_STEAL(p->kinds, NULL), *next; k; k = next) {
        next = k->next;
        free(k);
    }
    p->nkinds = 0;
    free(MU_STEAL(p->node_ranks, NULL));
    for (struct node **at = &p->head; *at;) {
        struct node *n = *at;

        *at = n->next;
        mu_pmix_event_free(&n->ev);
        free(n);
    }
    p->tail = &p->head;
    pthread_mutex_unlock(&p->lock);
    fail_all(fences);
    fail_all(questions);
    if (p->nconnected < p->nlocal) {
        p->left = true;
        return;
    }
    w = wait_new();
    if (w) {
        PMIx_server_deregister_nspace(p->nspace, on_done, w);
        p->broken = wait_for(w, PMIX_SUCCESS) == PMIX_ERR_TIMEOUT;
    }
}

bool mu_pmix_broken(const struct mu_pmix *p)
{
    return p->broken;
}

int mu_pmix_env(struct mu_pmix *p, uint32_t rank, char ***env, struct mu_err *err)
{
    char **v = NULL;
    pmix_proc_t proc;

    PMIX_LOAD_PROCID(&proc, p->nspace, rank);
    pmix_status_t rc = PMIx_server_setup_fork(&proc, &v);
    if (rc != PMIX_SUCCESS) {
        mu_strv_free(v);
        return mu_err_set(err, MUSTER_EJOB, "PMIx has no environment for rank %u: %s", rank, PMIx_Error_string(rc));
    }
    *env = v;
    return 0;
}

/* --- the loop's side -------------------------------------------------------------------------------------------- */

int mu_pmix_fd(const struct mu_pmix *p)
{
    return p->efd;
}

bool mu_pmix_next(struct mu_pmix *p, struct mu_pmix_event *ev)
{
    uint64_t count;

    pthread_mutex_lock(&p->lock);
    struct node *n = p->head;
    if (n) {
        p->head = n->next;
        if (!p->head)
            p->tail = &p->head;
    } else {
        while (read(p->efd, &count, sizeof count) < 0 && errno == EINTR)
            ;
    }
    pthread_mutex_unlock(&p->lock);
    if (!n)
        return false;
    *ev = n->ev;
    free(n);
    return true;
}

void mu_pmix_event_free(struct mu_pmix_event *ev)
{
    free(ev->text);
    free(ev->data);
    free(ev->among);
    memset(ev, 0, sizeof *ev);
}

static void answer(struct mu_pmix *p, struct open **list, uint32_t attempt, uint64_t seq, int status, uint8_t *data,
                   size_t len)
{
    struct open *o = NULL;

    pthread_mutex_lock(&p->lock);
    for (struct open **at = list; p->open && attempt == p->attempt && *at; at = &(*at)->next)
        if ((*at)->seq == seq) {
            o = *at;
            *at = o->next;
            break;
        }
    pthread_mutex_unlock(&p->lock);
    if (!o) {
        free(data);
        return;
    }
    if (status) {
        free(data);
        o->done(status == MUSTER_ETIMEOUT ? PMIX_ERR_TIMEOUT : PMIX_ERROR, NULL, 0, o->arg, NULL, NULL);
    } else {
        o->done(PMIX_SUCCESS, (const char *)data, len, o->arg, free, data);
    }
    free(o);
}

void mu_pmix_fence_done(struct mu_pmix *p, uint32_t attempt, uint64_t seq, int status, uint8_t *data, size_t len)
{
    answer(p, &p->fences, attempt, seq, status, data, len);
}

void mu_pmix_modex_done(struct mu_pmix *p, uint32_t attempt, uint64_t seq, int status, uint8_t *data, size_t len)
{
    answer(p, &p->questions, attempt, seq, status, data, len);
}

void mu_pmix_modex_ask(struct mu_pmix *p, uint32_t attempt, uint32_t rank, uint64_t seq, uint32_t node)
{
    struct ask *q = malloc(sizeof *q);
    pmix_proc_t proc;

    if (!q || attempt != p->attempt)
        goto out;
    *q = (struct ask){.attempt = attempt, .rank = rank, .node = node, .seq = seq};
    PMIX_LOAD_PROCID(&proc, p->nspace, rank);
    pmix_status_t rc = PMIx_server_dmodex_request(&proc, on_published, q);
    if (rc == PMIX_SUCCESS)
        return;
    struct mu_pmix_event no = {
        .kind = MU_PMIX_MODEX, .rank = rank, .status = MUSTER_EPEER, .seq = seq, .node = node, .answer = true};
    pthread_mutex_lock(&p->lock);
    if (p->open)
        push_locked(p, &no);
    pthread_mutex_unlock(&p->lock);
out:
    free(q);
}
