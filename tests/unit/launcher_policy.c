/* The queue's policy: who starts, who waits and why; its settings file. Traces of many jobs: tests/policy. */
#include <math.h>
#include <string.h>

#include "launcher/core/policy.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "tests/unit/tap.h"

#define H (3600 * MU_SEC)
#define NOW (1000 * H)

static struct mu_policy_settings set;
static struct mu_policy_node nodes[4];
static struct mu_policy_run runs[4];
static struct mu_policy_job jobs[4];
static struct mu_policy_user users[2];
static struct mu_policy_view view;

/* Four nodes of 4 slots; the last has GPUs and a label. */
static void fresh(unsigned nruns, unsigned njobs)
{
    static struct mu_policy_share one[4] = {{0, 4}, {1, 4}, {2, 4}, {3, 4}};

    mu_policy_settings_free(&set);
    mu_policy_defaults(&set);
    memset(runs, 0, sizeof runs);
    memset(jobs, 0, sizeof jobs);
    for (unsigned i = 0; i < 4; i++) {
        nodes[i] = (struct mu_policy_node){.has = {4, i == 3 ? 4 : 0, 64}, .usable = true};
        nodes[i].labels = i == 3 ? "rack2,gpu" : "rack1";
        runs[i] = (struct mu_policy_run){
            .id = 100 + i, .started = NOW - H, .ends = NOW + (i + 1) * H, .need = {1}, .shares = &one[i], .nshares = 1};
        jobs[i] = (struct mu_policy_job){
            .id = i + 1, .since = NOW - H + i * MU_SEC, .limit_ns = H, .ranks = 4, .need = {1}, .user = i % 2};
    }
    users[0] = users[1] = (struct mu_policy_user){.usage = 1, .share = 1};
    view = (struct mu_policy_view){.now = NOW,
                                   .nodes = nodes,
                                   .nnodes = 4,
                                   .runs = runs,
                                   .nruns = nruns,
                                   .jobs = jobs,
                                   .njobs = njobs,
                                   .users = users,
                                   .nusers = 2};
}

static struct mu_policy_plan decided(struct mu_policy *p)
{
    struct mu_policy_plan plan = {0};

    if (mu_policy_decide(p, &set, &view, &plan))
        plan.nacts = 99;
    return plan;
}

static const char *shown(const struct mu_policy_plan *plan)
{
    static char out[1024];
    size_t len = 0;

    out[0] = 0;
    for (unsigned i = 0; i < plan->nacts && i < 9; i++) {
        const struct mu_policy_act *a = &plan->acts[i];
        len += (size_t)snprintf(
            out + len, sizeof out - len, "%s%s %llu", i ? "; " : "",
            a->what == MU_POLICY_START     ? "start"
            : a->what == MU_POLICY_PREEMPT ? "preempt"
                                           : "drop",
            (unsigned long long)(a->what == MU_POLICY_PREEMPT ? view.runs[a->run].id : view.jobs[a->job].id));
        for (unsigned k = 0; k < a->nshares; k++)
            len += (size_t)snprintf(out + len, sizeof out - len, " %s%u:%u", k + a->nspares < a->nshares ? "" : "+",
                                    a->shares[k].node, a->shares[k].n);
    }
    for (unsigned q = 0; q < view.njobs; q++)
        if (plan->waits[q].why != MU_WHY_NOT) {
            char why[200];
            mu_policy_reason(&view.jobs[q], &plan->waits[q], why, sizeof why);
            len += (size_t)snprintf(out + len, sizeof out - len, "%s%llu: %s", len ? "; " : "",
                                    (unsigned long long)view.jobs[q].id, why);
        }
    return out;
}

static void is(const char *want, const char *what)
{
    struct mu_policy *p = mu_policy_new();
    struct mu_policy_plan plan = decided(p);
    const char *got = shown(&plan);

    TAP_OK(!strcmp(got, want), "%s: %s", what, got);
    mu_policy_free(p);
}

static void starts_and_waits(void)
{
    struct mu_policy_after after[2] = {{50, MU_AFTER_OK}, {60, MU_AFTER_PENDING}};

    fresh(0, 1);
    jobs[0].ranks = 6;
    is("start 1 0:4 1:2", "as few nodes as it takes");
    jobs[0].ranks = 3;
    runs[0].shares = &(struct mu_policy_share){2, 1};
    view.nruns = 1;
    is("start 1 2:3", "where it fits best");
    fresh(0, 1);
    jobs[0].nodes = 4;
    jobs[0].ranks = 6;
    is("start 1 0:2 1:2 2:1 3:1", "so many nodes as were asked for");
    jobs[0].nodes = 0;
    jobs[0].ppn = 2;
    is("start 1 0:2 1:2 2:2", "so many ranks a node at most");
    fresh(0, 1);
    jobs[0].nodes = 2;
    jobs[0].spares = 1;
    is("start 1 0:2 1:2 +2:2", "with a spare node");
    fresh(0, 1);
    jobs[0].ranks = 10;
    jobs[0].spares = 1;
    is("start 1 0:4 1:4 2:2 +3:4", "with a spare for the largest share");
    fresh(0, 1);
    jobs[0].need[MU_RES_GPUS] = 1;
    is("start 1 3:4", "where the GPUs are");
    jobs[0].ranks = 5;
    is("1: waiting for 5 slots with 1 GPU each: the nodes that are up have no room for it", "more than there are");
    fresh(0, 1);
    jobs[0].label = "gpu";
    is("start 1 3:4", "on a node with its label");
    jobs[0].label = "rack";
    is("1: waiting for 4 slots with label rack: the nodes that are up have no room for it", "part of a label is none");
    fresh(0, 1);
    jobs[0].only = (const uint32_t[]){1, 2};
    jobs[0].nonly = 2;
    is("start 1 1:4", "on nodes that it has named");
    nodes[1].usable = false;
    nodes[2].busy_until = NOW + MU_SEC;
    is("1: waiting for 4 slots: 8 are free, but not where it needs them", "not on one that is down or busy yet");
    fresh(0, 2);
    jobs[0].held = true;
    is("start 2 0:4; 1: held; `muster release 1` lets it go", "one that is held is passed");
    fresh(0, 1);
    jobs[0].after = after;
    jobs[0].nafter = 2;
    is("1: waiting for job 60 to complete", "one that waits for another");
    after[1].state = MU_AFTER_OK;
    is("start 1 0:4", "and starts when that has completed");
    after[1].state = MU_AFTER_FAILED;
    is("drop 1", "or never will");
    fresh(0, 1);
    set.spare_nodes = 2;
    jobs[0].ranks = 9;
    is("1: waiting for 9 slots: the nodes that are up have no room for it", "the pool's spare nodes are not used");
}

static void backfill(void)
{
    struct mu_policy *p = mu_policy_new();
    struct mu_policy_plan plan;

    fresh(3, 3); /* one node is free; the first job wants two, in an hour */
    jobs[0].ranks = 8;
    jobs[1].limit_ns = 2 * H;
    jobs[1].ranks = 2;
    jobs[2].limit_ns = H / 2;
    jobs[2].ranks = 1;
    plan = decided(p);
    const char *got = shown(&plan);
    TAP_OK(!strcmp(got,
                   "start 3 3:1; 1: waiting for 8 slots, 3 of 16 are free; 2: waiting behind job 1, which has been "
                   "promised what is free"),
           "a short job starts before those that it does not delay: %s", got);
    TAP_OK(plan.waits[0].promised >= NOW + H && plan.waits[0].promised < NOW + H + H / 8,
           "the first is promised a start in an hour");
    TAP_OK(plan.next == plan.waits[0].promised, "and it is looked at again then");
    mu_policy_free(p);

    p = mu_policy_new();
    fresh(4, 1);
    runs[3].ends = 0;
    jobs[0].ranks = 16;
    plan = decided(p);
    TAP_OK(plan.waits[0].promised >= NOW + 23 * H && plan.waits[0].promised < NOW + 27 * H,
           "a job without a limit is taken to run for a day");
    mu_policy_free(p);
}

static void order(void)
{
    fresh(3, 2);
    is("start 1 3:4; 2: waiting for 4 slots, 0 of 16 are free", "who came first is first");
    jobs[1].priority = 1;
    is("start 2 3:4; 1: waiting for 4 slots, 0 of 16 are free", "unless the other has a higher priority");
    jobs[1].priority = 0;
    users[0].usage = 3;
    is("start 2 3:4; 1: waiting for 4 slots, 0 of 16 are free", "or a user who has had less");
    users[0].share = 3;
    is("start 1 3:4; 2: waiting for 4 slots, 0 of 16 are free", "of the share that is his");
    jobs[0].since = NOW - 500 * H;
    users[0].share = 1;
    is("start 1 3:4; 2: waiting for 4 slots, 0 of 16 are free", "but waiting outweighs all of it");
}

static void preemption(void)
{
    fresh(4, 1);
    jobs[0].priority = 1;
    for (unsigned i = 0; i < 4; i++)
        runs[i].preemptible = true;
    runs[1].ckpt_at = NOW - 60 * MU_SEC;
    runs[2].ckpt_at = NOW - H;
    is("1: waiting for 4 slots, 0 of 16 are free", "nobody is preempted where that is off");
    set.preempt = MU_PREEMPT_ON;
    is("preempt 101; 1: jobs of lower priority make room for it", "the one whose checkpoint is young");
    jobs[0].priority = 0;
    is("1: waiting for 4 slots, 0 of 16 are free", "for a higher priority alone");
    jobs[0].priority = 1;
    runs[1].preemptible = false;
    is("1: waiting for 4 slots, 0 of 16 are free", "none that may not be");
    set.preempt = MU_PREEMPT_FORCE;
    runs[3].started = NOW - MU_SEC;
    is("preempt 103; 1: jobs of lower priority make room for it", "or, when that is forced, the one that ran shortest");
    jobs[0].ranks = 16;
    is("1: waiting for 16 slots, 0 of 16 are free", "nobody where it is no use");
    runs[3].ending = true;
    jobs[0].ranks = 4;
    is("1: waiting for 4 slots, 0 of 16 are free", "while others end it is waited for them");
}

static void settings(void)
{
    static const struct {
        const char *text, *why;
    } rows[] = {
        {"", NULL},
        {"# nothing\n\n  half-life = 2d # two days\n", NULL},
        {"depth=7\r\n", NULL},
        {"half-life = 2 weeks\n",
         "policy:1:13: '2 weeks' is not a time such as 90s, 10m, 36h or 7d, 1m00s to 3650d00h"},
        {"\n  deep = 4\n", "policy:2:3: there is no setting 'deep'; the nearest is 'depth'"},
        {"depth = 0\n", "policy:1:9: '0' is not a number, 1 to 10000"},
        {"preempt = yes", "policy:1:11: 'yes' is none of off, on and force"},
        {"depth 4", "policy:1:1: 'depth 4' has no '='; a line is: setting = value, or: share USER = number"},
        {"share ann = 2\nshare bob = many", "policy:2:13: 'many' is not a share: a number from 0 to 1000000, others "
                                            "have 1"},
        {"share ann = 2\nshare ann = 3", "policy:2:7: user 'ann' has a share already"},
        {"share  = 3", "policy:1:1: there is no setting 'share'; the nearest is"},
        {"\x1b[2J = 1", "policy:1:1: there is no setting '\\x1b[2J'"},
    };
    struct mu_err err;

    fresh(0, 0);
    for (size_t i = 0; i < MU_COUNT(rows); i++) {
        int rc = mu_policy_parse("policy", rows[i].text, strlen(rows[i].text), &set, &err);
        TAP_OK(!rc == !rows[i].why && (!rc || !strncmp(err.text, rows[i].why, strlen(rows[i].why))), "%s",
               rc ? err.text : "it is taken");
    }
    TAP_OK(mu_policy_parse("policy", "a\0b", 3, &set, &err) && strstr(err.text, "policy:1:1:"), "%s", err.text);
    char longer[1100];
    memset(longer, 'x', sizeof longer);
    TAP_OK(mu_policy_parse("policy", longer, sizeof longer, &set, &err) && strstr(err.text, "policy:1:1:"), "%s",
           err.text);
    static const char all[] = "half-life = 1d\nshare-weight = 2d\npriority-step=3h\nassumed-limit=4h\nreplan=5s\n"
                              "depth=6\nspare-nodes=7\npreempt=force\npreempt-after=8s\npreempt-checkpoint-age=9s\n"
                              "share ann = 2.5\nshare default = 0.5\n";
    TAP_OK(!mu_policy_parse("policy", all, strlen(all), &set, &err) && set.half_life_ns == 24 * H &&
               set.share_weight_ns == 48 * H && set.priority_step_ns == 3 * H && set.assumed_limit_ns == 4 * H &&
               set.replan_ns == 5 * MU_SEC && set.depth == 6 && set.spare_nodes == 7 &&
               set.preempt == MU_PREEMPT_FORCE && set.preempt_after_ns == 8 * MU_SEC &&
               set.preempt_ckpt_ns == 9 * MU_SEC && fabs(mu_policy_share(&set, "ann") - 2.5) < 1e-9 &&
               fabs(mu_policy_share(&set, "bob") - 0.5) < 1e-9,
           "all settings");
    TAP_OK(mu_policy_parse("policy", "depth = x", 9, &set, &err) && set.depth == 6, "a bad file changes nothing");
}

static void usage(void)
{
    struct mu_usage u = {0};

    mu_usage_rate(&u, H, NOW, 10);
    mu_usage_rate(&u, H, NOW + MU_SEC, 0);
    TAP_OK(fabs(mu_usage_get(&u, H, NOW + MU_SEC) - 10) < 0.01, "10 slots for a second");
    TAP_OK(fabs(mu_usage_get(&u, H, NOW + H) - 5) < 0.01, "are half of it after the half-life");
    mu_usage_rate(&u, H, NOW + 100 * H, 1);
    TAP_OK(fabs(mu_usage_get(&u, H, NOW + 1000 * H) - 3600 / log(2)) < 0.1, "a slot in use for ever comes to a rest");
}

int main(void)
{
    starts_and_waits();
    backfill();
    order();
    preemption();
    settings();
    usage();
    mu_policy_settings_free(&set);
    return tap_done();
}
