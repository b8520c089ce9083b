/* Where jobs fit: a pool of nodes, hosts that a job brings, spares. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/core/pool.h"
#include "tests/unit/tap.h"

enum { MINE = 7 };

static struct mu_pool pool;
static char by_node[] = "node";

static void node(const char *name, uint32_t slots, uint32_t used, uint64_t owner)
{
    int i = mu_pool_add(&pool, name);

    pool.v[i].slots = slots;
    pool.v[i].used = used;
    pool.v[i].state = MU_NODE_UP;
    pool.v[i].ready = true;
    pool.v[i].owner = owner;
}

/* "n0:2 n1:1 +n2" or why not. */
static const char *fit(struct mu_m_spec spec, enum mu_fit *how)
{
    static char out[512];
    struct mu_share *v = NULL;
    unsigned n = 0, spares = 0;
    size_t len = 0;

    *how = mu_pool_fit(&pool, MINE, &spec, &v, &n, &spares, out, sizeof out);
    if (*how == MU_FIT_YES)
        out[0] = 0;
    for (unsigned i = 0; *how == MU_FIT_YES && i < n + spares; i++)
        len += (size_t)(i < n ? snprintf(out + len, sizeof out - len, "%s%s:%u", i ? " " : "", pool.v[v[i].node].name,
                                         v[i].ranks)
                              : snprintf(out + len, sizeof out - len, " +%s/%u", pool.v[v[i].node].name, v[i].slots));
    free(v);
    return out;
}

/* GPUs, memory and labels: n0 has 2 GPUs and 8 GiB, n2 has 4 and 16, is fast and on rack 3. */
static void test_needs(void)
{
#define GIB (1ull << 30)
    static char fast[] = "fast", rack[] = "rack3", rac[] = "rac", none[] = "none";
    static const struct {
        struct mu_m_spec spec;
        enum mu_fit how;
        const char *want;
    } rows[] = {
        {{.ranks = 2, .gpus = 1}, MU_FIT_YES, "n0:2"},
        {{.ranks = 4, .gpus = 1}, MU_FIT_YES, "n0:2 n2:2"},
        {{.ranks = 4, .gpus = 1, .nodes = 1}, MU_FIT_YES, "n2:4"},
        {{.ranks = 6, .gpus = 1}, MU_FIT_YES, "n0:2 n2:4"},
        {{.ranks = 7, .gpus = 1}, MU_FIT_NEVER, "7 ranks with 1 GPU each do not fit: 3 nodes, with at most 4 GPUs"},
        {{.ranks = 1, .gpus = 5}, MU_FIT_NEVER, "1 ranks with 5 GPUs each do not fit"},
        {{.ranks = 3, .memory = 4 * GIB}, MU_FIT_YES, "n0:2 n2:1"},
        {{.ranks = 4, .memory = 4 * GIB}, MU_FIT_YES, "n0:2 n2:2"},
        {{.ranks = 5, .memory = 5 * GIB}, MU_FIT_NEVER, "5 ranks with 5 GiB each do not fit"},
        {{.ranks = 1, .memory = 17 * GIB}, MU_FIT_NEVER, "1 ranks with 17 GiB each do not fit: 3 nodes"},
        {{.ranks = 2, .label = fast}, MU_FIT_YES, "n2:2"},
        {{.ranks = 2, .label = rack}, MU_FIT_YES, "n2:2"},
        {{.ranks = 5, .label = rack}, MU_FIT_NEVER, "5 ranks on nodes with label rack3 do not fit: 1 node,"},
        {{.ranks = 1, .label = rac}, MU_FIT_NEVER, "no node has label rac;"},
        {{.ranks = 1, .label = none}, MU_FIT_NEVER, "no node has label none; `muster nodes` shows labels"},
        {{.ranks = 1, .gpus = 2, .spares = 1}, MU_FIT_YES, "n0:1 +n2/1"},
    };
    enum mu_fit how;

    pool.v[0].gpus = 2;
    pool.v[0].memory = 8 * GIB;
    pool.v[3].gpus = 4;
    pool.v[3].memory = 16 * GIB;
    snprintf(pool.v[3].labels, sizeof pool.v[3].labels, "fast,rack3");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const char *got = fit(rows[i].spec, &how);
        TAP_OK(how == rows[i].how && !strncmp(got, rows[i].want, strlen(rows[i].want)), "%u ranks: %s",
               rows[i].spec.ranks, got);
    }
    struct mu_m_spec spec = {.ranks = 2, .gpus = 1, .memory = 3 * GIB};
    struct mu_share v[2] = {{.node = 0, .ranks = 2, .slots = 2}, {.node = 3, .slots = 2}};
    mu_pool_take(&pool, &spec, v, 2);
    TAP_OK(pool.v[0].gpus_used == 2 && pool.v[3].gpus_used == 2 && pool.v[0].memory_used == 6 * GIB,
           "what ranks and spares need is taken");
    TAP_OK(!strcmp(fit((struct mu_m_spec){.ranks = 2, .gpus = 1}, &how), "n2:2"), "and not given again");
    fit((struct mu_m_spec){.ranks = 3, .gpus = 1}, &how);
    TAP_OK(how == MU_FIT_LATER, "more of it is waited for");
    TAP_OK(!strncmp(fit((struct mu_m_spec){.ranks = 1, .memory = 11 * GIB}, &how),
                    "waiting for 1 slots with 11 GiB each", 33),
           "memory, too");
    mu_pool_give(&pool, &spec, v, 2);
    TAP_OK(!pool.v[0].gpus_used && !pool.v[3].gpus_used && !pool.v[3].memory_used, "and is given back");
}

int main(void)
{
    static const struct {
        struct mu_m_spec spec;
        const char *hosts;
        enum mu_fit how;
        const char *want;
    } rows[] = {
        /* the pool: n0 4 slots, n1 2 (1 used), n2 4, other's 8, mine 4 and 2 */
        {{.ranks = 4}, NULL, MU_FIT_YES, "n0:4"},
        {{.ranks = 6}, NULL, MU_FIT_YES, "n0:4 n1:1 n2:1"},
        {{.ranks = 10}, NULL, MU_FIT_LATER, "waiting for 10 slots, 9 of 10 are free"},
        {{.ranks = 11}, NULL, MU_FIT_NEVER, "11 ranks asked for, the pool has 10 slots"},
        {{.ranks = 4, .nodes = 2}, NULL, MU_FIT_YES, "n0:2 n2:2"},
        {{.ranks = 3, .ppn = 1}, NULL, MU_FIT_YES, "n0:1 n1:1 n2:1"},
        {{.ranks = 4, .nodes = 4}, NULL, MU_FIT_NEVER, "4 nodes asked for, the pool has 3"},
        {{.ranks = 2, .nodes = 3}, NULL, MU_FIT_NEVER, "3 nodes asked for, but only 2 ranks"},
        {{.ranks = 8, .oversubscribe = 1}, NULL, MU_FIT_YES, "n0:8"},
        {{.ranks = 4, .spares = 1}, NULL, MU_FIT_YES, "n0:4 +n2/4"},
        {{.ranks = 2, .spares = 1}, NULL, MU_FIT_YES, "n0:2 +n2/2"},
        {{.ranks = 4, .spares = 2}, NULL, MU_FIT_NEVER, "2 spare nodes asked for"},
        {{.ranks = 6, .spares = 1}, NULL, MU_FIT_LATER, "waiting for"},
        /* hosts of its own, in its order, with the slots that it states */
        {{.ranks = 2}, "m1:2,m0:4", MU_FIT_YES, "m1:2"},
        {{.ranks = 6}, "m1:2,me@m0:4", MU_FIT_YES, "m1:2 m0:4"},
        {{.ranks = 4, .oversubscribe = 1}, "m1:2,m0:2", MU_FIT_YES, "m1:2 m0:2"},
        {{.ranks = 8, .oversubscribe = 1}, "m1:2,m0:2", MU_FIT_YES, "m1:4 m0:4"},
        {{.ranks = 8}, "m1:2,m0:2", MU_FIT_NEVER, "8 ranks do not fit the hosts given"},
        {{.ranks = 2, .spares = 1}, "m1:2,m0:4", MU_FIT_YES, "m1:2 +m0/2"},
        {{.ranks = 2, .nodes = 2}, "m1:2,theirs:8", MU_FIT_NEVER, "2 nodes asked for"},
        {{.ranks = 4}, "n2:4,m0:4", MU_FIT_YES, "n2:4"},
        {{.ranks = 6}, "n2:6", MU_FIT_YES, "n2:6"},
        {{.ranks = 2}, "n1:2", MU_FIT_LATER, "waiting for"},
        /* evenly over the nodes */
        {{.ranks = 5, .map = by_node}, NULL, MU_FIT_YES, "n0:2 n1:1 n2:2"},
        {{.ranks = 2, .map = by_node}, NULL, MU_FIT_YES, "n0:1 n1:1"},
        {{.ranks = 8, .map = by_node}, NULL, MU_FIT_YES, "n0:4 n1:1 n2:3"},
        {{.ranks = 10, .map = by_node}, NULL, MU_FIT_LATER, "waiting for 10 slots"},
        {{.ranks = 11, .map = by_node}, NULL, MU_FIT_NEVER, "11 ranks asked for"},
        {{.ranks = 4, .map = by_node, .nodes = 2}, NULL, MU_FIT_YES, "n0:2 n2:2"},
        {{.ranks = 4, .map = by_node, .ppn = 1}, NULL, MU_FIT_NEVER, "4 ranks at 1 a node"},
        {{.ranks = 4, .map = by_node}, "m0:4,m1:2", MU_FIT_YES, "m0:2 m1:2"},
    };
    enum mu_fit how;

    node("n0", 4, 0, 0);
    node("n1", 2, 1, 0);
    node("theirs", 8, 0, 5);
    node("n2", 4, 0, 0);
    node("m0", 4, 0, MINE);
    node("m1", 2, 0, MINE);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct mu_m_spec spec = rows[i].spec;
        spec.hosts = (char *)(uintptr_t)rows[i].hosts;
        const char *got = fit(spec, &how);
        TAP_OK(how == rows[i].how && !strncmp(got, rows[i].want, strlen(rows[i].want)),
               "%u ranks, %u nodes, %u spares on %s: %s", spec.ranks, spec.nodes, spec.spares,
               rows[i].hosts ? rows[i].hosts : "the pool", got);
    }

    test_needs();
    pool.v[0].quarantine_until = 1;
    TAP_OK(!strcmp(fit((struct mu_m_spec){.ranks = 4}, &how), "n1:1 n2:3"), "nothing on a node in quarantine");
    fit((struct mu_m_spec){.ranks = 11}, &how);
    TAP_OK(how == MU_FIT_NEVER, "too large for the whole pool is too large");
    pool.v[0].quarantine_until = 0;
    pool.v[0].drained = true;
    TAP_OK(!strcmp(fit((struct mu_m_spec){.ranks = 4}, &how), "n1:1 n2:3"), "nor on one that is drained");
    TAP_OK(!strncmp(fit((struct mu_m_spec){.ranks = 10}, &how), "waiting for nodes that are drained", 34) &&
               how == MU_FIT_LATER,
           "for it a job waits that does not fit without it");
    pool.v[0].drained = false;
    pool.v[0].stale = true;
    TAP_OK(!strcmp(fit((struct mu_m_spec){.ranks = 4}, &how), "n1:1 n2:3"), "nor where something old still ends");
    TAP_OK(mu_pool_slots(&pool) == 10 && mu_pool_free_slots(&pool) == 5, "its slots count, but are not free");
    fit((struct mu_m_spec){.ranks = 10}, &how);
    TAP_OK(how == MU_FIT_LATER, "so a job that needs them waits");
    mu_pool_remove(&pool, 1);
    TAP_OK(mu_pool_find(&pool, "n1") < 0 && mu_pool_add(&pool, "new") == 1,
           "the place of a removed node is used again");
    mu_pool_free(&pool);
    return tap_done();
}
