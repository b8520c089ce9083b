#include "runtime/wire/core.h"

#include <stdlib.h>
#include <string.h>

struct mu_act *mu_acts_add(struct mu_acts *acts, enum mu_act_kind kind)
{
    static struct mu_act scratch;

    if (acts->n == acts->cap) {
        size_t cap = acts->cap ? acts->cap * 2 : 16;
        struct mu_act *v = realloc(acts->v, cap * sizeof *v);
        if (!v) {
            acts->failed = true;
            mu_buf_free(&scratch.frame);
            free(scratch.conns);
            memset(&scratch, 0, sizeof scratch);
            return &scratch;
        }
        acts->v = v;
        acts->cap = cap;
    }
    struct mu_act *act = &acts->v[acts->n++];
    memset(act, 0, sizeof *act);
    act->kind = kind;
    return act;
}

void mu_acts_send(struct mu_acts *acts, mu_conn conn, enum mu_msg_type type, const void *body)
{
    if (!conn)
        return;
    struct mu_act *act = mu_acts_add(acts, MU_ACT_SEND);
    act->conn = conn;
    if (mu_msg_encode(&act->frame, type, body))
        acts->failed = true;
}

void mu_acts_cast(struct mu_acts *acts, const mu_conn *conns, uint32_t n, enum mu_msg_type type, const void *body)
{
    uint32_t live = 0;
    mu_conn one = 0;

    for (uint32_t i = 0; i < n; i++)
        if (conns[i]) {
            one = conns[i];
            live++;
        }
    if (live <= 1) {
        mu_acts_send(acts, one, type, body);
        return;
    }
    mu_conn *v = malloc(live * sizeof *v);
    if (!v) {
        acts->failed = true;
        return;
    }
    struct mu_act *act = mu_acts_add(acts, MU_ACT_SEND);
    act->conns = v;
    for (uint32_t i = 0; i < n; i++)
        if (conns[i])
            v[act->nconns++] = conns[i];
    if (mu_msg_encode(&act->frame, type, body))
        acts->failed = true;
}

void mu_acts_clear(struct mu_acts *acts)
{
    for (size_t i = 0; i < acts->n; i++) {
        mu_buf_free(&acts->v[i].frame);
        free(acts->v[i].conns);
    }
    acts->n = 0;
    acts->failed = false;
}

void mu_acts_free(struct mu_acts *acts)
{
    mu_acts_clear(acts);
    free(acts->v);
    memset(acts, 0, sizeof *acts);
}
