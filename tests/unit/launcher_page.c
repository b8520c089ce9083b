/* The status page: what it says of a pool, that names stay text in it, and how it bears a large one. */
#include <jansson.h>
#include <math.h>

#include "launcher/page/files.h"
#include "launcher/page/text.h"
#include "launcher/page/view.h"
#include "runtime/base/clean.h"
#include "tests/unit/ctl_help.h"
#include "tests/unit/tap.h"

static void note(const struct mu_act *a)
{
    (void)a;
}

/* --- text -----------------------------------------------------------------------------------------------------------
 */

static void texts(void)
{
    static const struct {
        const char *in, *html, *json;
    } rows[] = {
        {"", "", "\"\""},
        {NULL, "", "\"\""},
        {"bert-7", "bert-7", "\"bert-7\""},
        {"<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;", "\"<script>alert(1)</script>\""},
        {"\"'&", "&quot;&#39;&amp;", "\"\\\"'&\""},
        {"&lt;", "&amp;lt;", "\"&lt;\""},
        {"a\nb\033[1m", "a\\nb\\x1b[1m", "\"a\\\\nb\\\\x1b[1m\""},
        {"\xff\xe2\x82", "\\xff\\xe2\\x82", "\"\\\\xff\\\\xe2\\\\x82\""},
        {"\xe2\x82\xac", "\xe2\x82\xac", "\"\xe2\x82\xac\""},
        {"\xe2\x80\xae", "\\xe2\\x80\\xae", "\"\\\\xe2\\\\x80\\\\xae\""},
    };

    for (size_t i = 0; i < MU_COUNT(rows); i++) {
        mu_auto_buf struct mu_buf h = {0}, j = {0};
        mu_page_html(&h, rows[i].in);
        mu_page_json(&j, rows[i].in);
        TAP_OK(!strcmp(mu_buf_str(&h), rows[i].html), "HTML: %s", rows[i].html);
        TAP_OK(!strcmp(mu_buf_str(&j), rows[i].json), "JSON: %s", rows[i].json);
    }
    char *longer = malloc(5000);
    mu_auto_buf struct mu_buf h = {0};
    memset(longer, '<', 4999);
    longer[4999] = 0;
    mu_page_html(&h, longer);
    TAP_OK(h.len < 4 * (size_t)MU_PAGE_TEXT && !strcmp(h.data + h.len - 3, "..."), "a long one is cut");
    free(longer);
}

/* --- over time ------------------------------------------------------------------------------------------------------
 */

static void trends(void)
{
    static struct mu_trend r = {.every = 1};
    bool sorted = true;

    TAP_OK(mu_trend_rate(&r) < 0, "without points no rate is known");
    mu_trend_add(&r, 0, 0, 1);
    TAP_OK(mu_trend_rate(&r) < 0, "with one neither");
    for (unsigned i = 1; i <= 10000; i++)
        mu_trend_add(&r, i * 5.0, i * 20.0, 1 + (i > 5000));
    for (unsigned i = 1; i < r.n; i++)
        sorted = sorted && r.v[i].t > r.v[i - 1].t && fabs(r.v[i].t - r.v[i - 1].t - 5.0 * r.every) < 1e-6;
    TAP_OK(r.n <= MU_TREND_POINTS && r.n >= MU_TREND_POINTS / 2 && sorted && r.v[0].t == 0,
           "ten thousand points are at most %d, evenly apart, from the first one on (%u)", MU_TREND_POINTS, r.n);
    TAP_OK(r.v[r.n - 1].t > 50000 - 5.0 * r.every - 1e-6, "up to the newest");
    TAP_OK(fabs(mu_trend_rate(&r) - 4) < 1e-9, "the rate is that of the newest");
    mu_trend_add(&r, 50005, 200010, 3);
    TAP_OK(mu_trend_rate(&r) < 0, "not across attempts");
    mu_trend_add(&r, 50010, 200012, 3);
    TAP_OK(fabs(mu_trend_rate(&r) - 0.4) < 1e-9, "but in the new one");

    struct mu_trends *t = mu_trends_new();
    static struct mu_metrics_job jobs[MU_TREND_JOBS];
    struct mu_metrics m = {.jobs = jobs, .slots_used = 3, .recoveries = 2};
    if (!t)
        exit(99);
    for (unsigned i = 0; i < MU_TREND_JOBS; i++)
        jobs[i] = (struct mu_metrics_job){.id = 2 * i + 2, .steps_done = i, .attempt = 1};
    m.njobs = 1;
    mu_trends_sample(t, &m, 1);
    m.njobs = MU_TREND_JOBS;
    m.jobs = jobs;
    jobs[0].id = 1;
    mu_trends_sample(t, &m, 2);
    TAP_OK(mu_trends_of(t, 0)->n == 2 && mu_trends_of(t, 0)->v[0].v == 3 && mu_trends_of(t, 0)->v[0].at == 2,
           "the pool's");
    TAP_OK(!mu_trends_of(t, 2) && mu_trends_of(t, 1) && mu_trends_of(t, 2ull * MU_TREND_JOBS),
           "when there are too many, the one that was not seen for longest goes");
    TAP_OK(mu_trends_of(t, 4)->v[0].v == 1 && !mu_trends_of(t, 5), "each has its own");
    mu_trends_free(t);
}

/* --- the pool -------------------------------------------------------------------------------------------------------
 */

static struct mu_trends *kept;
static bool words;
static const struct mu_page_event *happened;
static unsigned nhappened;

static void make(uint64_t id, bool json, struct mu_buf *out)
{
    struct mu_page_view v;
    struct mu_page_job j;

    mu_buf_clear(out);
    if (mu_page_view_make(ctl, now, now, &v))
        exit(99);
    v.host = "here<&>";
    v.words = words;
    v.trends = kept;
    v.nevents = nhappened;
    if (nhappened)
        memcpy(v.events, happened, nhappened * sizeof *happened);
    if (!id) {
        (json ? mu_page_json_pool : mu_page_html_pool)(&v, out);
    } else if (!mu_page_job_find(ctl, &v, id, &j)) {
        (json ? mu_page_json_job : mu_page_html_job)(&v, &j, out);
        free(j.parts);
    }
    mu_page_view_free(&v);
}

static unsigned count(const char *text, const char *what)
{
    unsigned n = 0;

    for (; (text = strstr(text, what)); text++)
        n++;
    return n;
}

static void has(uint64_t id, const char *what, unsigned times)
{
    mu_auto_buf struct mu_buf b = {0};

    make(id, false, &b);
    unsigned n = count(mu_buf_str(&b), what);
    TAP_OK(n == times, "%u times in the %s: %s", times, id ? "job" : "page", what);
    if (n != times)
        printf("# %u times\n", n);
}

/* The document, for json_decref; it must be one. */
static json_t *parsed(uint64_t id)
{
    mu_auto_buf struct mu_buf b = {0};
    json_error_t e;

    make(id, true, &b);
    json_t *root = json_loadb(mu_buf_str(&b), b.len, JSON_REJECT_DUPLICATES, &e);
    if (!root)
        printf("# %s at %d: %.60s\n", e.text, e.position, e.position > 30 ? b.data + e.position - 30 : b.data);
    return root;
}

static const json_t *at(const json_t *root, const char *list, size_t i, const char *key)
{
    const json_t *o = json_object_get(root, list);

    return json_object_get(json_is_array(o) ? json_array_get(o, i) : o, key);
}

static double num(const json_t *root, const char *list, size_t i, const char *key)
{
    const json_t *v = at(root, list, i, key);

    return json_is_number(v) ? json_number_value(v) : -99;
}

static bool str(const json_t *root, const char *list, size_t i, const char *key, const char *want)
{
    const char *s = json_string_value(at(root, list, i, key));

    return s && !strcmp(s, want);
}

static void report(mu_conn agent, char *node, uint64_t job, struct mu_m_report m)
{
    m.job = job;
    m.node = node;
    hear(agent, MU_MSG_report, &m);
}

static void pool(void)
{
    static char h1[] = "h1", h2[] = "h2", name[] = "<script>\"x\"\n\xff", user[] = "u";
    static const struct mu_page_event event = {
        .job = 1, .attempt = 1, .rank = 3, .kind = "hang", .node = "h<2>", .detail = "</td><img src=x>"};

    has(0, "There are no nodes.", 1);
    has(0, "Nothing runs.", 1);
    has(0, "here&lt;&amp;&gt;", 2);
    has(0, "id=running hidden", 1);
    has(0, "<script", 1);
    has(0, "style=", 0);
    mu_conn a1 = join_as(h1, 2), a2 = join_as(h2, 4), client = up("client");
    hand_in(client, "t1", (struct mu_m_spec){.name = name, .user = user, .ranks = 6, .restarts_plus1 = 4});
    hand_in(client, "t2", (struct mu_m_spec){.name = user, .user = user, .ranks = 3});
    struct mu_m_report m = {.attempt = 1, .phase = MU_PHASE_RUNNING, .keeper = 1, .seq = 1};
    m.njoined = 2, m.steps = 5, m.step = 104, m.first_step_wall = now, m.ckpt_plus1 = 101;
    has(1, "<dd id=sum-save>-<", 1);
    m.saves = 4, m.save_ns = MU_SEC, m.save_last_ns = 250 * MU_MS;
    report(a1, h1, 1, m);
    m.njoined = 3, m.steps = 4, m.step = 103;
    report(a2, h2, 1, m);
    kept = mu_trends_new();
    for (unsigned i = 0; i < 4; i++) {
        struct mu_metrics shot;
        if (!kept || mu_ctl_metrics(ctl, now, now, &shot))
            exit(99);
        mu_trends_sample(kept, &shot, (double)now / 1e9);
        mu_metrics_free(&shot);
        now += 5 * MU_SEC;
        m.steps += 10, m.step += 10, m.seq++;
        m.njoined = 2;
        report(a1, h1, 1, m);
        m.njoined = 3;
        report(a2, h2, 1, m);
    }
    happened = &event;
    nhappened = 1;

    has(0, "<li class=\"up f10\" title=\"h2: up, 4 of 4 slots used\">", 1);
    has(0, "<dd id=sum-slots>6 of 6<", 1);
    has(0, "All of them are well.", 1);
    has(0, "&lt;script&gt;&quot;x&quot;\\n\\xff", 1);
    has(0, "5 of 6", 1);
    has(0, "<td class=n>143<td class=n>2.00", 1);
    has(0, "<b class=\"s queued\">queued</b>", 1);
    has(0, "<td>hang<td><a href=\"/job/1\">1</a><td class=m>1<td>3<td>h&lt;2&gt;</tr>", 1);
    has(0, "img src", 0);
    has(0, "<script", 1);
    has(1, "<tr><td>0-1<td>h1<td class=m>up<td><b class=\"s running\">running</b><td class=n>2 of 2", 1);
    has(1, "<tr><td>2-5<td>h2", 1);
    has(1, "<dd id=sum-step>143<", 1);
    has(1, "<dd id=sum-rate>2.00<", 1);
    has(1, "<dd id=sum-checkpoint>100<", 1);
    has(1, "<dd id=sum-save>0.25 s, 5.0 %<", 1);
    has(1, "id=reason", 0);
    has(9, "<", 0);

    json_t *r = parsed(0);
    TAP_OK(r && str(r, "nodes", 1, "name", "h2") && num(r, "nodes", 1, "used") == 4 && !at(r, "nodes", 0, "odd"),
           "nodes");
    TAP_OK(str(r, "running", 0, "name", "<script>\"x\"\\n\\xff") && num(r, "running", 0, "step") == 143 &&
               num(r, "running", 0, "rate") == 2 && num(r, "running", 0, "joined") == 5 &&
               num(r, "running", 0, "save_s") == 1 && num(r, "running", 0, "save_last_s") == 0.25,
           "what runs");
    TAP_OK(num(r, "waiting", 0, "id") == 2 && num(r, "waiting", 0, "ranks") == 3 && !at(r, "waiting", 0, "reason"),
           "what waits");
    TAP_OK(str(r, "events", 0, "kind", "hang") && num(r, "events", 0, "rank") == 3 && !at(r, "events", 0, "detail"),
           "events");
    const json_t *line = at(r, "running", 0, "trend");
    TAP_OK(json_array_size(json_object_get(line, "t")) == 4 && json_array_size(json_object_get(line, "steps")) == 4 &&
               json_array_size(json_object_get(line, "attempt")) == 4,
           "its steps over time");
    TAP_OK(json_array_size(at(r, "trend", 0, "used")) == 4, "slots over time");
    json_decref(r);
    r = parsed(1);
    TAP_OK(r && num(r, "job", 0, "id") == 1 && num(r, "parts", 1, "first") == 2 && num(r, "parts", 1, "ranks") == 4 &&
               str(r, "parts", 1, "phase", "running") && json_array_size(at(r, "trend", 0, "steps")) == 4,
           "a job");
    json_decref(r);

    words = true;
    has(0, "&lt;/td&gt;&lt;img src=x&gt;", 1);
    has(1, "id=reason", 1);
    r = parsed(0);
    TAP_OK(str(r, "events", 0, "detail", "</td><img src=x>") && at(r, "waiting", 0, "reason"),
           "who may read words gets them");
    json_decref(r);
    words = false;

    /* a node is lost: a recovery */
    step((struct mu_ev){.kind = MU_EV_DOWN, .conn = a2, .status = MU_DOWN_SILENT, .at = now});
    has(0, "<li class=\"away f10\"", 1);
    has(0, "<td>h2<td><b class=\"s away\">away</b><td class=n>4/4<td class=n>0 s", 1);
    for (unsigned i = 0; i < 20; i++) {
        now += 500 * MU_MS;
        step((struct mu_ev){.kind = MU_EV_TIME});
    }
    has(0, "<li class=\"lost f10\"", 1); /* until its ranks elsewhere are gone */
    has(0, "<dd id=sum-nodes>1 of 2<", 1);
    m.phase = MU_PHASE_GONE, m.seq = 99;
    report(a1, h1, 1, m);
    a2 = join_as(h2, 4);
    now += 5 * MU_SEC;
    step((struct mu_ev){.kind = MU_EV_TIME});
    has(0, "<dd id=sum-recoveries>1<", 1);
    has(1, "<dd id=sum-restarts>1<", 1);
    hear(client, MU_MSG_cancel, &(struct mu_m_cancel){.job = 1, .force = 1});
    now += 30 * MU_SEC;
    step((struct mu_ev){.kind = MU_EV_TIME});
    m.attempt = 2, m.seq = 100;
    report(a1, h1, 1, m);
    report(a2, h2, 1, m);
    now += 30 * MU_SEC;
    step((struct mu_ev){.kind = MU_EV_TIME});
    r = parsed(0);
    TAP_OK(str(r, "ended", 0, "state", "cancelled"), "it has ended");
    json_decref(r);
    r = parsed(1);
    TAP_OK(str(r, "job", 0, "state", "cancelled") && !json_array_size(json_object_get(r, "parts")),
           "and is still known");
    json_decref(r);
}

static void many(void)
{
    static char names[1000][24], user[] = "u<";
    static mu_conn conns[1000];
    mu_conn client = up("client");
    mu_auto_buf struct mu_buf b = {0};

    for (unsigned i = 0; i < 1000; i++) {
        snprintf(names[i], sizeof names[i], "n<%u>", i);
        conns[i] = join_as(names[i], 1);
    }
    for (unsigned i = 0; i < 1500; i++) {
        char token[16];
        snprintf(token, sizeof token, "m%u", i);
        hand_in(client, token, (struct mu_m_spec){.name = names[i % 1000], .user = user, .ranks = 1});
    }
    unsigned nodes = mu_ctl_pool(ctl)->n;
    has(0, "<li ", nodes);
    has(0, "title=\"n&lt;7&gt;: up", 1);
    has(0, "id=map class=\"dense\"", 1);
    struct mu_metrics shot;
    if (mu_ctl_metrics(ctl, now, now, &shot))
        exit(99);
    unsigned hidden = shot.hidden;
    mu_metrics_free(&shot);
    has(0, "<td class=m>u&lt;", 1500 - hidden);
    unsigned running = 0;
    for (unsigned i = 0; i < mu_ctl_job_count(ctl); i++) {
        const struct mu_m_jobrow *r = mu_ctl_job(ctl, i, NULL);
        const struct mu_node *n = r->nodes && r->nodes[0] ? pool_node(r->nodes[0]) : NULL;
        struct mu_m_report m = {.attempt = 1, .phase = MU_PHASE_RUNNING, .keeper = 1, .seq = 1, .njoined = 1};
        m.steps = m.step = i + 1, m.first_step_wall = now;
        if (n && r->state == MU_JOB_STARTING && i % 3 == 0)
            report(n->conn, r->nodes[0], r->id, m);
        running += r->state == MU_JOB_RUNNING && running < 334;
    }
    for (unsigned i = 17; i < 1000; i += 97)
        step((struct mu_ev){.kind = MU_EV_DOWN, .conn = conns[i], .status = MU_DOWN_SILENT, .at = now});
    has(0, "<li class=\"away ", 11);
    has(0, "<b class=\"s running\">", running);
    uint64_t start = mu_now();
    make(0, false, &b);
    uint64_t html = mu_now() - start, size = b.len;
    make(0, true, &b);
    TAP_OK(html < 5 * MU_SEC && mu_now() - start < 10 * MU_SEC, "a thousand nodes and jobs");
    printf("# %.1f ms for %llu bytes of HTML, %.1f ms for %zu of JSON\n", (double)html / 1e6, (unsigned long long)size,
           (double)(mu_now() - start - html) / 1e6, b.len);
    json_t *r = parsed(0);
    TAP_OK(json_array_size(json_object_get(r, "nodes")) == nodes &&
               json_array_size(json_object_get(r, "running")) + json_array_size(json_object_get(r, "waiting")) ==
                   1500 - hidden,
           "all are in the JSON");
    json_decref(r);
}

static void files(void)
{
    const struct mu_page_file *f;
    mu_auto_buf struct mu_buf b = {0};

    for (size_t i = 0; (f = mu_page_file_at(i)); i++) {
        mu_buf_clear(&b);
        TAP_OK(f->len > 100 && !f->data[f->len] && strlen(f->data) == f->len, "%s is whole", f->path);
    }
    TAP_OK(!mu_page_file("/") && !mu_page_file("/files.c") && mu_page_file("/page.js"), "and nothing else is there");
    TAP_OK(!strstr(mu_page_file("/page.js")->data, "innerHTML") && !strstr(mu_page_file("/page.js")->data, "eval("),
           "the script makes no markup of text");
}

/* What a browser gets of the pool as it is now, for tests/cli/page.t. */
static int save(const char *dir)
{
    const struct mu_page_file *f;
    mu_auto_buf struct mu_buf b = {0};
    char path[300];

    for (size_t i = 0; i < 2 || (f = mu_page_file_at(i - 2)); i++) {
        if (i < 2)
            make(0, i == 1, &b);
        snprintf(path, sizeof path, "%s%s", dir, i == 0 ? "/index.html" : i == 1 ? "/status.json" : f->path);
        FILE *out = fopen(path, "w");
        if (!out)
            return 99;
        fwrite(i < 2 ? b.data : f->data, i < 2 ? b.len : f->len, 1, out);
        if (fclose(out))
            return 99;
    }
    return 0;
}

static void begin(const char *node)
{
    ctl = mu_ctl_new(&(struct mu_ctl_config){
        .incarnation = 7, .restarts = 3, .node = node, .log_root = "/l", .ckpt_root = "/c", .version = "0"});
    if (!ctl)
        exit(99);
}

/* With an argument: the documents of the large pool are written to that directory instead. */
int main(int argc, char **argv)
{
    if (argc > 1) {
        begin(NULL);
        many();
        return save(argv[1]);
    }
    texts();
    trends();
    files();
    begin("h1");
    pool();
    free_ctl();
    memset(&acts, 0, sizeof acts);
    begin(NULL);
    many();
    free_ctl();
    mu_trends_free(kept);
    return tap_done();
}
