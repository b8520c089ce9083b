#include "launcher/page/page.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/page/files.h"
#include "launcher/page/view.h"
#include "launcher/server.h"
#include "launcher/store.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/str.h"
#include "runtime/wire/daemon.h"

#define FRESH_NS (500 * MU_MS) /* who asks more often gets the same again, whatever the pool's size */

#define HTML "text/html; charset=utf-8"
#define JSON "application/json"

struct document {
    struct mu_buf text;
    uint64_t made;
    bool words;
};
struct mu_page {
    const struct mu_server *server;
    struct mu_store *store;
    const char *host;
    struct mu_trends *trends;
    struct mu_alarm *alarm;
    struct document html, json; /* of the pool */
};

static void sample(void *arg)
{
    struct mu_page *p = arg;
    uint64_t now = mu_now(), wall = mu_wall();
    struct mu_metrics m;

    if (!mu_ctl_metrics(mu_server_core(p->server), now, wall, &m)) {
        mu_trends_sample(p->trends, &m, (double)wall / 1e9);
        mu_metrics_free(&m);
    }
    mu_alarm_set(p->alarm, now + MU_TREND_EVERY);
}

struct mu_page *mu_page_new(struct event_base *base, const struct mu_server *server, struct mu_store *store,
                            const char *host)
{
    struct mu_page *p = calloc(1, sizeof *p);

    if (!p)
        return NULL;
    *p = (struct mu_page){.server = server, .store = store, .host = host, .trends = mu_trends_new()};
    p->alarm = mu_alarm_new(base, sample, p);
    if (!p->trends || !p->alarm) {
        mu_page_free(p);
        return NULL;
    }
    mu_alarm_set(p->alarm, mu_now());
    return p;
}

void mu_page_free(struct mu_page *p)
{
    if (!p)
        return;
    mu_alarm_free(p->alarm);
    mu_trends_free(p->trends);
    mu_buf_free(&p->html.text);
    mu_buf_free(&p->json.text);
    free(p);
}

/* --- pictures ------------------------------------------------------------------------------------------------------
 */

/* They come oldest first. */
static int add_event(void *arg, const struct mu_store_event *e)
{
    struct mu_page_view *v = arg;

    if (v->nevents == MU_PAGE_EVENTS)
        return 0;
    memmove(v->events + 1, v->events, v->nevents++ * sizeof *v->events);
    struct mu_page_event *o = &v->events[0];
    *o = (struct mu_page_event){.job = e->job, .t = (double)e->wall / 1e9, .attempt = e->attempt, .rank = e->rank};
    snprintf(o->kind, sizeof o->kind, "%s", e->kind);
    snprintf(o->node, sizeof o->node, "%s", e->node ? e->node : "");
    snprintf(o->detail, sizeof o->detail, "%s", e->detail ? e->detail : "");
    return 0;
}

/* job 0: events of all. A store that cannot be read costs the page its events. */
static int look(const struct mu_page *p, bool words, uint64_t job, struct mu_page_view *v)
{
    int rc = mu_page_view_make(mu_server_core(p->server), mu_now(), mu_wall(), v);

    if (rc)
        return rc;
    v->host = p->host;
    v->words = words;
    v->trends = p->trends;
    mu_store_events(p->store, job, MU_PAGE_EVENTS, add_event, v, NULL);
    return 0;
}

static int pool(struct mu_page *p, struct document *d, bool words,
                void (*make)(const struct mu_page_view *, struct mu_buf *))
{
    uint64_t now = mu_now();
    struct mu_page_view v;

    if (d->made && now - d->made < FRESH_NS && d->words == words)
        return 0;
    int rc = look(p, words, 0, &v);
    if (rc)
        return rc;
    mu_buf_clear(&d->text);
    make(&v, &d->text);
    mu_page_view_free(&v);
    d->words = words;
    d->made = d->text.failed ? 0 : now;
    return d->text.failed ? MUSTER_ENOMEM : 0;
}

static int job(struct mu_page *p, uint64_t id, bool json, bool words, struct mu_buf *out)
{
    struct mu_page_view v;
    struct mu_page_job j;
    int rc = look(p, words, id, &v);

    if (rc)
        return rc;
    rc = mu_page_job_find(mu_server_core(p->server), &v, id, &j);
    if (!rc) {
        (json ? mu_page_json_job : mu_page_html_job)(&v, &j, out);
        free(j.parts);
    }
    mu_page_view_free(&v);
    return rc == MUSTER_EJOB ? MUSTER_EARG : rc;
}

/* "/job/7" and "/job/7.json". */
static bool names_job(const char *path, uint64_t *id, bool *json)
{
    static const char before[] = "/job/";
    char *end;

    if (strncmp(path, before, sizeof before - 1) != 0 || path[sizeof before - 1] < '1' || path[sizeof before - 1] > '9')
        return false;
    *id = strtoull(path + sizeof before - 1, &end, 10);
    *json = !strcmp(end, ".json");
    return *json || !*end;
}

int mu_page_get(struct mu_page *p, const char *path, bool words, struct mu_buf *out, const char **type)
{
    const struct mu_page_file *f = mu_page_file(path);
    bool html = !strcmp(path, "/"), json;
    uint64_t id;
    int rc;

    if (f) {
        *type = f->type;
        mu_buf_append(out, f->data, f->len);
        return 0;
    }
    if (names_job(path, &id, &json)) {
        *type = json ? JSON : HTML;
        return job(p, id, json, words, out);
    }
    if (!html && strcmp(path, "/status.json") != 0)
        return MUSTER_EARG;
    struct document *d = html ? &p->html : &p->json;
    if ((rc = pool(p, d, words, html ? mu_page_html_pool : mu_page_json_pool)))
        return rc;
    *type = html ? HTML : JSON;
    mu_buf_append(out, d->text.data, d->text.len);
    return 0;
}
