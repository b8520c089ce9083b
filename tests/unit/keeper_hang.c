/* Who holds up whom: small pictures of ranks, and what is said of them. */
#include "runtime/keeper/hang.h"

#include <string.h>

#include "runtime/base/clock.h"
#include "tests/unit/tap.h"

#define NOW (1000 * MU_SEC)
#define H (4 * MU_SEC)

/* A picture: one word a rank. "3@5" waits for rank 3 for 5 s in all-reduce 9 of communicator 7; then letters:
 *   e has not called muster_init    o outside    f finalized    d dead    c reads a checkpoint    i in MPI_Init (i@5)
 *   3@5p polls with muster_test     3@5q the same, but has not for a while   3@5s stuck: its beat stands still
 *   T2 stopped for 2 s    t2 by a debugger    3@5T2 stopped while it waits    3@5r receives    L3 gave up on 3 after 1
 * s 3@5b in collective 4 of communicator 8    3@5/20 after 20 operations (10 otherwise)    g gave up, told by others */
static struct mu_hang_rank ranks[8];
static struct mu_hang_view view;

static void draw(const char *picture, uint32_t first)
{
    char text[200], *save, *end;
    uint32_t n = 0;

    snprintf(text, sizeof text, "%s", picture);
    for (char *w = strtok_r(text, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
        struct mu_hang_rank *r = &ranks[n++];
        *r = (struct mu_hang_rank){.alive = true,
                                   .state = MU_RANK_READY,
                                   .beat_at = NOW - 50 * MU_MS,
                                   .process = 'S',
                                   .op_seq = 10,
                                   .last_ctx = 7,
                                   .last_number = 8};
        if (strchr(w, '@')) {
            r->op = (struct mu_slot_op){.kind = MU_OP_KIND_ALLREDUCE,
                                        .peer = *w == '?' ? MU_OP_PEER_NONE : (uint32_t)strtoul(w, NULL, 10),
                                        .ctx = 7,
                                        .number = 9};
            r->last_number = 9;
            if (*w == 'i') {
                r->op = (struct mu_slot_op){.kind = MU_OP_KIND_INIT, .peer = MU_OP_PEER_NONE};
                r->state = MU_RANK_INIT;
                r->beat_at = NOW - 100 * MU_SEC;
            }
            w = strchr(w, '@') + 1;
            r->op.since = NOW - (uint64_t)(strtod(w, &end) * (double)MU_SEC);
            w = end;
        }
        for (; *w; w++) {
            switch (*w) {
            case 'e':
                r->state = MU_RANK_EMPTY;
                break;
            case 'f':
                r->state = MU_RANK_FINALIZED;
                break;
            case 'd':
                r->alive = false;
                break;
            case 'c':
                r->op =
                    (struct mu_slot_op){.kind = MU_OP_KIND_CKPT, .peer = MU_OP_PEER_NONE, .since = NOW - 9 * MU_SEC};
                break;
            case 'q':
                r->beat_at = NOW - 2 * MU_SEC; /* fall through */
            case 'p':
                r->op.polled = 1;
                break;
            case 's':
                r->beat_at = NOW - 3 * MU_SEC;
                break;
            case 'T':
            case 't':
                r->process = *w;
                r->stopped_at = NOW - (uint64_t)(strtod(w + 1, &end) * (double)MU_SEC);
                w = end - 1;
                break;
            case 'r':
                r->op.kind = MU_OP_KIND_RECV;
                break;
            case 'L':
                r->late_kind = MU_OP_KIND_ALLREDUCE;
                r->late_ctx = 7;
                r->late_number = r->last_number = 9;
                r->late_ns = MU_SEC;
                r->gave_up = true;
                r->late_peer = w[1] == '?' ? MU_OP_PEER_NONE : (uint32_t)strtoul(w + 1, &end, 10);
                if (w[1] == '?')
                    r->late_kind = MU_OP_KIND_INIT;
                w = w[1] == '?' ? w + 1 : end - 1;
                break;
            case 'b':
                r->op.ctx = r->last_ctx = 8;
                r->op.number = r->last_number = 4;
                break;
            case 'g':
                r->gave_up = true;
                break;
            case '/':
                r->op_seq = strtoull(w + 1, &end, 10);
                w = end - 1;
                break;
            default: /* o */
                break;
            }
        }
    }
    view = (struct mu_hang_view){.ranks = ranks, .n = n, .first = first, .hang_ns = H, .now = NOW};
}

enum { NONE = MU_HANG_LEVEL_NONE, SOME = MU_HANG_LEVEL_SOME, OVER = MU_HANG_LEVEL_OVER, LATE = MU_HANG_LEVEL_LATE };

static const struct {
    const char *picture, *what_of;
    uint32_t level, what, rank, nwait, first;
    char process;
} rows[] = {
    {"o o o o", "ranks that compute", NONE, 0, 0, 0, 0, 0},
    {"3@1 3@1 3@1 o", "a wait that is usual", NONE, 0, 0, 0, 0, 0},
    {"3@3 3@3 3@3 o", "a long one", SOME, 0, 0, 3, 0, 0},
    {"3@5 3@4.5 3@5 o", "one beyond the deadline: the one that has not come", OVER, MU_HANG_ABSENT, 3, 3, 0, 'S'},
    {"o 2@5 o o", "among those outside the one that is waited for", OVER, MU_HANG_ABSENT, 2, 1, 0, 'S'},
    {"3@5 3@5 3@5 T0.2", "a stopped one that others wait for", OVER, MU_HANG_STOPPED, 3, 3, 0, 'T'},
    {"o o o T3.9", "a stopped one by itself, not yet", NONE, 0, 0, 0, 0, 0},
    {"o o o T4.1", "and now", OVER, MU_HANG_STOPPED, 3, 0, 0, 'T'},
    {"3@2 3@2 o T4.1", "with those who wait for it", OVER, MU_HANG_STOPPED, 3, 2, 0, 'T'},
    {"3@2 3@2 3@2 0@2T4.1", "stopped while it waits itself", OVER, MU_HANG_STOPPED, 3, 3, 0, 'T'},
    {"o T4.5 o T6", "two: the one that has been so longer", OVER, MU_HANG_STOPPED, 3, 0, 0, 'T'},
    {"3@5 3@5 o/20 o/9", "two outside, one waited for", OVER, MU_HANG_ABSENT, 3, 2, 0, 'S'},
    {"2@5 3@5 o/20 o/9", "two waited for: the one that has done less", OVER, MU_HANG_ABSENT, 3, 2, 0, 'S'},
    {"2@5 3@5 T1/20 o/9", "two waited for: the stopped one", OVER, MU_HANG_STOPPED, 2, 2, 0, 'T'},
    {"1@6 2@6 3@5 o", "a chain of waits ends where nobody waits", OVER, MU_HANG_ABSENT, 3, 3, 0, 'S'},
    {"1@6 2@0.5b o o", "one that waits, but not for long, is busy elsewhere", OVER, MU_HANG_ABSENT, 1, 1, 0, 'S'},
    {"1@6 2@5b o o", "one that waits for long is a victim itself", OVER, MU_HANG_ABSENT, 2, 1, 0, 'S'},
    {"1@6r 2@6r o o", "receives", OVER, MU_HANG_ABSENT, 2, 1, 0, 'S'},
    {"1@6 2@6p 3@5 o", "muster_test waits as well", OVER, MU_HANG_ABSENT, 3, 2, 0, 'S'},
    {"1@6 2@6q 3@5 o", "unless nobody calls it", OVER, MU_HANG_ABSENT, 1, 2, 0, 'S'},
    {"o o 3@9p o", "muster_test alone is no evidence", NONE, 0, 0, 0, 0, 0},
    {"1@6 2@6s o o", "one that is in the library and does not move", OVER, MU_HANG_STUCK, 1, 2, 0, 'S'},
    {"1@6s o o o", "unless it is only the one who waits", OVER, MU_HANG_ABSENT, 1, 1, 0, 'S'},
    {"1@9 c o o", "one that reads a checkpoint is waited for", SOME, 0, 0, 1, 0, 0},
    {"1@6 2@6 0@6/9 o", "ranks that wait for one another", OVER, MU_HANG_CYCLE, 2, 3, 0, 'S'},
    {"3@6 2@6 3@6/12 2@6b/11", "also when it is not all of them", OVER, MU_HANG_CYCLE, 3, 3, 0, 'S'},
    {"?@6 ?@6 o o", "a wait for nobody in particular is not judged", SOME, 0, 0, 2, 0, 0},
    {"1@6 d o o", "one that is dead is the business of others", SOME, 0, 0, 1, 0, 0},
    {"1@6 f o o", "so is one that has finalised", SOME, 0, 0, 1, 0, 0},
    {"i@5 i@5 e o", "MPI_Init waits for the one that has not called it", OVER, MU_HANG_ABSENT, 2, 2, 0, 'S'},
    {"i@5 i@5 e T0.3e", "or better for a stopped one", OVER, MU_HANG_STOPPED, 3, 2, 0, 'T'},
    {"i@500 i@500 i@500 i@499", "a slow MPI_Init is no hang", OVER, MU_HANG_ELSEWHERE, MU_ALL, 4, 0, 0},
    {"o o t3.9 o", "a debugger", NONE, 0, 0, 0, 0, 0},
    {"6@5 6@5 o o", "a rank of another node", OVER, MU_HANG_ELSEWHERE, 6, 2, 0, 'S'},
    {"6@5 o", "on another node than the first", OVER, MU_HANG_ABSENT, 6, 1, 5, 'S'},
    {"1@5 2@5 9@5", "a chain that leaves the node", OVER, MU_HANG_ELSEWHERE, 9, 3, 0, 'S'},
    {"2@5 9@5 o", "what is known here is better", OVER, MU_HANG_ABSENT, 2, 2, 0, 'S'},
};

static void judged(void)
{
    struct mu_m_hang m;

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        draw(rows[i].picture, rows[i].first);
        mu_hang_judge(&view, &m);
        bool good = m.level == rows[i].level && m.nwait == rows[i].nwait &&
                    (m.level < OVER || (m.what == rows[i].what && m.rank == rows[i].rank &&
                                        (!rows[i].process || m.process == (uint32_t)rows[i].process)));
        TAP_OK(good, "%-24s %s", rows[i].picture, rows[i].what_of);
        if (!good)
            printf("# level %u what %u rank %u nwait %u process %u\n", m.level, m.what, m.rank, m.nwait, m.process);
    }
    draw("3@3 3@5 3@4.5 o", 0);
    mu_hang_judge(&view, &m);
    TAP_OK(m.from == 1 && m.wait_ns == 5 * MU_SEC && m.kind == MU_OP_KIND_ALLREDUCE && m.ctx == 7 && m.number == 9 &&
               m.last_ctx == 7 && m.last_number == 8 && m.in_kind == 0 && m.op_seq == 10,
           "the longest waiting rank, its operation, and how far the other one has come");
    draw("1@6 2@5b o o", 0);
    mu_hang_judge(&view, &m);
    TAP_OK(m.from == 1 && m.wait_ns == 5 * MU_SEC && m.ctx == 8 && m.number == 4,
           "of a chain the wait that ends at the one who does not come");
    draw("3@9 3@9 3@9 T9", 0);
    view.hang_ns = 0;
    mu_hang_judge(&view, &m);
    TAP_OK(!m.level, "without a deadline nothing is judged");
    draw("o o o T9.9", 0);
    view.hang_ns = MU_HANG_NS;
    mu_hang_judge(&view, &m);
    TAP_OK(!m.level, "with a long deadline a stopped rank has 10 s");
    draw("o o o T10", 0);
    view.hang_ns = MU_HANG_NS;
    mu_hang_judge(&view, &m);
    TAP_OK(m.level == OVER && m.what == MU_HANG_STOPPED, "and no more");
    draw("o o o t11", 0);
    view.hang_ns = MU_HANG_NS;
    mu_hang_judge(&view, &m);
    TAP_OK(!m.level, "but one that a debugger has stopped has the deadline");
}

static void answered(void)
{
    struct mu_m_hang m;

    draw("7@5 o T1 5@0.1b", 4);
    mu_hang_answer(&view, 5, &m);
    TAP_OK(m.asked_plus1 == 6 && m.what == MU_HANG_ABSENT && m.rank == 5 && !m.level, "asked: a rank outside");
    mu_hang_answer(&view, 6, &m);
    TAP_OK(m.what == MU_HANG_STOPPED && m.rank == 6 && m.still_ns == MU_SEC, "a stopped one");
    mu_hang_answer(&view, 7, &m);
    TAP_OK(m.what == MU_HANG_ABSENT && m.rank == 7, "one that is busy elsewhere");
    mu_hang_answer(&view, 9, &m);
    TAP_OK(m.what == MU_HANG_NOBODY && m.asked_plus1 == 10, "one that is not here");
    mu_hang_answer(&view, MU_ALL, &m);
    TAP_OK(m.what == MU_HANG_NOBODY && m.asked_plus1 == MU_ALL, "all have called muster_init");
    draw("1@5 12@5 o", 0);
    mu_hang_answer(&view, 0, &m);
    TAP_OK(m.what == MU_HANG_ELSEWHERE && m.rank == 12 && m.from == 1 && m.nwait == 2, "the chain goes on elsewhere");
    draw("i@3 e i@2", 8);
    mu_hang_answer(&view, MU_ALL, &m);
    TAP_OK(m.what == MU_HANG_ABSENT && m.rank == 9 && m.asked_plus1 == MU_ALL, "who has not");
}

static void given_up(void)
{
    struct mu_m_hang m;

    draw("3@5 o o o", 0);
    mu_hang_late(&view, &m);
    TAP_OK(!m.level, "nobody has given up");
    draw("L3d g 3@0.9 o", 0);
    mu_hang_late(&view, &m);
    TAP_OK(m.level == LATE && m.what == MU_HANG_ABSENT && m.rank == 3 && m.from == 0 && m.number == 9 &&
               m.wait_ns == MU_SEC && m.nwait == 2,
           "a rank that gave up, and has ended: whom it waited for");
    draw("L1d L2 3@0.9 T1", 0);
    mu_hang_late(&view, &m);
    TAP_OK(m.level == LATE && m.what == MU_HANG_STOPPED && m.rank == 3, "through others that gave up, too");
    draw("L9 o", 0);
    mu_hang_late(&view, &m);
    TAP_OK(m.level == LATE && m.what == MU_HANG_ELSEWHERE && m.rank == 9, "on another node");
    draw("L? e", 0);
    mu_hang_late(&view, &m);
    TAP_OK(m.level == LATE && m.what == MU_HANG_ABSENT && m.rank == 1, "in muster_init");
    draw("L1 c", 0);
    mu_hang_late(&view, &m);
    TAP_OK(!m.level, "the other one reads a checkpoint: nothing to say");
}

static void news(void)
{
    struct mu_hang_told t = {0};
    struct mu_m_hang m = {0}, over;

    TAP_OK(!mu_hang_news(&t, &m, NOW), "nothing is no news");
    draw("3@3 3@3 3@3 o", 0);
    mu_hang_judge(&view, &m);
    TAP_OK(mu_hang_news(&t, &m, NOW), "a long wait is");
    m.wait_ns += MU_SEC;
    TAP_OK(!mu_hang_news(&t, &m, NOW + 50 * MU_SEC), "once");
    draw("3@5 3@5 3@5 o", 0);
    mu_hang_judge(&view, &over);
    TAP_OK(mu_hang_news(&t, &over, NOW + 50 * MU_SEC), "the end of the deadline is");
    TAP_OK(!mu_hang_news(&t, &over, NOW + 50 * MU_SEC + 900 * MU_MS), "not at once again");
    TAP_OK(mu_hang_news(&t, &over, NOW + 51 * MU_SEC), "but after a second: it may have been lost");
    m.number++;
    TAP_OK(mu_hang_news(&t, &m, NOW + 52 * MU_SEC), "another wait is news");
}

int main(void)
{
    judged();
    answered();
    given_up();
    news();
    return tap_done();
}
