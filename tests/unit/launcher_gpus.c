/* What the controller's core makes of how the GPUs of its nodes are: events, and who gets no jobs any more, also under
 * the next controller. */
#include "launcher/core/checks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/core/ctl.h"
#include "runtime/wire/gpus.h"
#include "tests/unit/ctl_help.h"
#include "tests/unit/tap.h"

static struct mu_check_settings settings;
static mu_conn agents[3], client;
static char events[400];
static struct mu_buf marks; /* as they are stored */
static bool failed;

static void note(const struct mu_act *a)
{
    size_t len = strlen(events);

    if (a->kind == MU_ACT_EVENT)
        snprintf(events + len, sizeof events - len, "%s ", a->event);
    if (a->kind != MU_ACT_MARKS)
        return;
    mu_buf_clear(&marks);
    mu_buf_append(&marks, a->frame.data, a->frame.len);
}

static void begin(void)
{
    static char names[3][8] = {"h0", "h1", "h2"};

    ctl = mu_ctl_new(&(struct mu_ctl_config){
        .restarts = 3, .node = "h0", .checks = &settings, .cooldown_ns = 60 * MU_SEC, .node_wait_ns = 60 * MU_SEC});
    for (size_t at = 0; at < marks.len;) {
        MU_AUTO_MSG struct mu_msg m = {0};
        size_t n = (size_t)mu_msg_frame(marks.data + at, marks.len - at);

        if (mu_msg_decode(marks.data + at, n, &m, NULL))
            exit(99);
        step((struct mu_ev){.kind = MU_EV_LOAD, .msg = &m});
        at += n;
    }
    step((struct mu_ev){.kind = MU_EV_LOADED});
    for (int i = 0; i < 3; i++)
        agents[i] = join_as(names[i], 2);
    client = up("client");
    events[0] = 0;
}

/* Of two GPUs the first has `rows` rows that cannot be remapped; and Xids, as many as there are. */
static void says(int node, uint64_t since, uint32_t rows, const uint32_t *xids, uint32_t nxids)
{
    static char a[] = "GPU-a", b[] = "GPU-b", name[] = "X", *uuids[] = {a, b, NULL}, *names[] = {name, name, NULL};
    uint32_t values[2 * MU_GPU_NVALUES] = {0}, v[3 * MU_GPUS_XIDS];

    values[offsetof(struct mu_gpu, rows_failed) / sizeof *values] = rows;
    for (uint32_t i = 0; i < nxids; i++) {
        v[3 * i] = i + 1;
        v[3 * i + 1] = 1;
        v[3 * i + 2] = xids[i];
    }
    hear(agents[node], MU_MSG_gpus,
         &(struct mu_m_gpus){.since = since,
                             .uuids = uuids,
                             .names = names,
                             .values = {.v = values, .n = 2 * MU_GPU_NVALUES},
                             .xids = {.v = v, .n = 3 * nxids}});
}

static bool drained(const char *name)
{
    return pool_node(name)->drained;
}

static void resume(const char *name)
{
    hear(client, MU_MSG_nodes_resume, &(struct mu_m_nodes_resume){.hosts = (char *)(uintptr_t)name});
}

static bool told(const char *want)
{
    bool same = !strcmp(events, want);

    if (!same)
        printf("# events: %s\n# want: %s\n", events, want);
    events[0] = 0;
    return same;
}

static void again(void)
{
    free_ctl();
    memset(&acts, 0, sizeof acts);
    begin();
}

static void test_faults(void)
{
    begin();
    hand_in(client, "t", (struct mu_m_spec){.ranks = 2, .ppn = 2});
    events[0] = 0;
    says(0, 5, 0, (uint32_t[]){31}, 1);
    TAP_OK(told("gpu-xid ") && !drained("h0"), "an Xid of a program's own making is an event");
    says(0, 5, 0, (uint32_t[]){31}, 1);
    TAP_OK(told(""), "once");
    says(0, 5, 0, (uint32_t[]){31, 79}, 2);
    TAP_OK(told("gpu-xid drained ") && drained("h0"), "one that is the GPU's fault takes its node out");
    resume("h0");
    says(0, 5, 0, (uint32_t[]){31, 79}, 2);
    TAP_OK(told("") && !drained("h0"), "until it is resumed");
    says(0, 5, 3, (uint32_t[]){31, 79}, 2);
    TAP_OK(told("gpu-failed drained ") && drained("h0"), "so does a fault that lasts");
    resume("h0");
    says(0, 5, 3, (uint32_t[]){31, 79}, 2);
    TAP_OK(told("") && !drained("h0"), "until it is resumed as well");
    says(1, 6, 1, NULL, 0);
    TAP_OK(drained("h1"), "of a node without jobs, too");
}

static void test_next(void)
{
    again();
    TAP_OK(drained("h1") && !drained("h0"), "the next controller knows who is out");
    says(0, 5, 3, (uint32_t[]){31, 79}, 2);
    says(1, 6, 1, NULL, 0);
    TAP_OK(!drained("h0") && drained("h1"), "and what somebody has resumed a node with");
    says(0, 5, 3, (uint32_t[]){31, 79, 95}, 3);
    TAP_OK(drained("h0"), "not a new Xid");
    resume("h0");
    resume("h1");
    again();
    says(0, 7, 3, (uint32_t[]){79}, 1);
    TAP_OK(drained("h0"), "nor the first one since its agent asks anew");
    says(1, 6, 0, NULL, 0);
    says(1, 6, 1, NULL, 0);
    TAP_OK(drained("h1"), "nor one that was gone meanwhile");
}

/* Whatever agents say. */
static void test_anything(void)
{
    static const char *const words[] = {"", "GPU-1", "a\nb", "\xff", "%s%n", NULL};
    uint32_t numbers[80], xids[60];

    srand(7);
    for (unsigned round = 0; round < 3000; round++) {
        char *uuids[5] = {0}, *names[5] = {0};
        struct mu_m_gpus m = {.since = (uint64_t)rand() % 3,
                              .driver = (char *)(uintptr_t)words[rand() % 6],
                              .trouble = (char *)(uintptr_t)words[rand() % 6],
                              .uuids = rand() % 5 ? uuids : NULL,
                              .names = rand() % 5 ? names : NULL,
                              .values = {.v = numbers, .n = (uint32_t)rand() % 80},
                              .xids = {.v = xids, .n = (uint32_t)rand() % 60}};

        for (int i = 0, n = rand() % 5; i < n; i++) {
            uuids[i] = (char *)(uintptr_t)words[rand() % 5];
            names[i] = (char *)(uintptr_t)words[rand() % 2];
        }
        if (rand() % 2 && *uuids)
            m.values.n = (uint32_t)(2 * MU_GPU_NVALUES);
        m.xids.n = rand() % 2 ? m.xids.n / 3 * 3 : m.xids.n;
        for (int i = 0; i < 80; i++)
            numbers[i] = rand() % 3 ? (uint32_t)rand() % 3 : UINT32_MAX;
        for (uint32_t i = 0; i < 60; i++)
            xids[i] = rand() % 20 ? i / 3 * 2 + 1 : (uint32_t)rand();
        for (uint32_t i = 1; i < 60; i += 3)
            xids[i] = (uint32_t)rand() % 2;
        hear(agents[rand() % 3], MU_MSG_gpus, &m);
        failed = failed || acts.failed || strlen(pool_node("h0")->gpu_known) >= MU_GPUS_TROUBLE;
        events[0] = 0;
    }
    TAP_OK(!failed, "whatever agents say");
}

int main(void)
{
    mu_check_defaults(&settings);
    settings.most_percent = 100;
    test_faults();
    test_next();
    test_anything();
    free_ctl();
    mu_buf_free(&marks);
    return tap_done();
}
