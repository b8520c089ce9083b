#include "launcher/metrics.h"

#include <dirent.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "launcher/backup.h"
#include "launcher/http.h"
#include "launcher/metrics_text.h"
#include "launcher/page/page.h"
#include "launcher/server.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/wire/daemon.h"

#define FRESH_NS (500 * MU_MS) /* who asks more often gets the same again, whatever the pool's size */
#define RETRY_NS (10 * MU_SEC)

struct mu_metrics_page {
    struct event_base *base;
    const struct mu_paths *paths;
    const struct mu_server *server;
    const struct mu_backup *backup;
    struct mu_http *http;
    struct mu_page *status;
    struct mu_alarm *alarm;
    char *where;
    bool told; /* why it is not served */
    uint64_t started_wall;
    struct mu_buf text;
    uint64_t made;
};

/* --- what a process knows of itself --------------------------------------------------------------------------------
 */

static double resident(void)
{
    mu_auto_buf struct mu_buf b = {0};
    unsigned long long size, pages;

    if (mu_path_read("/proc/self/statm", 4096, &b, NULL) || sscanf(mu_buf_str(&b), "%llu %llu", &size, &pages) != 2)
        return -1;
    return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

static double open_files(void)
{
    DIR *d = opendir("/proc/self/fd");
    int n = 0;

    if (!d)
        return -1;
    for (const struct dirent *e; (e = readdir(d));)
        n += *e->d_name != '.';
    closedir(d);
    return n - 1; /* that of the directory itself */
}

static double store_bytes(const struct mu_metrics_page *p)
{
    static const char *const names[] = {"jobs.db", "jobs.db-wal"};
    char path[PATH_MAX];
    double sum = -1;
    struct stat st;

    for (size_t i = 0; i < MU_COUNT(names); i++)
        if (!mu_path_join(path, sizeof path, p->paths->state, names[i], NULL) && !stat(path, &st))
            sum = (sum < 0 ? 0 : sum) + (double)st.st_size;
    return sum;
}

static void add_process(const struct mu_metrics_page *p, struct mu_metrics *m)
{
    struct statvfs v;
    struct rusage u;

    m->version = MUSTER_VERSION;
    m->host = p->paths->host;
    m->started_wall = (double)p->started_wall / 1e9;
    m->cpu_seconds = -1;
    if (!getrusage(RUSAGE_SELF, &u))
        m->cpu_seconds =
            (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
    m->resident = resident();
    m->open_files = open_files();
    m->connections = (double)mu_server_connections(p->server);
    m->store_bytes = store_bytes(p);
    m->state_size = m->state_free = -1;
    if (!statvfs(p->paths->state, &v)) {
        m->state_size = (double)v.f_blocks * (double)v.f_frsize;
        m->state_free = (double)v.f_bavail * (double)v.f_frsize;
    }
}

static void add_backup(const struct mu_metrics_page *p, struct mu_metrics *m)
{
    struct mu_backup_status s;
    uint64_t wall = mu_wall();

    mu_backup_status(p->backup, &s);
    m->backup_failures = (double)s.failures;
    m->backup_every = (double)s.every_ns / 1e9;
    m->backup_age = !s.newest ? -1 : wall > s.newest_wall ? (double)(wall - s.newest_wall) / 1e9 : 0;
}

/* Between hosts by what came last on the connection that carries it, which may be that of an agent above it. The core's
 * own word, 0, stays for this machine's: that is a Unix socket, and breaks at once. */
static void add_beats(const struct mu_metrics_page *p, struct mu_metrics *m)
{
    const struct mu_ctl *core = mu_server_core(p->server);
    const struct mu_pool *pool = mu_ctl_pool(core);
    uint64_t now = mu_now();

    for (unsigned i = 0; i < m->nnodes; i++) {
        int at = (int)(m->nodes[i].node - pool->v), above;
        if (m->nodes[i].node->state != MU_NODE_UP)
            continue;
        for (unsigned depth = 0; depth < 64 && (above = mu_ctl_tree_via(core, at)) >= 0; depth++)
            at = above;
        uint64_t heard = mu_server_heard(p->server, pool->v[at].conn);
        if (heard)
            m->nodes[i].heard_age = now > heard ? (double)(now - heard) / 1e9 : 0;
    }
}

/* --- the page ------------------------------------------------------------------------------------------------------
 */

static int refresh(struct mu_metrics_page *p)
{
    uint64_t now = mu_now();
    struct mu_metrics m;

    if (p->made && now - p->made < FRESH_NS)
        return 0;
    if (mu_ctl_metrics(mu_server_core(p->server), now, mu_wall(), &m))
        return MUSTER_ENOMEM;
    add_process(p, &m);
    add_backup(p, &m);
    add_beats(p, &m);
    mu_buf_clear(&p->text);
    mu_metrics_text(&m, &p->text);
    mu_metrics_free(&m);
    p->made = p->text.failed ? 0 : now;
    return p->text.failed ? MUSTER_ENOMEM : 0;
}

static int get(void *arg, const char *path, struct mu_buf *out, const char **type)
{
    struct mu_metrics_page *p = arg;

    if (strcmp(path, "/metrics") != 0)
        return mu_page_get(p->status, path, mu_http_guarded(p->http), out, type);
    int rc = refresh(p);
    if (rc)
        return rc;
    *type = MU_METRICS_TYPE;
    mu_buf_append(out, p->text.data, p->text.len);
    return 0;
}

static int serve(struct mu_metrics_page *p, const char *option, struct mu_err *err)
{
    return mu_http_new(
        p->base,
        &(struct mu_http_config){
            .option = option, .where = p->where, .dir = p->paths->home, .name = "metrics", .get = get, .arg = p},
        &p->http, err);
}

static void on_alarm(void *arg)
{
    struct mu_metrics_page *p = arg;
    struct mu_err err;

    if (p->http || !serve(p, "MUSTER_METRICS", &err)) {
        mu_log(MU_LOG_INFO, "controller", "metrics are served at %s/metrics", mu_http_url(p->http));
        return;
    }
    if (!p->told)
        mu_log(MU_LOG_ERROR, "controller", "%s; trying again every %llu s", err.text,
               (unsigned long long)(RETRY_NS / MU_SEC));
    p->told = true;
    mu_alarm_set(p->alarm, mu_now() + RETRY_NS);
}

int mu_metrics_open(struct event_base *base, const struct mu_paths *paths, const struct mu_server *server,
                    struct mu_store *store, const struct mu_backup *backup, const char *option,
                    struct mu_metrics_page **out, struct mu_err *err)
{
    const char *where = option ? option : getenv("MUSTER_METRICS");
    struct mu_metrics_page *p;
    int rc = 0;

    if (!where || !*where)
        return 0;
    if (!(p = calloc(1, sizeof *p)))
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    *p = (struct mu_metrics_page){
        .base = base, .paths = paths, .server = server, .backup = backup, .started_wall = mu_wall()};
    p->where = strdup(where);
    p->status = mu_page_new(base, server, store, paths->host);
    p->alarm = mu_alarm_new(base, on_alarm, p);
    if (!p->where || !p->status || !p->alarm || (option && setenv("MUSTER_METRICS", option, 1)))
        rc = mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    else if (option)
        rc = serve(p, "--metrics", err);
    if (!rc)
        mu_alarm_set(p->alarm, mu_now()); /* once the log is there */
    if (rc)
        mu_metrics_close(p);
    else
        *out = p;
    return rc;
}

void mu_metrics_close(struct mu_metrics_page *p)
{
    if (!p)
        return;
    mu_http_free(p->http);
    mu_page_free(p->status);
    mu_alarm_free(p->alarm);
    mu_buf_free(&p->text);
    free(p->where);
    free(p);
}
