#include "runtime/wire/gather.h"

#include <stdlib.h>
#include <string.h>

/* Bytes of the i-th node of a message. */
static uint32_t len_of(const struct mu_m_fence *m, uint32_t i)
{
    return m->lens.n ? m->lens.v[i] : m->data.len;
}

bool mu_gather_sound(const struct mu_m_fence *m, uint32_t nnodes)
{
    uint64_t sum = 0;

    if (!m->nodes.n || (m->lens.n ? m->lens.n != m->nodes.n : m->nodes.n != 1))
        return false;
    for (uint32_t i = 0; i < m->nodes.n; i++) {
        if (m->nodes.v[i] >= nnodes)
            return false;
        sum += len_of(m, i);
    }
    return sum == m->data.len;
}

int mu_gather_init(struct mu_gather *g, uint32_t nnodes, const struct mu_u32v *among)
{
    struct mu_gather_piece *of = calloc(nnodes ? nnodes : 1, sizeof *of);
    uint32_t missing = 0;

    if (!of)
        return MUSTER_ENOMEM;
    for (uint32_t i = 0; i < (among->n ? among->n : nnodes); i++) {
        uint32_t node = among->n ? among->v[i] : i;

        if (node >= nnodes) {
            free(of);
            return MUSTER_EARG;
        }
        missing += !of[node].wanted;
        of[node].wanted = true;
    }
    *g = (struct mu_gather){.of = of, .nnodes = nnodes, .missing = missing};
    return 0;
}

void mu_gather_free(struct mu_gather *g)
{
    for (uint32_t i = 0; i < g->nnodes; i++)
        free(g->of[i].data);
    free(g->of);
    *g = (struct mu_gather){0};
}

int mu_gather_add(struct mu_gather *g, const struct mu_m_fence *m)
{
    const uint8_t *at = m->data.data;

    for (uint32_t i = 0; i < m->nodes.n; i++)
        if (!g->of[m->nodes.v[i]].wanted)
            return MUSTER_EARG;
    for (uint32_t i = 0; i < m->nodes.n; i++) {
        struct mu_gather_piece *p = &g->of[m->nodes.v[i]];
        uint32_t len = len_of(m, i);

        if (!p->have) {
            p->data = malloc(len ? len : 1);
            if (!p->data)
                return MUSTER_ENOMEM;
            if (len)
                memcpy(p->data, at, len);
            p->len = len;
            p->have = true;
            g->missing--;
            g->bytes += len;
        }
        at = len ? at + len : at;
    }
    return 0;
}

uint64_t mu_gather_news(const struct mu_gather *g, const struct mu_m_fence *m)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < m->nodes.n; i++)
        if (!g->of[m->nodes.v[i]].have)
            sum += len_of(m, i);
    return sum;
}

int mu_gather_data(const struct mu_gather *g, struct mu_bytes *out)
{
    uint8_t *data = g->bytes <= UINT32_MAX ? malloc(g->bytes ? g->bytes : 1) : NULL;
    size_t at = 0;

    if (!data)
        return MUSTER_ENOMEM;
    for (uint32_t i = 0; i < g->nnodes; i++) {
        if (g->of[i].len)
            memcpy(data + at, g->of[i].data, g->of[i].len);
        at += g->of[i].len;
    }
    *out = (struct mu_bytes){.data = data, .len = (uint32_t)g->bytes};
    return 0;
}

int mu_gather_message(const struct mu_gather *g, struct mu_m_fence *out)
{
    uint32_t *nodes = malloc((g->nnodes + 1u) * sizeof *nodes), *lens = malloc((g->nnodes + 1u) * sizeof *lens), n = 0;
    struct mu_bytes data;

    if (!nodes || !lens || mu_gather_data(g, &data)) {
        free(nodes);
        free(lens);
        return MUSTER_ENOMEM;
    }
    for (uint32_t i = 0; i < g->nnodes; i++)
        if (g->of[i].have) {
            nodes[n] = i;
            lens[n++] = g->of[i].len;
        }
    out->nodes = (struct mu_u32v){.v = nodes, .n = n};
    out->lens = (struct mu_u32v){.v = lens, .n = n};
    out->data = data;
    return 0;
}
