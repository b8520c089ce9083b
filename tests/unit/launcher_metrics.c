/* Metrics: what the core counts and tells, and text that a strict reader of the exposition format takes, whatever
 * names are made of. */
#include <math.h>

#include "launcher/core/metrics.h"
#include "launcher/metrics_text.h"
#include "runtime/base/clean.h"
#include "tests/unit/ctl_help.h"
#include "tests/unit/tap.h"

static void note(const struct mu_act *a)
{
    (void)a;
}

/* --- a reader of the format: a family is its HELP, its TYPE and its samples, once and in one place ------------------
 */

enum { FAMILIES_MAX = 200 };
struct reading {
    char seen[FAMILIES_MAX][80];
    unsigned families, samples;
    char wrong[300];
};

static bool name_char(char c, bool first)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (!first && c >= '0' && c <= '9');
}

static size_t name_len(const char *s)
{
    size_t n = 0;

    while (name_char(s[n], !n))
        n++;
    return n;
}

/* Behind the labels; NULL: they are none. */
static const char *labels(const char *s)
{
    if (*s != '{')
        return s;
    do {
        size_t n = name_len(++s);
        if (!n || s[n] != '=' || s[n + 1] != '"')
            return NULL;
        for (s += n + 2; *s != '"'; s++) {
            if ((unsigned char)*s < ' ' || (*s == '\\' && !strchr("\\\"n", *++s)))
                return NULL;
        }
        s++;
    } while (*s == ',');
    return *s == '}' ? s + 1 : NULL;
}

static bool sample(struct reading *r, const char *family, const char *s)
{
    size_t n = name_len(s);
    char *end;

    if (n != strlen(family) || strncmp(s, family, n) != 0 || !(s = labels(s + n)) || *s++ != ' ')
        return false;
    double v = strtod(s, &end);
    r->samples++;
    return end > s && !*end && !isnan(v);
}

static bool read_text(char *text, struct reading *r)
{
    char family[80] = "", help[80] = "";

    memset(r, 0, sizeof *r);
    if (!*text || text[strlen(text) - 1] != '\n')
        return false;
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
        *end = 0;
        char kind[16];
        int at = 0;
        bool good = true;
        if (sscanf(line, "# HELP %79s %n", help, &at) == 1 && at) {
            good = line[at] != 0;
            *family = 0;
        } else if (sscanf(line, "# TYPE %79s %15s", family, kind) == 2) {
            size_t n = strlen(family);
            bool total = n > 6 && !strcmp(family + n - 6, "_total");
            good = !strcmp(family, help) && (!strcmp(kind, "counter") ? total : !strcmp(kind, "gauge") && !total);
            for (unsigned i = 0; i < r->families; i++)
                good = good && strcmp(r->seen[i], family) != 0;
            snprintf(r->seen[r->families++ % FAMILIES_MAX], 80, "%s", family);
        } else {
            good = *family && sample(r, family, line);
        }
        if (!good) {
            snprintf(r->wrong, sizeof r->wrong, "%s", line);
            return false;
        }
    }
    return r->families <= FAMILIES_MAX;
}

/* --- what the core says ---------------------------------------------------------------------------------------------
 */

static char *text_now(void)
{
    struct mu_buf b = {0};
    struct mu_metrics m;

    if (mu_ctl_metrics(ctl, now, now, &m))
        exit(99);
    m.started_wall = 1700000000.5;
    m.cpu_seconds = -1;
    m.backup_age = 77;
    m.backup_failures = -1;
    m.backup_every = 3600;
    mu_metrics_text(&m, &b);
    mu_metrics_free(&m);
    return mu_buf_take(&b);
}

/* Whether the text has the line; NULL: whether no line begins so. */
static void has(const char *line, bool wanted)
{
    mu_auto_free char *text = text_now();
    size_t n = strlen(line);
    bool found = false;

    for (char *s = text; s && !found; s = (s = strchr(s, '\n')) ? s + 1 : NULL)
        found = !strncmp(s, line, n) && (!wanted || s[n] == '\n');
    TAP_OK(found == wanted, "%s%s", wanted ? "" : "not: ", line);
}

static void report(mu_conn agent, char *node, uint64_t job, struct mu_m_report m)
{
    m.job = job;
    m.node = node;
    hear(agent, MU_MSG_report, &m);
}

static void pool(void)
{
    static char h1[] = "h1", h2[] = "h2", name[] = "a \"b\\\n\xff{}", user[] = "u";
    mu_conn a1 = join_as(h1, 2), a2 = join_as(h2, 4), client = up("client");

    has("muster_slots 6", true);
    has("muster_node_state{node=\"h1\",state=\"up\"} 1", true);
    has("muster_node_slots{node=\"h2\"} 4", true);
    has("muster_node_heartbeat_age_seconds{node=\"h2\"} 0", true);
    has("muster_jobs{state=\"running\"} 0", true);
    has("muster_job_info", false);
    has("muster_controller_cpu_seconds_total", false);
    has("muster_backup_age_seconds 77", true);
    has("muster_backup_interval_seconds 3600", true);
    has("muster_backup_failures_total", false);
    has("muster_controller_start_time_seconds 1700000000.5", true);

    hand_in(client, "t1", (struct mu_m_spec){.name = name, .user = user, .ranks = 6, .restarts_plus1 = 4});
    uint64_t job = newest_job()->id;
    has("muster_slots_used 6", true);
    has("muster_jobs{state=\"starting\"} 1", true);
    has("muster_job_info{job_id=\"1\",name=\"a \\\"b\\\\\\\\n\\\\xff{}\",user=\"u\"} 1", true);
    has("muster_job_step{", false);
    has("muster_job_checkpoint_age_seconds{", false);
    has("muster_events_total{kind=\"attempt-start\"} 1", true);

    hand_in(client, "t2", (struct mu_m_spec){.name = user, .user = user, .ranks = 3});
    now += 30 * MU_SEC;
    has("muster_jobs{state=\"queued\"} 1", true);
    has("muster_queue_oldest_wait_seconds 30", true);
    has("muster_queue_ranks 3", true);
    has("muster_job_state{job_id=\"2\"", false);

    struct mu_m_report m = {.attempt = 1, .phase = MU_PHASE_RUNNING, .keeper = 1, .seq = 1};
    m.njoined = 2, m.steps = 5, m.step = 104, m.first_step_wall = now, m.ckpt_plus1 = 101;
    report(a1, h1, job, m);
    m.njoined = 4, m.steps = 4, m.step = 103;
    report(a2, h2, job, m);
    now += 8 * MU_SEC;
    has("muster_job_state{job_id=\"1\",state=\"running\"} 1", true);
    has("muster_job_ranks_joined{job_id=\"1\"} 6", true);
    has("muster_job_step{job_id=\"1\"} 103", true);
    has("muster_job_steps_total{job_id=\"1\"} 4", true);
    has("muster_job_stepping_seconds_total{job_id=\"1\"} 8", true);
    has("muster_job_step_seconds{job_id=\"1\"} 2", true);
    has("muster_job_running_seconds_total{job_id=\"1\"} 38", true);
    has("muster_job_checkpoint_step{job_id=\"1\"} 100", true);
    has("muster_job_checkpoint_age_seconds{job_id=\"1\"} 8", true);
    has("muster_job_restarts_total{job_id=\"1\"} 0", true);

    /* what it costs: of all ranks, and of the slowest */
    has("muster_job_operations_total{job_id=\"1\"} 0", true);
    has("muster_job_save_last_seconds{", false);
    m.seq = 2, m.ops = 100, m.op_bytes = 5000, m.saves = 1, m.save_ns = m.save_last_ns = 2 * MU_SEC, m.ckpt_bytes = 70;
    report(a2, h2, job, m);
    m.ops = 50, m.op_bytes = 500, m.saves = 2, m.save_ns = 3 * MU_SEC, m.save_last_ns = MU_SEC, m.ckpt_bytes = 7;
    report(a1, h1, job, m);
    report(a1, h1, job, m);
    has("muster_job_operations_total{job_id=\"1\"} 150", true);
    has("muster_job_operation_bytes_total{job_id=\"1\"} 5500", true);
    has("muster_job_saves_total{job_id=\"1\"} 2", true);
    has("muster_job_save_seconds_total{job_id=\"1\"} 3", true);
    has("muster_job_save_last_seconds{job_id=\"1\"} 1", true);
    has("muster_job_checkpoint_bytes_total{job_id=\"1\"} 77", true);

    /* how its nodes are */
    /* the third has no numbers */
    static char e0[] = "eth0", ib[] = "ib0";
    uint32_t counts[] = {1, 1, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0, 7, 0, 8, 0, 9, 0, 10, 0, 11, 0, 12, 0};
    has("muster_node_load1{", false);
    static char nvme[] = "nvme0n1", odd[] = "d\"\n";
    uint32_t io[] = {1, 1, 2, 0, 3500, 0, 4, 0, 5, 0, 6, 0, 7, 0, 8, 0, 9, 0};
    has("muster_node_network_receive_bytes_total{", false);
    has("muster_node_disk_read_bytes_total{", false);
    hear(a2, MU_MSG_vitals,
         &(struct mu_m_vitals){.load_milli = 1500,
                               .busy_ns = 90 * MU_SEC,
                               .home_size = 100,
                               .home_free = 7,
                               .nics = (char *[]){e0, ib, ib, NULL},
                               .nic_counts = {.v = counts, .n = MU_COUNT(counts)},
                               .disks = (char *[]){nvme, odd, nvme, NULL},
                               .disk_counts = {.v = io, .n = MU_COUNT(io)}});
    has("muster_node_disk_read_bytes_total{node=\"h2\",device=\"nvme0n1\"} 4294967297", true);
    has("muster_node_disk_written_bytes_total{node=\"h2\",device=\"d\\\"\\\\n\"} 5", true);
    has("muster_node_disk_busy_seconds_total{node=\"h2\",device=\"nvme0n1\"} 3.5", true);
    has("muster_node_disk_busy_seconds_total{node=\"h2\",device=\"nvme0n1\"} 0.009", false);
    has("muster_node_network_receive_bytes_total{node=\"h2\",interface=\"eth0\"} 4294967297", true);
    has("muster_node_network_transmit_drops_total{node=\"h2\",interface=\"ib0\"} 12", true);
    has("muster_node_network_receive_errors_total{node=\"h1\"", false);
    has("muster_node_load1{node=\"h2\"} 1.5", true);
    has("muster_node_cpu_seconds_total{node=\"h2\"} 90", true);
    has("muster_node_disk_free_bytes{node=\"h2\",disk=\"home\"} 7", true);
    has("muster_node_disk_size_bytes{node=\"h2\",disk=\"run\"}", false);
    has("muster_node_memory_free_bytes{", false);

    /* what it is made of */
    static char key[] = "kernel", old[] = "6.1", new[] = "6.2", hosts[] = "h2:*", *keys[] = {key, NULL};
    has("muster_node_drift{", false);
    hear(a2, MU_MSG_inventory, &(struct mu_m_inventory){.keys = keys, .values = (char *[]){old, NULL}});
    hear(client, MU_MSG_approve, &(struct mu_m_approve){.hosts = hosts, .by = user, .why = user});
    has("muster_node_drift{node=\"h2\"} 0", true);
    hear(a2, MU_MSG_inventory, &(struct mu_m_inventory){.keys = keys, .values = (char *[]){new, NULL}});
    has("muster_node_drift{node=\"h2\"} 1", true);
    has("muster_node_drift{node=\"h1\"}", false);
    has("muster_events_total{kind=\"node-changed\"} 1", true);

    /* a node falls silent */
    step((struct mu_ev){.kind = MU_EV_DOWN, .conn = a2, .status = MU_DOWN_SILENT, .at = now});
    has("muster_node_up{node=\"h2\"} 0", true);
    has("muster_node_load1{", false);
    has("muster_node_state{node=\"h2\",state=\"away\"} 1", true);
    has("muster_slots 2", true);
    for (unsigned i = 0; i < 20; i++) {
        now += 500 * MU_MS;
        step((struct mu_ev){.kind = MU_EV_TIME});
    }
    has("muster_node_state{node=\"h2\",state=\"lost\"} 1", true);
    has("muster_node_heartbeat_age_seconds{node=\"h2\"} 10", true);
    has("muster_events_total{kind=\"node-lost\"} 1", true);
    m.phase = MU_PHASE_GONE, m.seq = 9;
    report(a1, h1, job, m);
    has("muster_job_failures_total{job_id=\"1\"} 1", true);
    has("muster_job_stepping_seconds_total{job_id=\"1\"} 8", true); /* until its node was heard of last */

    /* its end takes its families along */
    hear(client, MU_MSG_cancel, &(struct mu_m_cancel){.job = job, .force = 1});
    now += 30 * MU_SEC;
    step((struct mu_ev){.kind = MU_EV_TIME});
    has("muster_jobs_ended_total{state=\"cancelled\"} 1", true);
    has("muster_job_info{job_id=\"1\"", false);
    has("muster_job_steps_total{job_id=\"1\"", false);

    hear(a1, MU_MSG_vitals, &(struct mu_m_vitals){.load_milli = 1000, .memory_free = 500});
    has("muster_node_memory_free_bytes{node=\"h1\"} 500", true);
    has("muster_node_load1{node=\"h1\"} 1", true);
    now += 61 * MU_SEC;
    has("muster_node_load1{", false);
}

/* --- anything at all is a text that can be read ---------------------------------------------------------------------
 */

static uint64_t seed = 88172645463325252ull;

static uint64_t dice(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    return seed ^= seed << 17;
}

static double any(void)
{
    static const double odd[] = {0, -1, 1, 0.1, 1e-9, 1e15, 1e300, 123456789.25, 9007199254740993.0};

    return odd[dice() % MU_COUNT(odd)];
}

static void hostile(char *out, size_t n)
{
    static const char *const bits[] = {"\"",
                                       "\\",
                                       "\n",
                                       "\r",
                                       "}",
                                       " ",
                                       "# TYPE x y\n",
                                       "\xff",
                                       "\xe2\x82",
                                       "\xe2\x82\xac",
                                       "\x1b[31m",
                                       "a",
                                       "\xe2\x80\xae",
                                       "{b=\"c\"} 1\n",
                                       "\t",
                                       "\\n",
                                       "\x7f"};
    size_t len = 0;

    for (unsigned k = dice() % 60; k; k--) {
        const char *bit = bits[dice() % MU_COUNT(bits)];
        if (len + strlen(bit) + 1 > n)
            break;
        memcpy(out + len, bit, strlen(bit));
        len += strlen(bit);
    }
    out[len] = 0;
}

static void anything(void)
{
    enum { N = 7 };
    static struct mu_node nodes[N];
    static char names[N][400], users[N][400];
    static const char *const kinds[] = {"one", "two", NULL};
    unsigned bad = 0, rounds = 3000;
    struct reading r;

    for (unsigned round = 0; round < rounds && bad < 3; round++) {
        struct mu_metrics_node mn[N];
        struct mu_metrics_job mj[N];
        for (unsigned i = 0; i < N; i++) {
            hostile(nodes[i].name, sizeof nodes[i].name);
            hostile(names[i], sizeof names[i]);
            hostile(users[i], sizeof users[i]);
            nodes[i].state = (enum mu_node_state)(dice() % 7);
            nodes[i].gpus = dice() % 3;
            nodes[i].memory = dice() % 2 ? dice() >> 14 : 0;
            nodes[i].checked_wall = dice() % 2;
            mn[i] = (struct mu_metrics_node){.node = &nodes[i], .heard_age = any()};
            mj[i] = (struct mu_metrics_job){.id = dice(),
                                            .name = names[i],
                                            .user = users[i],
                                            .state = dice() % 12,
                                            .attempt = 1 + (uint32_t)dice() % 9,
                                            .step = any(),
                                            .ckpt_age = any(),
                                            .steps_done = any(),
                                            .stepping = any(),
                                            .running = any()};
        }
        struct mu_metrics m = {.nodes = mn,
                               .jobs = mj,
                               .nnodes = dice() % (N + 1),
                               .njobs = dice() % (N + 1),
                               .kinds = kinds,
                               .version = names[0],
                               .host = users[0],
                               .cpu_seconds = any(),
                               .resident = any(),
                               .oldest_wait = any()};
        mu_auto_buf struct mu_buf b = {0};
        mu_metrics_text(&m, &b);
        unsigned lines = 0;
        for (size_t i = 0; i < b.len; i++)
            lines += b.data[i] == '\n';
        if (b.failed || !read_text(b.data, &r) || lines != 2 * r.families + r.samples) {
            bad++;
            printf("# round %u: %s\n", round, r.wrong);
        }
    }
    TAP_OK(!bad, "%u snapshots of hostile names and odd numbers can be read", rounds);
    TAP_OK(r.families > 40, "with all families each time (%u)", r.families);
}

/* The reader itself refuses what is wrong. */
static void strict(void)
{
    static const char *const wrong[] = {
        "a 1\n",
        "# HELP a x\n# TYPE a gauge\na{b=\"c\n\"} 1\n",
        "# HELP a x\n# TYPE a gauge\na{b=\"c\"d\"} 1\n",
        "# HELP a x\n# TYPE a gauge\na{b=\"\\x\"} 1\n",
        "# HELP a x\n# TYPE a gauge\na 1\nb 1\n",
        "# HELP a x\n# TYPE a gauge\na 1",
        "# HELP a x\n# TYPE a counter\na 1\n",
        "# HELP a x\n# TYPE a gauge\na 1\n# HELP a x\n# TYPE a gauge\na 2\n",
        "# HELP a x\n# TYPE a gauge\na nothing\n",
    };

    for (size_t i = 0; i < MU_COUNT(wrong); i++) {
        mu_auto_free char *copy = strdup(wrong[i]);
        struct reading r;
        TAP_OK(!read_text(copy, &r), "the reader refuses text %zu that is wrong", i);
    }
}

static void many(void)
{
    static char user[] = "u", node[] = "big";
    mu_conn client = up("client");
    char token[32];

    join_as(node, 4000);
    for (unsigned i = 0; i < MU_METRICS_JOBS + 5; i++) {
        snprintf(token, sizeof token, "m%u", i);
        hand_in(client, token, (struct mu_m_spec){.name = user, .user = user, .ranks = 1});
    }
    mu_auto_free char *text = text_now();
    unsigned shown = 0;
    for (const char *s = text; (s = strstr(s, "\nmuster_job_ranks{")); s++)
        shown++;
    TAP_OK(shown == MU_METRICS_JOBS, "no more than %u jobs have families of their own (%u)", MU_METRICS_JOBS, shown);
    has("muster_jobs{state=\"starting\"} 1005", true);
    has("muster_jobs_not_shown 5", true);
}

int main(void)
{
    struct mu_ctl_config cfg = {
        .incarnation = 1, .restarts = 3, .node = "h1", .log_root = "/logs", .ckpt_root = "/ckpt", .version = "0"};

    ctl = mu_ctl_new(&cfg);
    pool();
    free_ctl();
    memset(&acts, 0, sizeof acts);
    ctl = mu_ctl_new(&cfg);
    many();
    free_ctl();
    strict();
    anything();
    return tap_done();
}
