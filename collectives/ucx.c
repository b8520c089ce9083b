#include "collectives/ucx.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "runtime/base/clock.h"

#ifdef HAVE_UCX
#include "runtime/base/ucx.h"

#define PULLED 64          /* receives at a time */
#define BELOW 64u          /* idle polls between two looks at the transport below */
#define GRACE (5 * MU_SEC) /* whoever watches over the ranks can say better why a peer is gone */
#define ANY UINT64_C(0)    /* mask of tags */
#define HELP_LEAST MU_MS
#define HELP_MOST (10 * MU_MS)
#define HELP_TURNS 64

struct peer {
    struct ucx *t;
    ucp_ep_h ep; /* NULL: not spoken to so far */
    bool gone;
    bool hole; /* a frame of it was lost on its way: data behind that would be taken for it */
};

struct flight { /* a frame that UCX still works on */
    struct mu_frame *f;
    void *req; /* NULL: it has ended */
    int peer;
};

/* UCX gets on only in its calls, also with what it says to have sent, and the program may be away for long or wait in
 * MPI for those whom that has not reached. So a thread helps while nobody polls. */
struct helper {
    pthread_mutex_t lock; /* of UCX and all here */
    pthread_cond_t wake;
    pthread_t thread;
    bool running, stop;
    unsigned long polls;
};

struct ucx {
    struct mu_transport base;
    struct helper helper;
    struct mu_transport *below;
    struct mu_ucx_api api;
    ucp_context_h context;
    ucp_worker_h worker;
    struct mu_ucx_card *cards;
    struct peer *peers;
    struct flight *out;
    unsigned nout, cap;
    struct flight in[PULLED]; /* in the order of their arrival */
    unsigned nin, idle;
    bool dirty;  /* sent since the last flush */
    void *flush; /* that goes on */
    int lost;    /* the first peer that is gone; -1 */
    uint64_t lost_at;
    ucs_status_t why;
};

static struct ucx *of(struct mu_transport *t)
{
    return (struct ucx *)t;
}

static int failed(const struct ucx *t, struct mu_err *err, const char *what, ucs_status_t s)
{
    return mu_err_set(err, MUSTER_ENOSYS, "UCX: %s: %s", what, t->api.ucs_status_string(s));
}

static void note_lost(struct peer *p, ucs_status_t why)
{
    struct ucx *t = p->t;

    p->gone = true;
    if (t->lost >= 0)
        return;
    t->lost = (int)(p - t->peers);
    t->lost_at = mu_now();
    t->why = why;
}

static void on_error(void *arg, ucp_ep_h ep, ucs_status_t status)
{
    (void)ep;
    note_lost(arg, status);
}

static void *help(void *arg)
{
    struct ucx *t = arg;
    uint64_t nap = HELP_LEAST, until;

    pthread_mutex_lock(&t->helper.lock);
    while (!t->helper.stop) {
        unsigned long seen = t->helper.polls;
        bool any = false;

        until = mu_now() + nap;
        pthread_cond_timedwait(
            &t->helper.wake, &t->helper.lock,
            &(struct timespec){.tv_sec = (time_t)(until / MU_SEC), .tv_nsec = (long)(until % MU_SEC)});
        if (seen != t->helper.polls) {
            nap = HELP_LEAST;
            continue;
        }
        for (int i = 0; i < HELP_TURNS && t->api.ucp_worker_progress(t->worker); i++)
            any = true;
        nap = any ? HELP_LEAST : 2 * nap < HELP_MOST ? 2 * nap : HELP_MOST;
    }
    pthread_mutex_unlock(&t->helper.lock);
    return NULL;
}

static bool get_help(struct ucx *t)
{
    pthread_condattr_t clock;
    pthread_attr_t attr;
    sigset_t all, old;

    pthread_mutex_init(&t->helper.lock, NULL);
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&t->helper.wake, &clock);
    pthread_condattr_destroy(&clock);
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, (size_t)1 << 20);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    t->helper.running = pthread_create(&t->helper.thread, &attr, help, t) == 0;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    return t->helper.running;
}

static void end_help(struct ucx *t)
{
    if (!t->helper.running)
        return;
    pthread_mutex_lock(&t->helper.lock);
    t->helper.stop = true;
    pthread_cond_signal(&t->helper.wake);
    pthread_mutex_unlock(&t->helper.lock);
    pthread_join(t->helper.thread, NULL);
    pthread_cond_destroy(&t->helper.wake);
    pthread_mutex_destroy(&t->helper.lock);
    t->helper.running = false;
}

static ucs_status_t connect_to(struct ucx *t, int peer)
{
    struct peer *p = &t->peers[peer];
    ucp_ep_params_t params = {
        .field_mask =
            UCP_EP_PARAM_FIELD_REMOTE_ADDRESS | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE | UCP_EP_PARAM_FIELD_ERR_HANDLER,
        .address = (const ucp_address_t *)(const void *)t->cards[peer].data,
        .err_mode = UCP_ERR_HANDLING_MODE_PEER,
        .err_handler = {.cb = on_error, .arg = p},
    };

    return p->ep ? UCS_OK : t->api.ucp_ep_create(t->worker, &params, &p->ep);
}

static bool room(struct ucx *t)
{
    unsigned cap = t->cap ? 2 * t->cap : 64;
    struct flight *out = t->nout < t->cap ? t->out : realloc(t->out, cap * sizeof *out);

    if (!out)
        return false;
    t->cap = t->nout < t->cap ? t->cap : cap;
    t->out = out;
    return true;
}

static int send_frame(struct ucx *t, int peer, struct mu_frame *f, struct mu_err *err)
{
    ucp_request_param_t none = {0};
    ucs_status_t s;
    void *req;

    if (!room(t))
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for %u sends", t->nout + 1);
    if (t->peers[peer].gone)
        return MU_SEND_DONE; /* nobody will miss it */
    s = connect_to(t, peer);
    if (s != UCS_OK)
        return mu_err_set(err, MUSTER_EPEER, "UCX: %s", t->api.ucs_status_string(s));
    req = t->api.ucp_tag_send_nbx(t->peers[peer].ep, &f->head, sizeof f->head + f->head.bytes, (ucp_tag_t)t->base.rank,
                                  &none);
    t->dirty = true;
    if (UCS_PTR_IS_ERR(req))
        note_lost(&t->peers[peer], UCS_PTR_STATUS(req));
    if (!UCS_PTR_IS_PTR(req))
        return MU_SEND_DONE;
    t->out[t->nout++] = (struct flight){f, req, peer};
    return MU_SEND_PENDING;
}

static void reap(struct ucx *t, struct mu_frames *sent)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < t->nout; i++) {
        ucs_status_t s = t->api.ucp_request_check_status(t->out[i].req);

        if (s == UCS_INPROGRESS) {
            t->out[kept++] = t->out[i];
            continue;
        }
        t->api.ucp_request_free(t->out[i].req);
        if (s != UCS_OK)
            note_lost(&t->peers[t->out[i].peer], s);
        mu_frames_push(sent, t->out[i].f);
    }
    t->nout = kept;
}

static void end_flush(struct ucx *t)
{
    if (t->flush && t->api.ucp_request_check_status(t->flush) != UCS_INPROGRESS) {
        t->api.ucp_request_free(t->flush);
        t->flush = NULL;
    }
}

/* Takes what has come, so that it is received while earlier frames are worked on. */
static int pull(struct ucx *t, struct mu_err *err)
{
    ucp_request_param_t none = {0};
    ucp_tag_recv_info_t info;
    ucp_tag_message_h m;

    while (t->nin < PULLED && (m = t->api.ucp_tag_probe_nb(t->worker, 0, ANY, 1, &info))) {
        struct flight *x = &t->in[t->nin];
        size_t head = sizeof(struct mu_frame_head);

        if (info.length < head || info.length > head + MU_CHUNK)
            return mu_err_set(err, MUSTER_EVERSION,
                              "rank %llu sent something else than a frame of this version of muster",
                              (unsigned long long)info.sender_tag);
        x->f = mu_frame_new(t->base.pool, info.length - head);
        if (!x->f)
            return mu_err_set(err, MUSTER_ENOMEM, "no memory to receive into");
        x->peer = (int)info.sender_tag;
        x->req = t->api.ucp_tag_msg_recv_nbx(t->worker, &x->f->head, info.length, m, &none);
        t->nin++;
        if (UCS_PTR_IS_ERR(x->req))
            return mu_err_set(err, MUSTER_EPEER, "UCX: a message of rank %d: %s", x->peer,
                              t->api.ucs_status_string(UCS_PTR_STATUS(x->req)));
    }
    return 0;
}

static bool in_flight(struct ucx *t, struct flight *x)
{
    ucs_status_t s = x->req ? t->api.ucp_request_check_status(x->req) : UCS_OK;

    if (s == UCS_INPROGRESS)
        return true;
    if (x->req)
        t->api.ucp_request_free(x->req);
    x->req = NULL;
    struct peer *p = &t->peers[x->peer];
    bool lost = s != UCS_OK || x->f->head.magic != MU_FRAME_MAGIC || x->f->head.bytes > x->f->room;
    if (lost) {
        p->hole = true;
        note_lost(p, s == UCS_OK ? UCS_ERR_INVALID_PARAM : s);
    }
    if (lost || (p->hole && x->f->head.type == MU_FRAME_DATA)) {
        mu_frame_free(t->base.pool, x->f);
        x->f = NULL;
    }
    return false;
}

/* The first one that has arrived and may go: data keeps the order of its sender, but not behind another one's that
 * hangs; what a rank says about failures and lateness does not wait for its data either. */
static struct mu_frame *next_frame(struct ucx *t)
{
    for (unsigned i = 0; i < t->nin; i++) {
        struct mu_frame *f;
        bool behind = false;

        if (in_flight(t, &t->in[i]))
            continue;
        f = t->in[i].f;
        for (unsigned k = 0; k < i && f && f->head.type == MU_FRAME_DATA && !behind; k++)
            behind = t->in[k].peer == t->in[i].peer;
        if (behind)
            continue;
        t->nin--;
        memmove(&t->in[i], &t->in[i + 1], (t->nin - i) * sizeof t->in[0]);
        if (f)
            return f;
        i--;
    }
    return NULL;
}

static int poll_frame(struct ucx *t, struct mu_frame **in, struct mu_frames *sent, struct mu_err *err)
{
    int rc;

    *in = NULL;
    t->helper.polls++;
    for (int i = 0; i < 4 && t->api.ucp_worker_progress(t->worker); i++)
        ;
    if (t->nout)
        reap(t, sent);
    rc = pull(t, err);
    if (rc < 0)
        return rc;
    *in = t->nin ? next_frame(t) : NULL;
    end_flush(t);
    if (t->lost >= 0 && mu_now() - t->lost_at > GRACE)
        return mu_err_set(err, MUSTER_EPEER, "UCX: rank %d is not there any more: %s", t->lost,
                          t->api.ucs_status_string(t->why));
    /* The last frames from before the change, of ranks that were slow. */
    if (!*in && t->idle++ % BELOW == 0)
        return t->below->ops->poll(t->below, in, sent, err);
    return 0;
}

static unsigned count_pending(struct ucx *t)
{
    ucp_request_param_t none = {0};

    /* What UCX has taken may still be with it. */
    if (t->dirty && !t->flush) {
        void *req = t->api.ucp_worker_flush_nbx(t->worker, &none);

        t->flush = UCS_PTR_IS_PTR(req) ? req : NULL;
        t->dirty = false;
    }
    return t->nout + (t->flush != NULL) + t->below->ops->pending(t->below);
}

static int ucx_send(struct mu_transport *base, int peer, struct mu_frame *f, struct mu_err *err)
{
    struct ucx *t = of(base);
    int rc;

    pthread_mutex_lock(&t->helper.lock);
    rc = send_frame(t, peer, f, err);
    pthread_mutex_unlock(&t->helper.lock);
    return rc;
}

static int ucx_poll(struct mu_transport *base, struct mu_frame **in, struct mu_frames *sent, struct mu_err *err)
{
    struct ucx *t = of(base);
    int rc;

    pthread_mutex_lock(&t->helper.lock);
    rc = poll_frame(t, in, sent, err);
    pthread_mutex_unlock(&t->helper.lock);
    return rc;
}

static unsigned ucx_pending(struct mu_transport *base)
{
    struct ucx *t = of(base);
    unsigned n;

    pthread_mutex_lock(&t->helper.lock);
    n = count_pending(t);
    pthread_mutex_unlock(&t->helper.lock);
    return n;
}

static void ucx_orphan(struct mu_transport *base, const struct muster_request *owner)
{
    struct ucx *t = of(base);

    for (unsigned i = 0; i < t->nout; i++)
        if (t->out[i].f->owner == owner)
            t->out[i].f->owner = NULL;
    t->below->ops->orphan(t->below, owner);
}

/* Waits for the end of what closing has begun. */
static bool closed(struct ucx *t, void *req, uint64_t deadline)
{
    if (!UCS_PTR_IS_PTR(req))
        return true;
    while (t->api.ucp_request_check_status(req) == UCS_INPROGRESS) {
        t->api.ucp_worker_progress(t->worker);
        if (mu_now() > deadline)
            return false;
    }
    t->api.ucp_request_free(req);
    return true;
}

void mu_ucx_drop(struct mu_transport *base)
{
    struct ucx *t = of(base);

    end_help(t);
    if (t->worker)
        t->api.ucp_worker_destroy(t->worker);
    if (t->context)
        t->api.ucp_cleanup(t->context);
    free(t->cards);
    free(t->peers);
    free(t->out);
    free(t);
}

static int ucx_close(struct mu_transport *base, uint64_t deadline, struct mu_err *err)
{
    struct ucx *t = of(base);
    struct mu_transport *below = t->below;
    struct mu_frames sent = {0};
    ucp_request_param_t flush = {0};

    end_help(t);
    while (count_pending(t) > below->ops->pending(below) && mu_now() < deadline) {
        t->api.ucp_worker_progress(t->worker);
        reap(t, &sent);
        end_flush(t);
    }
    mu_frames_clear(&sent, base->pool);
    if (t->nout) /* UCX may still use the frames: all stays */
        return mu_err_set(err, MUSTER_ETIMEOUT, "%u messages could not be delivered", t->nout);
    for (int r = 0; r < base->size; r++) {
        struct peer *p = &t->peers[r];

        if (p->ep && !closed(t, t->api.ucp_ep_close_nbx(p->ep, &flush), deadline))
            return mu_err_set(err, MUSTER_ETIMEOUT, "the connection to rank %d could not be closed", r);
    }
    while (t->nin)
        mu_frame_free(base->pool, t->in[--t->nin].f);
    mu_ucx_drop(base);
    return below->ops->close(below, deadline, err);
}

static const struct mu_transport_ops ucx_ops = {
    .name = "ucx",
    .send = ucx_send,
    .poll = ucx_poll,
    .pending = ucx_pending,
    .orphan = ucx_orphan,
    .close = ucx_close,
};

static int bring_up(struct ucx *t, struct mu_ucx_card *card, struct mu_err *err)
{
    ucp_params_t params = {.field_mask = UCP_PARAM_FIELD_FEATURES | UCP_PARAM_FIELD_ESTIMATED_NUM_EPS,
                           .features = UCP_FEATURE_TAG,
                           .estimated_num_eps = (size_t)t->base.size};
    ucp_worker_params_t worker = {.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE,
                                  .thread_mode = UCS_THREAD_MODE_SERIALIZED};
    ucp_config_t *config;
    ucp_address_t *address;
    size_t length;
    ucs_status_t s;
    int rc = mu_ucx_load(&t->api, err);

    if (rc < 0)
        return rc;
    s = t->api.ucp_config_read(NULL, NULL, &config);
    if (s != UCS_OK)
        return failed(t, err, "its settings", s);
    s = t->api.ucp_init_version(UCP_API_MAJOR, UCP_API_MINOR, &params, config, &t->context);
    t->api.ucp_config_release(config);
    if (s != UCS_OK)
        return failed(t, err, "ucp_init", s);
    s = t->api.ucp_worker_create(t->context, &worker, &t->worker);
    if (s != UCS_OK)
        return failed(t, err, "ucp_worker_create", s);
    s = t->api.ucp_worker_get_address(t->worker, &address, &length);
    if (s != UCS_OK)
        return failed(t, err, "ucp_worker_get_address", s);
    if (length <= sizeof card->data) {
        card->length = (uint32_t)length;
        memcpy(card->data, address, length);
    } else {
        rc = mu_err_set(err, MUSTER_ENOSYS,
                        "UCX: an address of %zu bytes is too long; name fewer devices in UCX_NET_DEVICES", length);
    }
    t->api.ucp_worker_release_address(t->worker, address);
    return rc;
}

static int make(struct mu_transport *below, struct mu_ucx_card *card, struct mu_transport **out, struct mu_err *err)
{
    struct ucx *t = calloc(1, sizeof *t);
    int rc;

    if (!t)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for the transport");
    t->base = (struct mu_transport){.ops = &ucx_ops, .pool = below->pool, .rank = below->rank, .size = below->size};
    t->below = below;
    t->lost = -1;
    t->peers = calloc((size_t)below->size, sizeof *t->peers);
    rc = t->peers ? bring_up(t, card, err) : mu_err_set(err, MUSTER_ENOMEM, "no memory for the transport");
    if (rc == 0 && !get_help(t))
        rc = mu_err_set(err, MUSTER_ENOSYS, "UCX: no thread could be started");
    if (rc < 0) {
        card->length = 0;
        mu_ucx_drop(&t->base);
        return rc;
    }
    for (int r = 0; r < below->size; r++)
        t->peers[r].t = t;
    *out = &t->base;
    return 0;
}

void mu_ucx_join(struct mu_transport *base, struct mu_ucx_card *cards)
{
    of(base)->cards = cards;
}

#else

static int make(struct mu_transport *below, struct mu_ucx_card *card, struct mu_transport **out, struct mu_err *err)
{
    (void)below;
    (void)card;
    (void)out;
    return mu_err_set(err, MUSTER_ENOSYS, "this muster was built without UCX (libucx-dev)");
}

void mu_ucx_join(struct mu_transport *base, struct mu_ucx_card *cards)
{
    (void)base;
    free(cards);
}

void mu_ucx_drop(struct mu_transport *base)
{
    (void)base;
}

#endif

int mu_ucx_open(struct mu_transport *below, struct mu_ucx_card *card, struct mu_transport **out, struct mu_err *err)
{
    int rc;

    memset(card, 0, sizeof *card);
    rc = make(below, card, out, err);
    if (rc < 0)
        memcpy(card->data, err->text, strnlen(err->text, sizeof card->data - 1));
    return rc;
}
