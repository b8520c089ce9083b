/* Slurm's lists of nodes and counts. */
#include "launcher/slurm.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/clean.h"
#include "runtime/base/str.h"
#include "tests/unit/tap.h"

static void lists(void)
{
    static const struct {
        const char *in, *out;
    } rows[] = {
        {"n1", "n1"},
        {"n1,n2", "n1 n2"},
        {"node[1-3,7]", "node1 node2 node3 node7"},
        {"node[01-03]", "node01 node02 node03"},
        {"node[8-11]", "node8 node9 node10 node11"},
        {"node[098-101]", "node098 node099 node100 node101"},
        {"node[0-1]", "node0 node1"},
        {"node[00]", "node00"},
        {"a[1-2],b,c[3]", "a1 a2 b c3"},
        {"r[0-1]n[1-2]", "r0n1 r0n2 r1n1 r1n2"},
        {"r[0-1]-x", "r0-x r1-x"},
        {"[1-2]", "1 2"},
        {"gpu-a.example.org", "gpu-a.example.org"},
        {"", NULL},
        {",", NULL},
        {"a,", NULL},
        {"a,,b", NULL},
        {"a[", NULL},
        {"a[1", NULL},
        {"a]", NULL},
        {"a]b[1]", NULL},
        {"a[]", NULL},
        {"a[1-]", NULL},
        {"a[-1]", NULL},
        {"a[3-1]", NULL},
        {"a[1,]", NULL},
        {"a[x]", NULL},
        {"a[1-2-3]", NULL},
        {"a[[1]]", NULL},
        {"a[0-99999999]", NULL},
        {"a[0-99999999999999]", NULL},
    };

    for (size_t i = 0; i < MU_COUNT(rows); i++) {
        struct mu_err err = {0};
        char **v = NULL, text[200] = "";
        int rc = mu_slurm_expand(rows[i].in, &v, &err);
        for (size_t k = 0; v && v[k]; k++)
            snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s", k ? " " : "", v[k]);
        TAP_OK(rows[i].out ? !rc && !strcmp(text, rows[i].out) : rc == MUSTER_EARG && err.text[0], "'%s': %s",
               rows[i].in, rc ? err.text : text);
        mu_strv_free(v);
    }
    char **v = NULL;
    TAP_OK(!mu_slurm_expand("n[0-9999]", &v, NULL) && mu_strv_len(v) == 10000 && !strcmp(v[9999], "n9999"),
           "ten thousand nodes");
    mu_strv_free(v);
}

static void counts(void)
{
    static const struct {
        const char *in;
        size_t n;
        const char *out;
    } rows[] = {
        {"4", 1, "4"},         {"2(x3),1", 4, "2 2 2 1"},
        {"1,2,3", 3, "1 2 3"}, {"8(x2)", 2, "8 8"},
        {"2(x3)", 2, "2 2"},   {"2", 2, NULL},
        {"", 1, NULL},         {"x", 1, NULL},
        {"2(x0)", 1, NULL},    {"2(x", 1, NULL},
        {"2(x2", 2, NULL},     {"0", 1, NULL},
        {"-1", 1, NULL},       {"2;3", 2, NULL},
        {"2(x1)3", 2, NULL},   {"99999999", 1, NULL},
    };

    for (size_t i = 0; i < MU_COUNT(rows); i++) {
        struct mu_err err = {0};
        char text[80] = "";
        int v[8];
        int rc = mu_slurm_counts(rows[i].in, v, rows[i].n, &err);
        for (size_t k = 0; !rc && k < rows[i].n; k++)
            snprintf(text + strlen(text), sizeof text - strlen(text), "%s%d", k ? " " : "", v[k]);
        TAP_OK(rows[i].out ? !rc && !strcmp(text, rows[i].out) : rc == MUSTER_EARG, "'%s' for %zu: %s", rows[i].in,
               rows[i].n, rc ? err.text : text);
    }
}

static void allocation(void)
{
    struct mu_hosts h = {0};
    struct mu_err err;

    unsetenv("SLURM_JOB_ID");
    unsetenv("MUSTER_JOB");
    TAP_OK(!mu_slurm_inside(), "no allocation");
    setenv("SLURM_JOB_ID", "7", 1);
    setenv("SLURM_JOB_NODELIST", "n[1-3]", 1);
    TAP_OK(mu_slurm_inside(), "an allocation");
    setenv("MUSTER_JOB", "1", 1);
    TAP_OK(!mu_slurm_inside(), "but a rank within it is in a job of muster's");
    unsetenv("MUSTER_JOB");
    setenv("SLURM_TASKS_PER_NODE", "2(x2),1", 1);
    setenv("SLURM_JOB_CPUS_PER_NODE", "8(x3)", 1);
    setenv("SLURM_CPUS_ON_NODE", "5", 1);
    TAP_OK(!mu_slurm_hosts(&h, &err) && h.n == 3 && !strcmp(h.v[2].name, "n3") && h.v[0].slots == 2 &&
               h.v[2].slots == 1,
           "tasks are slots");
    mu_hosts_free(&h);
    unsetenv("SLURM_TASKS_PER_NODE");
    TAP_OK(!mu_slurm_hosts(&h, &err) && h.v[2].slots == 8, "CPUs of each node are, otherwise");
    mu_hosts_free(&h);
    unsetenv("SLURM_JOB_CPUS_PER_NODE");
    TAP_OK(!mu_slurm_hosts(&h, &err) && h.v[2].slots == 5, "or those of this one");
    mu_hosts_free(&h);
    unsetenv("SLURM_CPUS_ON_NODE");
    TAP_OK(!mu_slurm_hosts(&h, &err) && h.v[2].slots == 0, "or whatever the node has");
    mu_hosts_free(&h);
    setenv("SLURM_TASKS_PER_NODE", "2", 1);
    TAP_OK(mu_slurm_hosts(&h, &err) == MUSTER_EARG && strstr(err.text, "SLURM_TASKS_PER_NODE"), "%s", err.text);
    setenv("SLURM_JOB_NODELIST", "n[", 1);
    TAP_OK(mu_slurm_hosts(&h, &err) == MUSTER_EARG && strstr(err.text, "SLURM_JOB_NODELIST"), "%s", err.text);
}

static void ends(void)
{
    static const struct {
        int status, ended;
        const char *said, *how;
    } rows[] = {
        {0, 0, "RUNNING\n", ""},
        {0, 0, "SUSPENDED\n", ""},
        {0, 0, "A_NEW_ONE\n", ""},
        {0, 1, "COMPLETED\n", "COMPLETED"},
        {0, 1, "TIMEOUT\n", "TIMEOUT"},
        {0, 1, "COMPLETING \n", "COMPLETING"},
        {0, 0, "COMPLETED_NOT\n", ""},
        {0, 1, "", ""},
        {1 << 8, 1, "slurm_load_jobs error: Invalid job id specified\n", ""},
        {1 << 8, 0, "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n", ""},
        {1 << 8, 0, "", ""},
        {9, 0, "", ""},
        {9, 0, "COMPLETED\n", ""},
    };

    for (size_t i = 0; i < MU_COUNT(rows); i++) {
        char how[32] = "?";
        int rc = mu_slurm_has_ended(rows[i].status, rows[i].said, how);
        TAP_OK(rc == rows[i].ended && !strcmp(how, rows[i].how), "squeue says %.*s: %s",
               (int)strcspn(rows[i].said, "\n"), rows[i].said, rc ? "it has ended" : "not that it has ended");
    }
}

int main(void)
{
    lists();
    ends();
    counts();
    allocation();
    return tap_done();
}
