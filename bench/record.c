#include "bench/record.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/stats.h"
#include "runtime/base/clean.h"

void mu_record_text(struct mu_buf *b, const char *s)
{
    mu_buf_putc(b, '"');
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c < 0x20 || c == '"' || c == '\\' || c >= 0x7f) /* bytes that are not ASCII as Latin-1 has them */
            mu_buf_appendf(b, "\\u%04x", c);
        else
            mu_buf_putc(b, (char)c);
    }
    mu_buf_putc(b, '"');
}

void mu_record_number(struct mu_buf *b, double v)
{
    if (isfinite(v))
        mu_buf_appendf(b, "%.7g", v);
    else
        mu_buf_puts(b, "null");
}

static void key(struct mu_buf *b, const char *name)
{
    mu_buf_appendf(b, ",\"%s\":", name);
}

static void text(struct mu_buf *b, const char *name, const char *s)
{
    if (s) {
        key(b, name);
        mu_record_text(b, s);
    }
}

static void number(struct mu_buf *b, const char *name, double v)
{
    key(b, name);
    mu_record_number(b, v);
}

static void list(struct mu_buf *b, const char *name, const double *v, size_t n)
{
    if (!v)
        return;
    key(b, name);
    for (size_t i = 0; i < n; i++) {
        mu_buf_putc(b, i ? ',' : '[');
        mu_record_number(b, v[i]);
    }
    mu_buf_puts(b, n ? "]" : "[]");
}

static void put_flags(struct mu_buf *b, unsigned flags)
{
    static const struct {
        unsigned bit;
        const char *word;
    } rows[] = {{MU_RECORD_NOISY, "noisy"},
                {MU_RECORD_FEW, "few"},
                {MU_RECORD_UNSYNCED, "unsynced"},
                {MU_RECORD_SHARED, "shared"},
                {MU_RECORD_CACHED, "cached"}};
    bool any = false;

    key(b, "flags");
    mu_buf_putc(b, '[');
    for (size_t i = 0; i < MU_COUNT(rows); i++) {
        if (!(flags & rows[i].bit))
            continue;
        mu_buf_appendf(b, "%s\"%s\"", any ? "," : "", rows[i].word);
        any = true;
    }
    mu_buf_putc(b, ']');
}

static void put_scope(struct mu_buf *b, const struct mu_record *r)
{
    switch (r->scope) {
    case MU_RECORD_NODE:
        mu_buf_appendf(b, ",\"scope\":\"node\",\"rank\":%d", r->from);
        text(b, "host", r->from_host);
        if (r->uuid)
            mu_buf_appendf(b, ",\"gpu\":%d", r->gpu);
        text(b, "uuid", r->uuid);
        return;
    case MU_RECORD_PAIR:
        mu_buf_appendf(b, ",\"scope\":\"pair\",\"from\":%d,\"to\":%d", r->from, r->to);
        text(b, "from_host", r->from_host);
        text(b, "to_host", r->to_host);
        text(b, "direction", r->direction);
        return;
    case MU_RECORD_GROUP:
        mu_buf_puts(b, ",\"scope\":\"group\",\"group\":null");
        if (r->to >= 0)
            mu_buf_appendf(b, ",\"to\":%d", r->to);
        text(b, "to_host", r->to_host);
    }
}

int mu_record_put(struct mu_buf *b, const struct mu_record *r, struct mu_err *err)
{
    struct mu_stats st = {0};
    size_t was = b->len;
    mu_auto_free double *sorted = malloc((r->n + 1) * sizeof *sorted);

    if (!sorted)
        return mu_err_set(err, MUSTER_ENOMEM, "no memory for the record of %s", r->name);
    if (r->n) {
        memcpy(sorted, r->values, r->n * sizeof *sorted);
        mu_stats_of(sorted, r->n, &st);
    }
    mu_buf_puts(b, "{\"kind\":\"measurement\"");
    text(b, "name", r->name);
    text(b, "unit", r->unit);
    text(b, "better", r->more_is_better ? "more" : "less");
    put_scope(b, r);
    text(b, "op", r->op);
    text(b, "dtype", r->dtype);
    text(b, "memory", r->memory);
    text(b, "place", r->place);
    text(b, "timing", r->timing);
    text(b, "transport", r->transport);
    mu_buf_appendf(b, ",\"size\":%llu,\"n\":%zu", (unsigned long long)r->size, r->n);
    const struct {
        const char *name;
        double value;
        size_t from;
    } figures[] = {{"min", st.min, 1},   {"p50", st.p50, 1}, {"p90", st.p90, 1},
                   {"p99", st.p99, 100}, {"max", st.max, 1}, {"mad", st.mad, 1}};
    for (size_t i = 0; i < MU_COUNT(figures); i++)
        number(b, figures[i].name, r->n >= figures[i].from ? figures[i].value : NAN);
    if (r->n >= 6)
        list(b, "ci95", (double[]){st.ci_low, st.ci_high}, 2);
    else
        mu_buf_puts(b, ",\"ci95\":null");
    list(b, "values", r->values, r->n);
    if (r->arrive_us || r->time_us) {
        key(b, "per_rank");
        for (int i = 0; i < r->nranks; i++) {
            mu_buf_puts(b, i ? ",{\"rank\":" : "[{\"rank\":");
            mu_buf_appendf(b, "%d", i);
            if (r->arrive_us)
                number(b, "arrive_us", r->arrive_us[i]);
            if (r->time_us)
                number(b, "time_us", r->time_us[i]);
            if (r->rank_waited && r->rank_waited[i] > 0)
                number(b, "waited", r->rank_waited[i]);
            mu_buf_putc(b, '}');
        }
        mu_buf_puts(b, r->nranks ? "]" : "[]");
    }
    if (r->late >= 0)
        number(b, "late", r->late);
    if (r->mean > 0)
        number(b, "mean", r->mean);
    if (r->waited > 0)
        number(b, "waited", r->waited);
    if (r->wrong >= 0)
        mu_buf_appendf(b, ",\"wrong\":%lld", (long long)r->wrong);
    else
        mu_buf_puts(b, ",\"wrong\":null");
    mu_buf_appendf(b, ",\"trial\":%d,\"launch\":%d,\"order\":%d,\"t\":%.3f", r->trial, r->launch, r->order, r->t);
    put_flags(
        b, r->flags |
               (r->n < 6 && !(r->n && (!strcmp(r->unit, "errors") || !strcmp(r->unit, "GPUs"))) ? MU_RECORD_FEW : 0));
    mu_buf_puts(b, "}\n");
    if (!b->failed)
        return 0;
    b->len = was;
    return mu_err_set(err, MUSTER_ENOMEM, "no memory for the record of %s", r->name);
}
