#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/judge/json.h"
#include "bench/judge/report.h"
#include "runtime/base/clean.h"
#include "runtime/base/str.h"

static json_t *number(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

static json_t *trials(const struct mu_suspect *s)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < s->rounds; i++)
        json_array_append_new(list, number(s->round_drop[i]));
    return list;
}

static json_t *suspect(const struct mu_report *r, const struct mu_suspect *s)
{
    static const char *const states[] = {"suspected", "confirmed", "cleared", "unsure"};
    char id[200];

    json_t *o = json_pack("{s:s, s:o, s:o, s:o, s:b, s:s, s:s, s:I, s:o}", "kind", mu_suspect_kind_name(s->kind), "id",
                          mu_json_string(mu_suspect_id(s, r->d, id, sizeof id)), "score", number(s->score), "drop",
                          number(s->drop), "corrupt", (int)s->corrupt, "state", states[s->state], "test",
                          r->d->tests[s->test].name, "size", (json_int_t)s->size, "trials", trials(s));
    if (s->dir && (s->pair || s->kind != MU_SUSPECT_NODE))
        json_object_set_new(o, "direction", json_string(mu_direction_name(s->dir)));
    if (mu_suspect_on_host(s))
        json_object_set_new(o, "host", json_string(r->d->hosts[s->a]));
    if (s->kind == MU_SUSPECT_GPU) {
        json_object_set_new(o, "gpu", json_integer(s->gpu - 1));
        json_object_set_new(o, "text", mu_json_string(mu_data_gpu(r->d, s->a, s->gpu, id, sizeof id)));
    }
    json_object_set_new(o, "chance", s->chance > 0 ? number(s->chance) : json_null());
    json_object_set_new(o, s->state == MU_CLEARED ? "exonerated_by" : "evidence",
                        s->why[0] ? mu_json_string(s->why) : json_null());
    return o;
}

static json_t *check(const struct mu_result *x)
{
    bool shown = x->figures && (x->threshold != 0 || x->value != 0);

    return json_pack("{s:o, s:i, s:s, s:o, s:o, s:s, s:i, s:i, s:o, s:o}", "rule", mu_json_string(x->check->text),
                     "line", (int)x->check->line, "verdict", mu_outcome_name(x->outcome), "value",
                     shown ? number(x->value) : json_null(), "threshold", shown ? number(x->threshold) : json_null(),
                     "unit", x->unit, "figures", (int)x->figures, "failed", (int)x->failed, "where",
                     mu_json_string(x->where), "evidence", mu_json_string(x->why));
}

static json_t *test(const struct mu_report *r, const struct mu_trials *s)
{
    const struct mu_test *t = &r->d->tests[s->key.test];
    json_t *o = json_pack("{s:s, s:s, s:I, s:i, s:I, s:o, s:o, s:o, s:I, s:i}", "name", t->name, "unit", t->unit,
                          "size", (json_int_t)s->key.size, "trials", (int)s->n, "n", (json_int_t)s->samples, "min",
                          number(s->min), "p50", number(mu_trials_median(s)), "max", number(s->max), "wrong",
                          (json_int_t)s->wrong, "round", (int)s->key.round);

    json_object_set_new(o, "p99", s->p99 > 0 ? number(s->p99) : json_null());
    json_object_set_new(o, "ci95_pct", s->ci > 0 ? number(100 * s->ci) : json_null());
    json_object_set_new(o, "late_pct", number(100 * s->late));
    if (s->scope == MU_SCOPE_GROUP)
        json_object_set_new(o, "ranks", json_integer(s->key.from));
    else
        json_object_set_new(o, s->scope == MU_SCOPE_PAIR ? "from" : "host", json_string(r->d->hosts[s->key.from]));
    if (s->scope == MU_SCOPE_PAIR)
        json_object_set_new(o, "to", json_string(r->d->hosts[s->key.to]));
    if (s->key.rank >= 0)
        json_object_set_new(o, "rank", json_integer(s->key.rank));
    if (s->key.gpu)
        json_object_set_new(o, "gpu", json_integer(s->key.gpu - 1));
    if (s->uuid)
        json_object_set_new(o, "uuid", json_string(s->uuid));
    return o;
}

static json_t *host(const struct mu_report *r, uint32_t h)
{
    const char *state = "ok";

    for (unsigned i = 0; i < r->b->n; i++) {
        const struct mu_suspect *s = &r->b->v[i];
        if (s->state == MU_CONFIRMED && mu_suspect_on_host(s) && s->a == (int)h)
            state = "suspect";
    }
    json_t *o = json_pack("{s:s, s:s}", "name", r->d->hosts[h], "state", r->b->too_few ? "not judged" : state);
    if (r->d->group[h] >= 0)
        json_object_set_new(o, "switch", json_string(r->d->groups[r->d->group[h]]));
    return o;
}

json_t *mu_report_json(const struct mu_report *r)
{
    json_t *suspects = json_array(), *cleared = json_array(), *unsure = json_array(), *checks = json_array(),
           *hosts = json_array(), *tests = json_array();

    for (unsigned i = 0; i < r->b->n; i++) {
        enum mu_suspect_state state = r->b->v[i].state;
        json_array_append_new(state == MU_CONFIRMED ? suspects
                              : state == MU_CLEARED ? cleared
                                                    : unsure,
                              suspect(r, &r->b->v[i]));
    }
    for (unsigned i = 0; i < r->nr; i++)
        json_array_append_new(checks, check(&r->r[i]));
    for (uint32_t i = 0; i < r->d->nhosts; i++)
        json_array_append_new(hosts, host(r, i));
    for (uint32_t i = 0; i < r->d->n; i++)
        json_array_append_new(tests, test(r, &r->d->series[i]));
    return json_pack(
        "{s:s, s:s, s:i, s:{s:s, s:s, s:s, s:s, s:f, s:f, s:f, s:i, s:b}, s:o, s:o, s:o, s:o, s:o, s:o, s:s}", "schema",
        "muster.accept/1", "verdict", mu_verdict_name(r->verdict), "exit", mu_verdict_exit(r->verdict), "run", "id",
        r->token, "version", r->version, "profile", r->profile, "command", r->command, "began_t", r->began_t, "seconds",
        r->seconds, "clock_residual_us", r->d->residual_us, "rounds", (int)r->rounds, "finished", (int)!r->unfinished,
        "suspects", suspects, "cleared", cleared, "unsure", unsure, "checks", checks, "hosts", hosts, "tests", tests,
        "resume_token", r->token);
}
