#include "bench/rank/ucx_wire.h"

#include <stdlib.h>
#include <string.h>

#include "bench/rank/link.h"
#include "config.h"
#include "runtime/base/clean.h"

#ifdef HAVE_UCX
#include "runtime/base/ucx.h"

#define EXACTLY UINT64_MAX /* mask of tags */
#define CLOSE_NS (5 * MU_SEC)
enum { CARD = 2048 };

struct card { /* what the others have to know of a rank */
    uint32_t length;
    char address[CARD - 4];
};

static struct {
    struct mu_ucx_api api;
    ucp_context_h context;
    ucp_worker_h worker;
    struct card *cards;
    ucp_ep_h *eps; /* NULL: not spoken to so far */
    int rank, size;
    const struct mu_room *room; /* NULL: not open */
    void **posted;
    unsigned nposted, cap;
} u;

static int failed(const char *what, ucs_status_t s, struct mu_err *err)
{
    return mu_err_set(err, MUSTER_EPEER, "UCX: %s: %s", what, u.api.ucs_status_string(s));
}

static int make_worker(struct card *card, struct mu_err *err)
{
    ucp_params_t params = {.field_mask = UCP_PARAM_FIELD_FEATURES | UCP_PARAM_FIELD_ESTIMATED_NUM_EPS,
                           .features = UCP_FEATURE_TAG,
                           .estimated_num_eps = (size_t)u.size};
    ucp_worker_params_t worker = {.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE,
                                  .thread_mode = UCS_THREAD_MODE_SINGLE};
    ucp_config_t *config;
    ucp_address_t *address;
    size_t length;
    ucs_status_t s;
    int rc = mu_ucx_load(&u.api, err);

    if (rc)
        return rc;
    if ((s = u.api.ucp_config_read(NULL, NULL, &config)) != UCS_OK)
        return failed("its settings", s, err);
    s = u.api.ucp_init_version(UCP_API_MAJOR, UCP_API_MINOR, &params, config, &u.context);
    u.api.ucp_config_release(config);
    if (s != UCS_OK)
        return failed("ucp_init", s, err);
    if ((s = u.api.ucp_worker_create(u.context, &worker, &u.worker)) != UCS_OK)
        return failed("ucp_worker_create", s, err);
    if ((s = u.api.ucp_worker_get_address(u.worker, &address, &length)) != UCS_OK)
        return failed("ucp_worker_get_address", s, err);
    if (length > sizeof card->address)
        rc = mu_err_set(err, MUSTER_ENOSYS,
                        "an address of %zu bytes is too long; name fewer devices in UCX_NET_DEVICES", length);
    else
        memcpy(card->address, address, card->length = (uint32_t)length);
    u.api.ucp_worker_release_address(u.worker, address);
    return rc;
}

/* The cards of all, at all. */
static int exchange(const struct card *mine, struct mu_err *err)
{
    mu_auto_buf struct mu_buf one = {0}, all = {0};
    size_t bytes = (size_t)u.size * sizeof *mine;

    mu_buf_append(&one, (const char *)mine, sizeof *mine);
    int rc = mu_wire_gather(&one, &all, err);
    if (!rc && !u.rank)
        memcpy(u.cards, all.data, bytes);
    return rc ? rc : mu_wire_tell(u.cards, bytes, 0, err);
}

int mu_ucx_wire_open(struct mu_room *room, struct mu_err *err)
{
    struct card mine = {0};
    struct mu_err why = {0};
    int rc;

    u.room = room;
    u.rank = room->rank;
    u.size = room->size;
    u.cards = calloc((size_t)u.size, sizeof *u.cards);
    u.eps = calloc((size_t)u.size, sizeof *u.eps);
    rc = u.cards && u.eps ? make_worker(&mine, &why) : mu_err_set(&why, MUSTER_ENOMEM, "no memory for UCX");
    rc = mu_room_agree(room, rc, "--transport ucx", &why, err);
    return rc ? rc : exchange(&mine, err);
}

/* Of one request, which it frees; in any case progress is made. */
static bool ended(void **req, ucs_status_t *s)
{
    u.api.ucp_worker_progress(u.worker);
    *s = UCS_PTR_IS_PTR(*req) ? u.api.ucp_request_check_status(*req) : UCS_PTR_RAW_STATUS(*req);
    if (*s == UCS_INPROGRESS)
        return false;
    if (UCS_PTR_IS_PTR(*req))
        u.api.ucp_request_free(*req);
    *req = NULL;
    return true;
}

static int wait_for(void **v, unsigned n, int peer, bool lazily, struct mu_err *err)
{
    struct mu_patience p = {0};
    ucs_status_t s;

    for (unsigned i = 0; i < n;) {
        if (ended(&v[i], &s)) {
            if (s != UCS_OK)
                return mu_err_set(err, MUSTER_EPEER, "rank %d: UCX has failed in a message with rank %d: %s", u.rank,
                                  peer, u.api.ucs_status_string(s));
            i++;
        } else if (!mu_wait_more(&p, lazily, u.room->shared)) {
            return mu_wait_over(u.rank, peer, err);
        }
    }
    return 0;
}

static int ep_of(int peer, ucp_ep_h *ep, struct mu_err *err)
{
    ucp_ep_params_t params = {.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS,
                              .address = (const ucp_address_t *)(const void *)u.cards[peer].address};
    ucs_status_t s = u.eps[peer] ? UCS_OK : u.api.ucp_ep_create(u.worker, &params, &u.eps[peer]);

    *ep = u.eps[peer];
    if (s == UCS_OK)
        return 0;
    return mu_err_set(err, MUSTER_EPEER, "--transport ucx: rank %d cannot reach rank %d with this UCX_TLS: %s", u.rank,
                      peer, u.api.ucs_status_string(s));
}

static int begin_send(const void *p, size_t n, int to, void **req, struct mu_err *err)
{
    ucp_request_param_t none = {0};
    ucp_ep_h ep;
    int rc = ep_of(to, &ep, err);

    if (rc)
        return rc;
    *req = u.api.ucp_tag_send_nbx(ep, p, n, (ucp_tag_t)u.rank, &none);
    return UCS_PTR_IS_ERR(*req) ? failed("ucp_tag_send", UCS_PTR_STATUS(*req), err) : 0;
}

static int begin_recv(void *p, size_t n, int from, void **req, struct mu_err *err)
{
    ucp_request_param_t none = {0};

    *req = u.api.ucp_tag_recv_nbx(u.worker, p, n, (ucp_tag_t)from, EXACTLY, &none);
    return UCS_PTR_IS_ERR(*req) ? failed("ucp_tag_recv", UCS_PTR_STATUS(*req), err) : 0;
}

static int ucx_send(const void *p, size_t n, int to, struct mu_err *err)
{
    void *req;
    int rc = begin_send(p, n, to, &req, err);

    return rc || !req ? rc : wait_for(&req, 1, to, false, err);
}

static int recv_as(void *p, size_t n, int from, bool lazily, struct mu_err *err)
{
    void *req;
    int rc = begin_recv(p, n, from, &req, err);

    return rc || !req ? rc : wait_for(&req, 1, from, lazily, err);
}

static int ucx_recv(void *p, size_t n, int from, struct mu_err *err)
{
    return recv_as(p, n, from, false, err);
}

static int ucx_recv_lazily(void *p, size_t n, int from, struct mu_err *err)
{
    return recv_as(p, n, from, true, err);
}

static int room_for(unsigned more, struct mu_err *err)
{
    if (u.nposted + more <= u.cap)
        return 0;
    void **v = realloc(u.posted, (u.nposted + more) * sizeof *v);
    if (!v)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for %u messages at a time", u.nposted + more);
    u.posted = v;
    u.cap = u.nposted + more;
    return 0;
}

static int ucx_post_sends(const void *p, size_t n, int count, const int *peers, int npeers, struct mu_err *err)
{
    int rc = room_for((unsigned)count * (unsigned)npeers, err);

    for (int k = 0; k < count && !rc; k++)
        for (int i = 0; i < npeers && !rc; i++)
            rc = begin_send(p, n, peers[i], &u.posted[u.nposted++], err);
    return rc;
}

static int ucx_post_recvs(void *p, size_t n, int count, const int *peers, int npeers, struct mu_err *err)
{
    int rc = room_for((unsigned)count * (unsigned)npeers, err);

    for (int k = 0; k < count && !rc; k++)
        for (int i = 0; i < npeers && !rc; i++)
            rc = begin_recv(p, n, peers[i], &u.posted[u.nposted++], err);
    return rc;
}

static int ucx_finish(struct mu_err *err)
{
    unsigned n = u.nposted;

    u.nposted = 0;
    return wait_for(u.posted, n, -1, false, err);
}

/* What UCX has taken may still be with it, and leaves only while it makes progress. */
static int ucx_settle(struct mu_err *err)
{
    ucp_request_param_t none = {0};
    void *req = u.api.ucp_worker_flush_nbx(u.worker, &none);

    if (UCS_PTR_IS_ERR(req))
        return failed("ucp_worker_flush", UCS_PTR_STATUS(req), err);
    return req ? wait_for(&req, 1, -1, true, err) : 0;
}

/* Connections end only where both sides see to it. */
static void close_eps(void)
{
    ucp_request_param_t none = {0};
    uint64_t until = mu_now() + CLOSE_NS;
    ucs_status_t s;

    for (int i = 0; i < u.size; i++) {
        void *req = u.eps[i] ? u.api.ucp_ep_close_nbx(u.eps[i], &none) : NULL;
        while (UCS_PTR_IS_PTR(req) && !ended(&req, &s) && mu_now() < until)
            ;
    }
}

void mu_ucx_wire_close(bool well)
{
    if (!u.room)
        return;
    if (u.eps && u.worker && well && !mu_wire_rest(NULL))
        close_eps();
    if (u.worker && well)
        u.api.ucp_worker_destroy(u.worker);
    if (u.context && well)
        u.api.ucp_cleanup(u.context);
    free(u.cards);
    free(u.eps);
    free(u.posted);
    memset(&u, 0, sizeof u);
}

const struct mu_link mu_ucx_link = {
    .name = "ucx",
    .send = ucx_send,
    .recv = ucx_recv,
    .recv_lazily = ucx_recv_lazily,
    .post_sends = ucx_post_sends,
    .post_recvs = ucx_post_recvs,
    .finish = ucx_finish,
    .settle = ucx_settle,
};

#else

const struct mu_link mu_ucx_link = {.name = "ucx"};

int mu_ucx_wire_open(struct mu_room *room, struct mu_err *err)
{
    struct mu_err why = {0};
    int rc = mu_err_set(&why, MUSTER_ENOSYS, "this muster was built without UCX (libucx-dev)");

    return mu_room_agree(room, rc, "--transport ucx", &why, err);
}

void mu_ucx_wire_close(bool well)
{
    (void)well;
}

#endif
