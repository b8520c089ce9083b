/* What the ranks of a running job have called last, as the controller's core passes it on: whom it asks, and whom it
 * gives the answers. */
#include "launcher/core/ctl.h"

#include <stdio.h>
#include <string.h>

#include "runtime/base/str.h"
#include "tests/unit/ctl_help.h"
#include "tests/unit/tap.h"

enum { NODES = 3 };

static mu_conn agents[NODES], client, other;
static char said[600];

static void note_one(const struct mu_msg *m, mu_conn to)
{
    size_t n = strlen(said);
    char who = to == client ? 'c' : to == other ? 'o' : '?';

    for (int i = 0; i < NODES; i++)
        who = to == agents[i] ? (char)('0' + i) : who;
    if (m->type == MU_MSG_flight)
        snprintf(said + n, sizeof said - n, "%c?%llu.%u:%u%s ", who, (unsigned long long)m->flight.job,
                 m->flight.attempt, m->flight.last, m->flight.asker == client ? "" : "!");
    if (m->type == MU_MSG_flown && m->flown.nodes)
        snprintf(said + n, sizeof said - n, "%c=%s,%s/%zu ", who, m->flown.nodes[0], m->flown.nodes[1],
                 mu_strv_len(m->flown.nodes));
    else if (m->type == MU_MSG_flown)
        snprintf(said + n, sizeof said - n, "%c<%s:%u+%u ", who, m->flown.node ? m->flown.node : "-", m->flown.rank,
                 m->flown.left);
    if (m->type == MU_MSG_error)
        snprintf(said + n, sizeof said - n, "%c!%s ", who, m->error.text);
}

static void note(const struct mu_act *a)
{
    MU_AUTO_MSG struct mu_msg m = {0};
    const mu_conn *to;
    uint32_t n = mu_act_to(a, &to);

    if (!a->frame.len || mu_msg_decode(a->frame.data, a->frame.len, &m, NULL))
        return;
    for (uint32_t i = 0; i < n; i++)
        note_one(&m, to[i]);
}

static bool says(const char *want)
{
    bool same = !strcmp(said, want);

    if (!same)
        printf("# said: %s\n# want: %s\n", said, want);
    said[0] = 0;
    return same;
}

static void ask(mu_conn conn, uint64_t job)
{
    hear(conn, MU_MSG_flight, &(struct mu_m_flight){.job = job, .last = 8, .asker = 99});
}

static void answer(int node, mu_conn asker, uint64_t job)
{
    static char wrong[] = "h9", *nodes[] = {wrong, NULL};

    hear(agents[node], MU_MSG_flown,
         &(struct mu_m_flown){
             .job = job, .attempt = 1, .asker = asker, .node = wrong, .nodes = nodes, .rank = 1, .left = 2});
}

int main(void)
{
    static char names[NODES][8] = {"h0", "h1", "h2"};
    struct mu_ctl_config cfg = {.restarts = 3, .node = "h0", .node_wait_ns = 60 * MU_SEC};

    ctl = mu_ctl_new(&cfg);
    step((struct mu_ev){.kind = MU_EV_LOADED});
    for (int i = 0; i < NODES; i++)
        agents[i] = join_as(names[i], 2);
    client = up("client");
    other = up("client");
    hand_in(client, "t", (struct mu_m_spec){.ranks = 4, .ppn = 2});
    said[0] = 0;

    ask(client, 7);
    TAP_OK(says("c!there is no job 7; `muster jobs --all` lists them "), "of a job that there is not");
    answer(0, client, 1);
    TAP_OK(says(""), "who has not asked gets nothing");
    ask(client, 1);
    TAP_OK(says("c=h0,h1/2 0?1.1:8 1?1.1:8 "),
           "the nodes of the job are asked, and the client is told which these are");
    answer(1, client, 1);
    TAP_OK(says("c<h1:1+2 "), "an answer goes to it with the name of the node that it came from");
    answer(2, client, 1);
    answer(0, other, 1);
    answer(0, agents[1], 1);
    answer(0, client, 2);
    TAP_OK(says(""), "not from another node, nor to another client, nor about another job");
    step((struct mu_ev){.kind = MU_EV_DOWN, .conn = client});
    answer(0, client, 1);
    TAP_OK(says(""), "nor to one that has gone");
    free_ctl();
    return tap_done();
}
