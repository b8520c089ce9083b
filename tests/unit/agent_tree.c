/* The tables of both ends of the tree: the controller, an agent p below it, q below p, and leaves below q. What is sent
 * goes through a queue, each hop counted. */
#include "runtime/agent/tree.h"

#include <stdlib.h>
#include <string.h>

#include "launcher/branch.h"
#include "runtime/base/clean.h"
#include "tests/unit/tap.h"

enum { CTL, P, Q, LEAF, LEAF2, ACTORS }; /* the leaves have no tables: what is theirs comes as it is */
#define LINK_P 100u                      /* P's connection at the controller */

static struct mu_tree *tree[ACTORS];
static struct mu_branches *branches;

static struct message {
    int from, to;
    char *frame;
    size_t len;
} queue[4000];
static unsigned nqueue, hops[ACTORS];
static size_t most; /* the longest message on a link */
static mu_conn last_conn;
static char heard[2000]; /* what came to whom */

static const int above[ACTORS] = {[P] = CTL, [Q] = P, [LEAF] = Q, [LEAF2] = Q};
static uint32_t link_of[ACTORS] = {[Q] = 9, [LEAF] = 7, [LEAF2] = 3}; /* as the one above numbers them: in no order */

static void put(int from, int to, const void *frame, size_t len)
{
    struct message *m = &queue[nqueue++];

    *m = (struct message){.from = from, .to = to, .frame = malloc(len), .len = len};
    memcpy(m->frame, frame, len);
    hops[to]++;
    most = len > most ? len : most;
}

static void note(const char *who, const struct mu_msg *m)
{
    size_t n = strlen(heard);

    if (m->type == MU_MSG_reply)
        snprintf(heard + n, sizeof heard - n, "%s:%.8s%s ", who, m->reply.json, strlen(m->reply.json) > 8 ? "..." : "");
    else if (m->type == MU_MSG_relay && !m->relay.channels.n)
        snprintf(heard + n, sizeof heard - n, "%s:%s ", who, m->relay.kind == MU_RELAY_OPEN ? "begin" : "wait");
    else
        snprintf(heard + n, sizeof heard - n, "%s:%s ", who, mu_msg_name(m->type));
}

static bool said(const char *want)
{
    bool same = !strcmp(heard, want);

    if (!same)
        printf("# heard: %s\n# want:  %s\n", heard, want);
    heard[0] = 0;
    return same;
}

/* --- the ends ----------------------------------------------------------------------------------------------------- */

static int actor_of(void *arg)
{
    return (int)(intptr_t)arg;
}
static void on_up(void *arg, const void *frame, size_t len)
{
    put(actor_of(arg), above[actor_of(arg)], frame, len);
}
static void on_below(void *arg, uint32_t child, const void *frame, size_t len)
{
    for (int i = 0; i < ACTORS; i++)
        if (above[i] == actor_of(arg) && link_of[i] == child)
            put(actor_of(arg), i, frame, len);
}
static void on_cut(void *arg, uint32_t child)
{
    size_t n = strlen(heard);

    (void)arg;
    snprintf(heard + n, sizeof heard - n, "cut-%u ", child);
}
static struct mu_buf pieces[ACTORS];
static void own(int who, const void *frame, size_t len, bool piece)
{
    static const char *names[] = {"ctl", "p", "q", "leaf", "leaf2"};
    struct mu_msg m;

    if (piece) {
        if (mu_msg_piece(&pieces[who], frame, len) <= 0)
            return;
        frame = pieces[who].data;
        len = pieces[who].len;
    }
    if (!mu_msg_decode(frame, len, &m, NULL)) {
        note(names[who], &m);
        mu_msg_free(&m);
    }
    if (piece)
        mu_buf_clear(&pieces[who]);
}
static void on_self(void *arg, const void *frame, size_t len, bool piece)
{
    own(actor_of(arg), frame, len, piece);
}

static mu_conn on_opened(void *arg)
{
    (void)arg;
    return ++last_conn;
}
static void on_conn_up(void *arg, mu_conn id, mu_conn via)
{
    size_t n = strlen(heard);

    (void)arg;
    snprintf(heard + n, sizeof heard - n, "+%u/%u ", id, via);
}
static void on_conn_frame(void *arg, mu_conn id, const void *frame, size_t len)
{
    char name[16];
    struct mu_msg m;

    (void)arg;
    snprintf(name, sizeof name, "%u", id);
    if (!mu_msg_decode(frame, len, &m, NULL)) {
        note(name, &m);
        mu_msg_free(&m);
    }
}
static void on_conn_down(void *arg, mu_conn id, int status, uint64_t age)
{
    size_t n = strlen(heard);

    (void)arg;
    snprintf(heard + n, sizeof heard - n, "-%u/%s%s ", id,
             status == MU_DOWN_PARENT   ? "parent"
             : status == MU_DOWN_SILENT ? "silent"
                                        : "closed",
             age ? "/old" : "");
}
static void on_link(void *arg, mu_conn link, const void *frame, size_t len)
{
    (void)arg;
    if (link == LINK_P)
        put(CTL, P, frame, len);
}

/* --- running ------------------------------------------------------------------------------------------------------ */

static void arrive(const struct message *e)
{
    struct mu_msg m;

    if (mu_msg_decode(e->frame, e->len, &m, NULL)) {
        snprintf(heard, sizeof heard, "a message that cannot be read");
        return;
    }
    bool relay = m.type == MU_MSG_relay && m.relay.channels.n;
    if (e->to == CTL && relay)
        mu_branches_take(branches, LINK_P, &m.relay);
    else if (e->from == above[e->to] && relay && tree[e->to])
        mu_tree_above(tree[e->to], &m.relay);
    else if (e->from == above[e->to] && relay) /* a leaf's own, in pieces or for several */
        own(e->to, m.relay.data.data, m.relay.data.len, m.relay.kind == MU_RELAY_PIECE);
    else if (e->from == above[e->to])
        own(e->to, e->frame, e->len, false);
    else if (e->to != CTL)
        mu_tree_child_msg(tree[e->to], link_of[e->from], &m, e->frame, e->len);
    mu_msg_free(&m);
}

static void run(void)
{
    for (unsigned i = 0; i < nqueue; i++) {
        arrive(&queue[i]);
        free(queue[i].frame);
    }
    nqueue = 0;
}

static struct mu_buf frame_of(enum mu_msg_type type, const void *body)
{
    struct mu_buf b = {0};

    mu_msg_encode(&b, type, body);
    return b;
}

static void up_from(int who, enum mu_msg_type type, const void *body)
{
    mu_auto_buf struct mu_buf b = frame_of(type, body);

    put(who, above[who], b.data, b.len);
    run();
}

static void hello(int who)
{
    struct mu_m_hello m = {.proto = MU_WIRE_VERSION, .role = (char[]){"agent"}};

    mu_tree_child(tree[above[who]], link_of[who]);
    up_from(who, MU_MSG_hello, &m);
}

static void cast(const mu_conn *to, uint32_t n, const char *text)
{
    mu_auto_buf struct mu_buf b = frame_of(MU_MSG_reply, &(struct mu_m_reply){.json = (char *)(uintptr_t)text});

    memset(hops, 0, sizeof hops);
    most = 0;
    mu_branches_send(branches, to, n, b.data, b.len);
    run();
}

static void begin(void)
{
    for (int i = P; i <= Q; i++) {
        mu_tree_free(tree[i]);
        tree[i] = mu_tree_new(&(struct mu_tree_ops){
            .up = on_up, .down = on_below, .cut = on_cut, .self = on_self, .arg = (void *)(intptr_t)i});
    }
    mu_branches_free(branches);
    branches = mu_branches_new(&(struct mu_branch_ops){
        .opened = on_opened, .up = on_conn_up, .frame = on_conn_frame, .down = on_conn_down, .send = on_link});
    last_conn = LINK_P;
    heard[0] = 0;
}

/* All of them, each known to the controller before the next one comes: q is 101, the leaves 102 and 103. */
static void grow(void)
{
    begin();
    mu_tree_path(tree[P], true);
    hello(Q);
    mu_tree_path(tree[Q], true);
    hello(LEAF);
    hello(LEAF2);
}

static void growing(void)
{
    grow();
    TAP_OK(said("+101/100 101:hello +102/101 102:hello +103/101 103:hello "),
           "each has a connection of its own, below the one through which it came");
    TAP_OK(mu_tree_below(tree[P]) == 3 && mu_tree_children(tree[P]) == 1 && mu_tree_children(tree[Q]) == 2,
           "an agent knows its children, and how many are below them");
    up_from(LEAF, MU_MSG_reply, &(struct mu_m_reply){.json = (char[]){"up"}});
    up_from(Q, MU_MSG_reply, &(struct mu_m_reply){.json = (char[]){"up"}});
    TAP_OK(said("102:up 101:up "), "what an agent says comes on its connection");
    cast((const mu_conn[]){103}, 1, "a");
    cast((const mu_conn[]){101}, 1, "b");
    cast((const mu_conn[]){LINK_P}, 1, "c");
    TAP_OK(said("leaf2:a q:b p:c "), "and it gets what is sent there");
}

static void casting(void)
{
    mu_conn all[] = {103, LINK_P, 101, 102};

    grow();
    heard[0] = 0;
    cast(all, 4, "all");
    TAP_OK(said("p:all q:all leaf2:all leaf:all ") && hops[P] == 1 && hops[Q] == 1 && hops[LEAF] == 1,
           "what goes to all crosses each hop once");
    cast((const mu_conn[]){104, 102, 77}, 3, "gone");
    TAP_OK(said("leaf:gone "), "connections that are gone are left out");

    char *text = calloc(1, 1 << 20);
    memset(text, 'x', (1 << 20) - 1);
    cast(all, 4, text);
    TAP_OK(said("p:xxxxxxxx... q:xxxxxxxx... leaf2:xxxxxxxx... leaf:xxxxxxxx... ") && hops[Q] == 5 &&
               most < MU_RELAY_MAX + 100,
           "what is long goes in pieces, and is whole again at its ends");
    up_from(LEAF, MU_MSG_reply, &(struct mu_m_reply){.json = text});
    up_from(LEAF, MU_MSG_reply, &(struct mu_m_reply){.json = (char[]){"next"}});
    TAP_OK(said("102:xxxxxxxx... 102:next "), "upwards, too");
    free(text);
}

static void ending(void)
{
    grow();
    heard[0] = 0;
    mu_tree_child_gone(tree[Q], link_of[LEAF], MU_DOWN_SILENT, 5);
    run();
    TAP_OK(said("-102/silent/old "), "a leaf that falls silent is told to be, and for how long");
    mu_tree_child_gone(tree[P], link_of[Q], MU_DOWN_CLOSED, 0);
    run();
    TAP_OK(said("-101/closed -103/parent "), "whoever is below one that ends has lost its way, no more");
    TAP_OK(!mu_tree_below(tree[P]) && !mu_tree_children(tree[P]), "nothing of them is left");
    cast((const mu_conn[]){101, 102, 103}, 3, "late");
    TAP_OK(said(""), "what was on its way to them goes nowhere");

    grow();
    heard[0] = 0;
    TAP_OK(mu_branches_close(branches, 102) && !mu_branches_close(branches, 102) &&
               !mu_branches_close(branches, LINK_P),
           "the controller closes a connection");
    run();
    TAP_OK(said("cut-7 ") && mu_tree_children(tree[Q]) == 1, "whose link is cut where it enters the tree");
    mu_branches_close(branches, 101);
    run();
    TAP_OK(said("cut-9 -103/parent "), "those below are told to have lost their way");

    grow();
    heard[0] = 0;
    mu_branches_lost(branches, LINK_P, 7);
    TAP_OK(said("-101/parent/old -102/parent/old -103/parent/old "), "with a link goes all that came through it");
    up_from(LEAF, MU_MSG_reply, &(struct mu_m_reply){.json = (char[]){"late"}});
    TAP_OK(said(""), "and what comes late is nobody's");
}

/* p loses its way and finds another one. */
static void anew(void)
{
    grow();
    heard[0] = 0;
    mu_tree_path(tree[P], false);
    run();
    TAP_OK(said("q:wait "), "an agent without a way tells those below it");
    mu_tree_path(tree[Q], false);
    run();
    TAP_OK(said("leaf2:wait leaf:wait "), "and they tell theirs");
    up_from(Q, MU_MSG_reply, &(struct mu_m_reply){.json = (char[]){"x"}});
    TAP_OK(said("") && !nqueue, "what they say meanwhile is lost");
    mu_tree_path(tree[P], true);
    run();
    TAP_OK(said("q:begin +104/100 "), "with a way again they are to begin anew");
    up_from(Q, MU_MSG_reply, &(struct mu_m_reply){.json = (char[]){"old"}});
    TAP_OK(said(""), "what they had said before that is not taken for it");
    up_from(Q, MU_MSG_hello, &(struct mu_m_hello){.proto = MU_WIRE_VERSION});
    up_from(LEAF, MU_MSG_reply, &(struct mu_m_reply){.json = (char[]){"old"}});
    TAP_OK(said("104:hello "), "they do, level by level");
    mu_tree_path(tree[Q], true);
    run();
    TAP_OK(said("leaf2:begin leaf:begin +105/104 +106/104 "), "until all are there again");

    begin();
    hello(Q);
    TAP_OK(said("q:wait ") && mu_tree_children(tree[P]) == 1, "who comes before there is a way waits for it");
    mu_tree_path(tree[P], true);
    run();
    TAP_OK(said("q:begin +101/100 "), "and begins then");
}

int main(void)
{
    growing();
    casting();
    ending();
    anew();
    for (int i = 0; i < ACTORS; i++) {
        mu_tree_free(tree[i]);
        mu_buf_free(&pieces[i]);
    }
    mu_branches_free(branches);
    return tap_done();
}
