/* UCX's library comes by dlopen when it is asked for, so that one binary serves machines with and without it. It stays
 * loaded: MPI may use it, too. */
#ifndef MU_BASE_UCX_H
#define MU_BASE_UCX_H

#include <ucp/api/ucp.h>

#include "runtime/base/err.h"

#define MU_UCX_SYMBOLS(X)                                                                                              \
    X(ucp_config_read)                                                                                                 \
    X(ucp_config_release)                                                                                              \
    X(ucp_init_version)                                                                                                \
    X(ucp_cleanup)                                                                                                     \
    X(ucp_worker_create)                                                                                               \
    X(ucp_worker_destroy)                                                                                              \
    X(ucp_worker_get_address)                                                                                          \
    X(ucp_worker_release_address)                                                                                      \
    X(ucp_worker_progress)                                                                                             \
    X(ucp_worker_flush_nbx)                                                                                            \
    X(ucp_ep_create)                                                                                                   \
    X(ucp_ep_close_nbx)                                                                                                \
    X(ucp_tag_send_nbx)                                                                                                \
    X(ucp_tag_recv_nbx)                                                                                                \
    X(ucp_tag_probe_nb)                                                                                                \
    X(ucp_tag_msg_recv_nbx)                                                                                            \
    X(ucp_request_check_status)                                                                                        \
    X(ucp_request_free)                                                                                                \
    X(ucs_status_string)

#define MU_UCX_MEMBER(name) __typeof__(&name) name;
struct mu_ucx_api {
    MU_UCX_SYMBOLS(MU_UCX_MEMBER)
};
#undef MU_UCX_MEMBER

/* ENOSYS with one line, which begins with "UCX: ", when this host has no libucp, or one older than 1.13. */
int mu_ucx_load(struct mu_ucx_api *api, struct mu_err *err);

#endif
