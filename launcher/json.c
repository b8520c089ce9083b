#include "launcher/json.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "launcher/core/ctl.h"
#include "launcher/core/metrics.h"
#include "runtime/base/buf.h"
#include "runtime/base/clean.h"
#include "runtime/wire/gpus.h"
#include "runtime/wire/inventory.h"

struct mu_json {
    json_t *root, *list;
    bool failed;
};

/* Length of the well-formed UTF-8 sequence at p, 0 if there is none (overlong forms and surrogates included). */
static size_t utf8_len(const unsigned char *p, size_t left)
{
    static const struct {
        unsigned char mask, want;
        size_t len;
        uint32_t least;
    } forms[] = {{0x80, 0x00, 1, 0}, {0xe0, 0xc0, 2, 0x80}, {0xf0, 0xe0, 3, 0x800}, {0xf8, 0xf0, 4, 0x10000}};

    for (size_t f = 0; f < MU_COUNT(forms); f++) {
        if ((p[0] & forms[f].mask) != forms[f].want)
            continue;
        uint32_t c = p[0] & (unsigned char)~forms[f].mask;
        if (forms[f].len > left)
            return 0;
        for (size_t i = 1; i < forms[f].len; i++) {
            if ((p[i] & 0xc0) != 0x80)
                return 0;
            c = c << 6 | (p[i] & 0x3f);
        }
        return c >= forms[f].least && c <= 0x10ffff && (c < 0xd800 || c > 0xdfff) ? forms[f].len : 0;
    }
    return 0;
}

static json_t *text_n(const void *data, size_t n)
{
    mu_auto_buf struct mu_buf b = {0};
    const unsigned char *p = data;

    for (size_t i = 0; i < n;) {
        size_t len = utf8_len(p + i, n - i);
        if (len)
            mu_buf_append(&b, p + i, len);
        else
            mu_buf_append(&b, "\xef\xbf\xbd", 3);
        i += len ? len : 1;
    }
    return b.failed ? NULL : json_stringn_nocheck(mu_buf_str(&b), b.len);
}

static json_t *text(const char *s)
{
    return text_n(s ? s : "", s ? strlen(s) : 0);
}

static json_t *text_or_null(const char *s)
{
    return s && *s ? text(s) : json_null();
}

static json_t *seconds(uint64_t ns)
{
    return ns ? json_real((double)ns / 1e9) : json_null();
}

/* Steps are stored + 1, 0 meaning none. */
static json_t *step(uint64_t plus1)
{
    return plus1 ? json_integer((json_int_t)(plus1 - 1)) : json_null();
}

static void put(struct mu_json *j, json_t *o, const char *key, json_t *value)
{
    if (!value || json_object_set_new_nocheck(o, key, value))
        j->failed = true;
}

static int add(struct mu_json *j, json_t *entry)
{
    if (!entry || json_array_append_new(j->list, entry))
        j->failed = true;
    return j->failed ? MUSTER_ENOMEM : 0;
}

struct mu_json *mu_json_new(const char *schema, const char *list)
{
    struct mu_json *j = calloc(1, sizeof *j);

    if (!j)
        return NULL;
    j->root = json_object();
    put(j, j->root, "schema", json_string(schema));
    j->list = json_array();
    put(j, j->root, list, j->list);
    if (j->failed) {
        mu_json_free(j);
        return NULL;
    }
    return j;
}

void mu_json_free(struct mu_json *j)
{
    if (!j)
        return;
    json_decref(j->root);
    free(j);
}

char *mu_json_text(const struct mu_json *j)
{
    return j->failed ? NULL : json_dumps(j->root, JSON_COMPACT | JSON_REAL_PRECISION(16));
}

static json_t *failure(struct mu_json *j, const struct mu_m_jobrow *r)
{
    json_t *o;

    if (!r->fail_attempt)
        return json_null();
    o = json_object();
    if (!o)
        return NULL;
    put(j, o, "rank", step(r->fail_rank_plus1));
    put(j, o, "node", text_or_null(r->fail_node));
    bool known = r->fail_rank_plus1 != 0;
    put(j, o, "signal", known && WIFSIGNALED(r->fail_status) ? json_integer(WTERMSIG(r->fail_status)) : json_null());
    put(j, o, "exit_code",
        known && WIFEXITED(r->fail_status) ? json_integer(WEXITSTATUS(r->fail_status)) : json_null());
    put(j, o, "message", text(r->fail_text));
    put(j, o, "attempt", json_integer(r->fail_attempt));
    put(j, o, "t", seconds(r->fail_wall));
    put(j, o, "stderr_tail", text_n(r->fail_tail.data, r->fail_tail.len));
    return o;
}

static json_t *by_node(struct mu_json *j, const struct mu_m_jobrow *r)
{
    json_t *o = json_object();

    for (size_t i = 0; o && r->used_nodes && r->used_nodes[i] && 2 * i + 1 < r->used_ns.n; i++) {
        uint64_t ns = r->used_ns.v[2 * i] | (uint64_t)r->used_ns.v[2 * i + 1] << 32;
        json_t *name = text(r->used_nodes[i]); /* keys are UTF-8, too */
        put(j, o, name ? json_string_value(name) : "", json_real((double)ns / 1e9));
        json_decref(name);
    }
    return o;
}

int mu_json_add_job(struct mu_json *j, const struct mu_m_jobrow *r, bool brief)
{
    json_t *o = json_object(), *nodes = json_array();

    if (!o || !nodes) {
        json_decref(o);
        json_decref(nodes);
        j->failed = true;
        return MUSTER_ENOMEM;
    }
    for (char **v = r->nodes; v && *v; v++) {
        json_t *name = text(*v);
        if (!name || json_array_append_new(nodes, name))
            j->failed = true;
    }
    put(j, o, "id", json_integer((json_int_t)r->id));
    put(j, o, "name", text(r->name));
    put(j, o, "user", text(r->user));
    put(j, o, "state", json_string(mu_job_state_name(r->state)));
    put(j, o, "reason", text(r->reason));
    put(j, o, "attempt", json_integer(r->attempt));
    put(j, o, "ranks", json_integer(r->ranks));
    put(j, o, "nodes", nodes);
    put(j, o, "step", step(r->step_plus1));
    put(j, o, "exit_code", mu_job_over(r->state) ? json_integer(r->exit_code) : json_null());
    put(j, o, "submitted_t", seconds(r->submitted_wall));
    put(j, o, "started_t", seconds(r->started_wall));
    put(j, o, "ended_t", seconds(r->ended_wall));
    if (brief)
        return add(j, o);
    put(j, o, "failure", failure(j, r));
    put(j, o, "restarts", json_integer(r->attempt ? (json_int_t)r->attempt - 1 : 0));
    put(j, o, "mended", json_integer(r->mended));
    put(j, o, "checkpoint_step", step(r->ckpt_plus1));
    put(j, o, "restored_step", step(r->restored_plus1));
    put(j, o, "stored_step", step(r->stored_plus1));
    put(j, o, "saves", json_integer((json_int_t)r->saves));
    put(j, o, "save_s", json_real((double)r->save_ns / 1e9));
    put(j, o, "save_last_s", r->saves ? json_real((double)r->save_last_ns / 1e9) : json_null());
    put(j, o, "checkpoint_bytes", json_integer((json_int_t)r->ckpt_bytes));
    put(j, o, "operations", json_integer((json_int_t)r->ops));
    put(j, o, "operation_bytes", json_integer((json_int_t)r->op_bytes));
    put(j, o, "log_dir", text_or_null(r->log_dir));
    put(j, o, "lost_lines", json_integer((json_int_t)r->lost_lines));
    put(j, o, "unseen_lines", json_integer((json_int_t)r->unseen_lines));
    put(j, o, "unread_ranks", json_integer((json_int_t)r->unread_ranks));
    put(j, o, "unread", text_or_null(r->unread));
    bool waits = mu_job_waits(r->state);
    put(j, o, "waited_s", json_real((double)r->waited_ns / 1e9));
    put(j, o, "ran_s", json_real((double)r->ran_ns / 1e9));
    put(j, o, "rank_s", json_real((double)r->rank_ns / 1e9));
    put(j, o, "node_rank_s", by_node(j, r));
    put(j, o, "steps_done", json_integer((json_int_t)r->steps_done));
    put(j, o, "stepping_s", json_real((double)r->stepping_ns / 1e9));
    put(j, o, "gpus", json_integer(r->gpus));
    put(j, o, "gpu_s", json_real((double)r->rank_ns / 1e9 * r->gpus));
    put(j, o, "requeues", json_integer(r->requeues));
    put(j, o, "priority", json_integer(r->priority));
    put(j, o, "held_by", text_or_null(waits ? r->held : NULL));
    put(j, o, "waits_since_t", waits ? seconds(r->since_wall ? r->since_wall : r->submitted_wall) : json_null());
    put(j, o, "place", waits && r->place ? json_integer(r->place) : json_null());
    put(j, o, "expected_t", waits ? seconds(r->expected_wall) : json_null());
    put(j, o, "waits_for", waits && r->waits_for ? json_integer((json_int_t)r->waits_for) : json_null());
    put(j, o, "fair_share", waits ? json_real(r->share_permille / 1000.0) : json_null());
    put(j, o, "placed", text_or_null(r->placed));
    return add(j, o);
}

int mu_json_add_event(struct mu_json *j, const struct mu_store_event *e)
{
    json_t *o = json_object();

    if (!o) {
        j->failed = true;
        return MUSTER_ENOMEM;
    }
    put(j, o, "t", seconds(e->wall));
    put(j, o, "kind", text(e->kind));
    put(j, o, "job", json_integer((json_int_t)e->job));
    put(j, o, "attempt", json_integer(e->attempt));
    put(j, o, "rank", e->rank >= 0 ? json_integer(e->rank) : json_null());
    put(j, o, "node", text_or_null(e->node));
    put(j, o, "detail", text(e->detail));
    return add(j, o);
}

const char *mu_json_node_reason(const struct mu_node *n, char *buf, size_t size)
{
    if (n->state == MU_NODE_UP && n->ready && mu_pool_out(n)) {
        snprintf(buf, size, "%s%s%s", n->out_by, *n->out_by ? ": " : "", n->out_why);
        return buf;
    }
    if (n->reason[0])
        return n->reason;
    if (n->state == MU_NODE_UP && !n->ready)
        return "its agent is telling what runs";
    if (n->state == MU_NODE_AWAY)
        return "its agent is away";
    if (*n->unwell)
        return n->unwell;
    if (n->gpu_says) {
        mu_gpus_trouble(n->gpu_says, buf, size);
        if (*buf)
            return buf;
    }
    if (n->drift) {
        snprintf(buf, size, "not as approved: %s", n->drifted);
        return buf;
    }
    return n->suspect ? "not heard of for a moment" : n->stale ? "the rest of an earlier attempt ends" : "";
}

/* Who has taken it out, and why. */
static json_t *out(struct mu_json *j, const struct mu_node *n)
{
    json_t *o = mu_pool_out(n) ? json_object() : NULL;

    if (!o)
        return mu_pool_out(n) ? NULL : json_null();
    put(j, o, "kind", json_string(n->drained ? "drain" : "quarantine"));
    put(j, o, "by", text_or_null(n->out_by));
    put(j, o, "reason", text(n->out_why));
    put(j, o, "t", seconds(n->out_wall));
    put(j, o, "until_t", n->drained ? json_null() : seconds(n->out_until_wall));
    return o;
}

/* "a,b" as a list. */
static json_t *words(const char *s)
{
    json_t *list = json_array();

    for (size_t n; list && *s; s += n + (s[n] == ',')) {
        n = strcspn(s, ",");
        json_t *word = text_n(s, n);
        if (!word || json_array_append_new(list, word)) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *leaf(const struct mu_node *n, const struct mu_place *place)
{
    const struct mu_fabric_node *sw =
        place && n->host_plus1 ? mu_fabric_leaf(mu_place_fabric(place), (int)n->host_plus1 - 1) : NULL;

    return sw ? text(sw->name) : json_null();
}

int mu_json_add_node(struct mu_json *j, const struct mu_node *n, const struct mu_place *place)
{
    json_t *o = json_object();
    char why[sizeof n->out_by + sizeof n->out_why + 4];

    if (!o) {
        j->failed = true;
        return MUSTER_ENOMEM;
    }
    put(j, o, "name", text(n->name));
    put(j, o, "state", json_string(mu_node_state_name(n)));
    put(j, o, "reason", text(mu_json_node_reason(n, why, sizeof why)));
    put(j, o, "out", out(j, n));
    put(j, o, "drift", n->approved ? json_integer(n->drift) : json_null());
    put(j, o, "slots", json_integer(n->slots));
    put(j, o, "used", json_integer(n->used));
    put(j, o, "gpus", json_integer(n->gpus));
    put(j, o, "memory", json_integer((json_int_t)n->memory));
    put(j, o, "gpus_used", json_integer((json_int_t)n->gpus_used));
    put(j, o, "memory_used", json_integer((json_int_t)n->memory_used));
    put(j, o, "labels", words(n->labels));
    put(j, o, "pus", json_integer(n->pus));
    put(j, o, "numa", json_integer(n->numa));
    put(j, o, "job", n->owner ? json_integer((json_int_t)n->owner) : json_null());
    put(j, o, "leaf", leaf(n, place));
    json_t *guids = json_array();
    put(j, o, "guids", guids);
    for (char **g = n->guids; guids && g && *g; g++) {
        json_t *guid = text(*g);
        if (!guid || json_array_append_new(guids, guid))
            j->failed = true;
    }
    return add(j, o);
}

int mu_json_add_checks(struct mu_json *j, const struct mu_node *n)
{
    static const char *const levels[] = {
        [MU_LEVEL_OK] = "ok", [MU_LEVEL_SKIP] = "skipped", [MU_LEVEL_WARN] = "warning", [MU_LEVEL_FAIL] = "failed"};
    json_t *o = json_object(), *rows = json_array();
    const struct mu_m_checked *m = n->checked;

    if (!o || !rows) {
        json_decref(o);
        json_decref(rows);
        j->failed = true;
        return MUSTER_ENOMEM;
    }
    put(j, o, "name", text(n->name));
    put(j, o, "state", json_string(mu_node_state_name(n)));
    put(j, o, "id", m ? json_integer((json_int_t)m->id) : json_null());
    put(j, o, "t", seconds(m ? n->checked_wall : 0));
    put(j, o, "under_way", n->check_id ? json_integer((json_int_t)n->check_id) : json_null());
    put(j, o, "out", out(j, n));
    put(j, o, "checks", rows);
    for (uint32_t i = 0; m && i < m->levels.n; i++) {
        json_t *row = json_object();
        if (!row || json_array_append_new(rows, row)) {
            j->failed = true;
            break;
        }
        put(j, row, "name", text(m->names[i]));
        put(j, row, "level", json_string(m->levels.v[i] < MU_COUNT(levels) ? levels[m->levels.v[i]] : "unknown"));
        put(j, row, "reason", text(m->reasons[i]));
        put(j, row, "seconds", json_real(m->took_ms.v[i] / 1000.0));
    }
    return add(j, o);
}

static json_t *pairs(struct mu_json *j, const struct mu_m_inventory *m)
{
    json_t *o = json_object();

    for (size_t i = 0; o && m->keys && m->keys[i]; i++)
        put(j, o, m->keys[i], text(m->values[i]));
    return o;
}

int mu_json_add_made(struct mu_json *j, const struct mu_ctl_made *m)
{
    json_t *o = json_object(), *base = m->approved ? json_object() : json_null();

    if (!o || !base) {
        json_decref(o);
        json_decref(base);
        j->failed = true;
        return MUSTER_ENOMEM;
    }
    put(j, o, "name", text(m->node));
    put(j, o, "t", seconds(m->is ? m->is->wall : 0));
    put(j, o, "items", m->is ? pairs(j, m->is) : json_object());
    bool both = m->is && m->approved;
    put(j, o, "drift", both ? json_integer(mu_inventory_diff(m->approved, m->is, NULL, NULL)) : json_null());
    put(j, o, "baseline", base);
    if (m->approved) {
        put(j, base, "t", seconds(m->approved->wall));
        put(j, base, "by", text(m->approved->by));
        put(j, base, "why", text(m->approved->why));
        put(j, base, "items", pairs(j, m->approved));
    }
    return add(j, o);
}

void mu_json_add_history(struct mu_json *j, const struct mu_m_inventory *m)
{
    json_t *node = json_array_get(j->list, json_array_size(j->list) - 1), *list = json_object_get(node, "history");
    json_t *o = json_object();

    if (!list)
        put(j, node, "history", list = json_array());
    if (!o || !list || json_array_append_new(list, o)) {
        j->failed = true;
        return;
    }
    put(j, o, "t", seconds(m->wall));
    put(j, o, "items", pairs(j, m));
}

int mu_json_add_share(struct mu_json *j, const struct mu_node *n, uint32_t ranks)
{
    json_t *o = json_object();

    if (!o) {
        j->failed = true;
        return MUSTER_ENOMEM;
    }
    put(j, o, "name", text(n->name));
    put(j, o, "ranks", json_integer(ranks));
    return add(j, o);
}

void mu_json_fabric(struct mu_json *j, const struct mu_fabric_state *s, const struct mu_pool *pool)
{
    json_t *o = s->source ? json_object() : NULL, *unknown = o ? json_array() : NULL;

    if (!o || !unknown) {
        json_decref(o);
        put(j, j->root, "fabric", s->source ? NULL : json_null());
        return;
    }
    put(j, o, "source", text(s->source));
    put(j, o, "hosts", s->place ? json_integer(mu_fabric_nhosts(mu_place_fabric(s->place))) : json_null());
    put(j, o, "tree", s->place ? json_boolean(mu_place_is_tree(s->place)) : json_null());
    put(j, o, "reading", json_boolean(s->reading));
    put(j, o, "trouble", text_or_null(s->trouble));
    put(j, o, "unknown", unknown);
    for (unsigned i = 0; s->place && i < pool->n; i++) {
        const struct mu_node *n = &pool->v[i];
        if (n->state == MU_NODE_NONE || (n->host_plus1 && mu_place_leaf(s->place, (int)n->host_plus1 - 1) >= 0))
            continue;
        json_t *name = text(n->name);
        if (!name || json_array_append_new(unknown, name))
            j->failed = true;
    }
    put(j, j->root, "fabric", o);
}

void mu_json_placed(struct mu_json *j, enum mu_fit fit, const char *why)
{
    static const char *const names[] = {[MU_FIT_YES] = "now", [MU_FIT_LATER] = "later", [MU_FIT_NEVER] = "never"};

    put(j, j->root, "fits", json_string(names[fit]));
    put(j, j->root, "why", text_or_null(why));
}

void mu_json_would(struct mu_json *j, const struct mu_ctl_would *w)
{
    put(j, j->root, "starts", json_boolean(w->starts));
    put(j, j->root, "waits", text_or_null(w->why));
    put(j, j->root, "expected_t", seconds(w->expected_wall));
}
