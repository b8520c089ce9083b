/* What a keeper does for its ranks' PMIx among several nodes: questions and answers, and the word of a failure
 * elsewhere. Fences are in launcher_fences.c. */
#include "runtime/keeper/core_wireup.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/keeper/core.h"
#include "tests/unit/tap.h"

static char said_[2000];

/* What came of a step, as text: > to the agent, ! to PMIx. */
static bool said(struct mu_acts *acts, const char *want)
{
    said_[0] = 0;
    for (size_t i = 0; i < acts->n; i++) {
        MU_AUTO_MSG struct mu_msg m = {0};
        size_t n = strlen(said_);
        char way = acts->v[i].kind == MU_ACT_SEND ? '>' : '!';

        if (acts->v[i].kind == MU_ACT_ABORT) {
            snprintf(said_ + n, sizeof said_ - n, "abort: rank %d on %s, 0x%x ", acts->v[i].rank, acts->v[i].node,
                     (unsigned)acts->v[i].status);
            continue;
        }
        if (mu_msg_decode(acts->v[i].frame.data, acts->v[i].frame.len, &m, NULL))
            continue;
        if (m.type == MU_MSG_modex && !m.modex.answer)
            snprintf(said_ + n, sizeof said_ - n, "%c%u to %u: %llu rank %u? ", way, m.modex.from, m.modex.to,
                     (unsigned long long)m.modex.id, m.modex.rank);
        else if (m.type == MU_MSG_modex)
            snprintf(said_ + n, sizeof said_ - n, "%c%u to %u: %llu is %s %.*s ", way, m.modex.from, m.modex.to,
                     (unsigned long long)m.modex.id, m.modex.status ? muster_strerror(m.modex.status) : "ok",
                     (int)m.modex.data.len, (const char *)m.modex.data.data);
        else if (m.type == MU_MSG_fenced)
            snprintf(said_ + n, sizeof said_ - n, "%cfenced %llu %.*s ", way, (unsigned long long)m.fenced.seq,
                     (int)m.fenced.data.len, (const char *)m.fenced.data.data);
    }
    mu_acts_clear(acts);
    bool same = !strcmp(said_, want);
    if (!same)
        printf("# said: %s\n# want: %s\n", said_, want);
    return same;
}

static struct mu_m_modex question(uint32_t from, uint32_t to, uint64_t id, uint32_t rank)
{
    return (struct mu_m_modex){.job = 7, .attempt = 2, .from = from, .to = to, .id = id, .rank = rank};
}

static struct mu_m_modex answer(uint32_t from, uint32_t to, uint64_t id, const char *text)
{
    return (struct mu_m_modex){.job = 7,
                               .attempt = 2,
                               .from = from,
                               .to = to,
                               .id = id,
                               .answer = 1,
                               .data = {.data = (uint8_t *)(uintptr_t)text, .len = (uint32_t)strlen(text)}};
}

static void hear(struct mu_wireup *w, const struct mu_wireup_at *at, struct mu_m_modex m)
{
    mu_wireup_msg(w, at, &(struct mu_msg){.type = MU_MSG_modex, .modex = m});
}

static void questions(void)
{
    uint32_t ranks[] = {2, 2, 1};
    struct mu_m_start start = {.job = 7, .attempt = 2, .node_id = 1, .node_ranks = {.v = ranks, .n = 3}};
    struct mu_acts acts = {0};
    struct mu_wireup_at at = {.acts = &acts, .now = MU_SEC, .phase = MU_PHASE_RUNNING, .up = true};
    struct mu_wireup *w = mu_wireup_new(1);
    struct mu_m_modex m;
    char want[200];

    mu_wireup_begin(w, &start);
    m = question(0, 0, 5, 4);
    mu_wireup_modex(w, &at, &m);
    TAP_OK(said(&acts, ">1 to 2: 5 rank 4? "), "what PMIx wants of rank 4 goes to the node that has it");
    m = question(0, 0, 6, 3);
    mu_wireup_modex(w, &at, &m);
    m = question(0, 0, 7, 5);
    mu_wireup_modex(w, &at, &m);
    snprintf(want, sizeof want, "!1 to 1: 6 is %s  !1 to 3: 7 is %s  ", muster_strerror(MUSTER_EARG),
             muster_strerror(MUSTER_EARG));
    TAP_OK(said(&acts, want), "of a rank that is here, or nowhere: refused at once");
    hear(w, &at, answer(0, 1, 5, "x"));
    hear(w, &at, answer(2, 1, 9, "x"));
    TAP_OK(said(&acts, ""), "an answer of another node, or to another question, is none");
    hear(w, &at, answer(2, 1, 5, "data"));
    TAP_OK(said(&acts, "!2 to 1: 5 is ok data "), "the answer goes to PMIx");
    hear(w, &at, answer(2, 1, 5, "data"));
    TAP_OK(said(&acts, "") && mu_wireup_next(w) == UINT64_MAX, "once");

    m = question(0, 0, 8, 0);
    mu_wireup_modex(w, &at, &m);
    mu_acts_clear(&acts);
    TAP_OK(mu_wireup_next(w) == at.now + MU_MODEX_REPEAT_S * MU_SEC, "a question is asked again later");
    at.now = mu_wireup_next(w);
    mu_wireup_time(w, &at);
    TAP_OK(said(&acts, ">1 to 0: 8 rank 0? "), "for the answer may have been lost");
    mu_wireup_up(w, &at);
    TAP_OK(said(&acts, ">1 to 0: 8 rank 0? "), "and when the agent is there again");
    mu_wireup_msg(w, &at,
                  &(struct mu_msg){.type = MU_MSG_fence, .fence = {.job = 7, .attempt = 2, .seq = MU_FENCE_ALL}});
    TAP_OK(said(&acts, ">1 to 0: 8 rank 0? "), "or the controller");
    at.up = false;
    for (at.now += MU_SEC; mu_wireup_next(w) != UINT64_MAX && at.now < 1000 * MU_SEC; at.now = mu_wireup_next(w))
        mu_wireup_time(w, &at);
    snprintf(want, sizeof want, "!1 to 0: 8 is %s  ", muster_strerror(MUSTER_ETIMEOUT));
    TAP_OK(said(&acts, want), "nobody waits for ever");
    at.up = true;
    at.now = MU_SEC;

    hear(w, &at, question(0, 1, 1, 2));
    hear(w, &at, question(2, 1, 1, 3));
    hear(w, &at, question(0, 1, 1, 2));
    TAP_OK(said(&acts, "!0 to 1: 1 rank 2? !2 to 1: 1 rank 3? "),
           "questions of others go to PMIx, repeated ones do not");
    m = answer(0, 2, 1, "of 3");
    mu_wireup_modex(w, &at, &m);
    mu_wireup_modex(w, &at, &m);
    m = answer(0, 0, 1, "of 2");
    mu_wireup_modex(w, &at, &m);
    TAP_OK(said(&acts, ">1 to 2: 1 is ok of 3 >1 to 0: 1 is ok of 2 "), "its answers to who asked");
    hear(w, &at, question(0, 1, 2, 4));
    at.phase = MU_PHASE_GONE;
    hear(w, &at, question(0, 1, 3, 2));
    hear(w, &at, question(0, 2, 3, 2));
    snprintf(want, sizeof want, ">1 to 0: 2 is %s  >1 to 0: 3 is %s  ", muster_strerror(MUSTER_EARG),
             muster_strerror(MUSTER_EPEER));
    TAP_OK(said(&acts, want), "a rank that is not here, or not any more: the answer comes at once");
    at.phase = MU_PHASE_RUNNING;
    for (uint64_t id = 0; id < MU_MODEX_OPEN; id++) {
        hear(w, &at, question(0, 1, 100 + id, 2));
        m = question(0, 0, 100 + id, 0);
        mu_wireup_modex(w, &at, &m);
    }
    mu_acts_clear(&acts);
    hear(w, &at, question(0, 1, 99, 2));
    m = question(0, 0, 99, 0);
    mu_wireup_modex(w, &at, &m);
    snprintf(want, sizeof want, ">1 to 0: 99 is %s  !1 to 0: 99 is %s  ", muster_strerror(MUSTER_ENOMEM),
             muster_strerror(MUSTER_ENOMEM));
    TAP_OK(said(&acts, want), "their number has an end");
    start.attempt = 3;
    mu_wireup_begin(w, &start);
    m = answer(0, 0, 100, "late");
    mu_wireup_modex(w, &at, &m);
    hear(w, &at, answer(0, 1, 100, "late"));
    TAP_OK(said(&acts, "") && mu_wireup_next(w) == UINT64_MAX, "another attempt: all is forgotten");
    mu_acts_free(&acts);
    mu_wireup_free(w);
}

static void alone(void)
{
    uint32_t one[] = {4}, two[] = {2, 2};
    struct mu_acts acts = {0};
    struct mu_wireup_at at = {.acts = &acts, .phase = MU_PHASE_RUNNING, .up = true};
    struct mu_m_fence fence = {.attempt = 1, .seq = 3, .data = {.data = (uint8_t[]){'d'}, .len = 1}};
    struct mu_wireup *w = mu_wireup_new(1);

    mu_wireup_begin(w, &(struct mu_m_start){.job = 7, .attempt = 1, .node_ranks = {.v = one, .n = 1}});
    mu_wireup_fence(w, &at, &fence);
    TAP_OK(said(&acts, "!fenced 3 d "), "the fence of one node is its own answer");
    mu_wireup_begin(w, &(struct mu_m_start){.job = 7, .attempt = 1, .node_id = 1, .node_ranks = {.v = two, .n = 2}});
    fence.among = (struct mu_u32v){.v = (uint32_t[]){1}, .n = 1};
    mu_wireup_fence(w, &at, &fence);
    TAP_OK(said(&acts, "!fenced 3 d "), "so is that of ranks that are all here");
    fence.attempt = 2;
    mu_wireup_fence(w, &at, &fence);
    TAP_OK(said(&acts, ""), "another attempt's is nobody's");
    mu_acts_free(&acts);
    mu_wireup_free(w);
}

/* --- a failure elsewhere ------------------------------------------------------------------------------------------ */

static struct mu_acts acts;

static void step(struct mu_keeper *k, struct mu_ev ev)
{
    ev.now = MU_SEC;
    mu_keeper_step(k, &ev, &acts);
}

static struct mu_keeper *started(void)
{
    static char prog[] = "prog", *argv[] = {prog, NULL}, a[] = "node-a", b[] = "node-b", *nodes[] = {a, b, NULL};
    uint32_t one[] = {1}, four[] = {4}, two[] = {2, 2};
    struct mu_m_spec spec = {.ranks = 4,
                             .app_ranks = {.v = four, .n = 1},
                             .app_argc = {.v = one, .n = 1},
                             .argv = argv,
                             .on_failure = MU_FAIL_KEEP};
    struct mu_msg m = {
        .type = MU_MSG_start,
        .start = {.job = 7, .attempt = 2, .node_id = 1, .nodes = nodes, .node_ranks = {.v = two, .n = 2}}};
    static const char name[] = "node-b";
    struct mu_keeper *k = mu_keeper_new(&(struct mu_keeper_config){.job = 7, .node = name});

    mu_msg_pack(&m.start.spec, MU_MSG_spec, &spec);
    step(k, (struct mu_ev){.kind = MU_EV_UP, .conn = MU_KEEPER_AGENT});
    step(k, (struct mu_ev){.kind = MU_EV_MSG, .conn = MU_KEEPER_AGENT, .msg = &m});
    free(m.start.spec.data);
    mu_acts_clear(&acts);
    return k;
}

static void failure(void)
{
    char a[] = "node-a";
    struct mu_msg word = {.type = MU_MSG_abort,
                          .abort = {.job = 7, .attempt = 2, .rank = 1, .status = SIGKILL, .node = a}};
    struct mu_keeper *k = started();

    step(k, (struct mu_ev){.kind = MU_EV_MSG, .conn = MU_KEEPER_AGENT, .msg = &word});
    TAP_OK(said(&acts, "") && !mu_keeper_report(k)->aborted, "the word of a failure elsewhere waits for the ranks");
    step(k, (struct mu_ev){.kind = MU_EV_SPAWNED, .attempt = 2});
    TAP_OK(said(&acts, "abort: rank 1 on node-a, 0x9 ") && mu_keeper_report(k)->aborted, "they are told when they run");
    step(k, (struct mu_ev){.kind = MU_EV_MSG, .conn = MU_KEEPER_AGENT, .msg = &word});
    TAP_OK(said(&acts, ""), "once");
    step(k, (struct mu_ev){.kind = MU_EV_CHILD, .attempt = 2, .index = 0, .status = 1 << 8, .blame = MU_BLAME_PEER});
    TAP_OK(mu_keeper_report(k)->first_rank_plus1 == 3 && mu_keeper_report(k)->first_blame == MU_BLAME_PEER,
           "how plausible it is that a rank was the first to fail is reported with it");
    mu_acts_clear(&acts);
    mu_keeper_free(k);

    k = started();
    step(k, (struct mu_ev){.kind = MU_EV_SPAWNED, .attempt = 2});
    mu_acts_clear(&acts);
    word.abort.attempt = 1;
    step(k, (struct mu_ev){.kind = MU_EV_MSG, .conn = MU_KEEPER_AGENT, .msg = &word});
    TAP_OK(said(&acts, ""), "the word of another attempt is not for these");
    word.abort.attempt = 2;
    step(k, (struct mu_ev){.kind = MU_EV_MSG, .conn = MU_KEEPER_AGENT, .msg = &word});
    TAP_OK(said(&acts, "abort: rank 1 on node-a, 0x9 "), "while they run they are told at once");
    mu_keeper_free(k);
    mu_acts_free(&acts);
}

int main(void)
{
    questions();
    alone();
    failure();
    return tap_done();
}
