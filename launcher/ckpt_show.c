/* What muster ckpt prints. */
#include "launcher/ckpt.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "launcher/answer.h"
#include "launcher/table.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/dtype.h"
#include "runtime/base/str.h"

/* Paths and names are any bytes, JSON is UTF-8. */
static json_t *text_or_null(const char *s)
{
    char shown[1300];
    json_t *text = *s ? json_string(s) : json_null();

    return text ? text : json_string(mu_str_show(shown, sizeof shown, s));
}

json_t *mu_ckpt_as_json(const struct mu_ckpt_seen *g)
{
    json_t *o = json_object();

    json_object_set_new(o, "id", json_integer((json_int_t)g->number));
    json_object_set_new(o, "step", g->ranks ? json_integer((json_int_t)g->step) : json_null());
    json_object_set_new(o, "bytes", json_integer((json_int_t)g->bytes));
    json_object_set_new(o, "level", json_string("store"));
    json_object_set_new(o, "complete", json_boolean(g->complete));
    json_object_set_new(o, "verified", g->verified < 0 ? json_null() : json_boolean(g->verified));
    json_object_set_new(o, "ranks", g->ranks ? json_integer(g->ranks) : json_null());
    json_object_set_new(o, "t", g->wall ? json_real((double)g->wall / 1e9) : json_null());
    json_object_set_new(o, "pinned", json_boolean(g->pinned));
    json_object_set_new(o, "job", text_or_null(g->job));
    json_object_set_new(o, "attempt", g->ranks ? json_integer(g->attempt) : json_null());
    json_object_set_new(o, "why", text_or_null(g->why));
    return o;
}

int mu_ckpt_print_json(json_t *root, struct mu_err *err)
{
    mu_auto_free char *text = json_dumps(root, JSON_INDENT(1));

    json_decref(root);
    if (!text)
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    puts(text);
    return 0;
}

json_t *mu_ckpt_document(json_t **list)
{
    json_t *root = json_object();

    *list = json_array();
    json_object_set_new(root, "schema", json_string("muster.ckpt/1"));
    json_object_set_new(root, "generations", *list);
    return root;
}

const char *mu_ckpt_size_text(uint64_t bytes, char buf[32])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    double v = (double)bytes;
    size_t u = 0;

    while (v >= 1024 && u + 1 < MU_COUNT(units)) {
        v /= 1024;
        u++;
    }
    snprintf(buf, 32, u ? "%.1f %s" : "%.0f %s", v, units[u]);
    return buf;
}

void mu_ckpt_print_table(const struct mu_ckpt_seen *v, size_t n)
{
    static const struct mu_column columns[] = {{"GENERATION", MU_RIGHT}, {"STEP", MU_RIGHT}, {"RANKS", MU_RIGHT},
                                               {"SIZE", MU_RIGHT},       {"TIME", 0},        {"STATE", 0}};
    struct mu_table *t = mu_table_new(columns, MU_COUNT(columns));
    char buf[64];

    for (size_t i = 0; t && i < n; i++) {
        const struct mu_ckpt_seen *g = &v[i];
        bool good = g->complete && g->verified != 0;

        mu_table_cellf(t, "%" PRIu64, g->number);
        if (g->ranks) {
            mu_table_cellf(t, "%" PRIu64, g->step);
            mu_table_cellf(t, "%u", g->ranks);
            mu_table_cell(t, mu_ckpt_size_text(g->bytes, buf));
            mu_table_cell(t, mu_answer_time((double)g->wall / 1e9, buf, sizeof buf));
        } else {
            for (int c = 0; c < 4; c++)
                mu_table_cell(t, "");
        }
        if (good)
            mu_table_coloured(t, MU_GOOD,
                              g->verified > 0 ? g->pinned ? "verified, pinned" : "verified"
                              : g->pinned     ? "complete, pinned"
                                              : "complete");
        else
            mu_table_coloured(t, MU_BAD, g->why);
    }
    if (t)
        mu_table_print(t, stdout);
    mu_table_free(t);
}

int mu_ckpt_show_list(const struct mu_ckpt_opts *o, const struct mu_ckpt_seen *v, size_t n, struct mu_err *err)
{
    if (o->json) {
        json_t *list, *root = mu_ckpt_document(&list);

        for (size_t i = 0; i < n; i++)
            json_array_append_new(list, mu_ckpt_as_json(&v[i]));
        return mu_ckpt_print_json(root, err);
    }
    mu_ckpt_print_table(v, n);
    return 0;
}

/* --- tensors ------------------------------------------------------------------------------------------------------ */

/* Of an empty tensor a dimension may be larger than the numbers of JSON's readers. */
static json_t *dimension(uint64_t d)
{
    char text[24];

    if (d <= INT64_MAX)
        return json_integer((json_int_t)d);
    snprintf(text, sizeof text, "%" PRIu64, d);
    return json_string(text);
}

static json_t *tensor_as_json(const struct mu_ckpt_tensor *t)
{
    json_t *x = json_object(), *shape = json_array();

    json_object_set_new(x, "name", text_or_null(t->name));
    json_object_set_new(x, "dtype", json_string(mu_dtype_name((int)t->shape.dtype)));
    for (int d = 0; d < t->shape.ndim; d++)
        json_array_append_new(shape, dimension(t->shape.global[d]));
    json_object_set_new(x, "shape", shape);
    json_object_set_new(x, "bytes", json_integer((json_int_t)t->shape.bytes));
    return x;
}

static void shape_text(const struct mu_ckpt_shape *s, char *buf, size_t size)
{
    size_t at = 0;

    for (int d = 0; d < s->ndim && at < size; d++)
        at += (size_t)snprintf(buf + at, size - at, "%s%" PRIu64, d ? " x " : "", s->global[d]);
}

static void print_tensors(const struct mu_ckpt_tensors *tensors)
{
    static const struct mu_column columns[] = {{"TENSOR", 0}, {"TYPE", 0}, {"SHAPE", 0}, {"SIZE", MU_RIGHT}};
    struct mu_table *t = mu_table_new(columns, MU_COUNT(columns));
    char buf[300], size[32];

    for (size_t i = 0; t && i < tensors->n; i++) {
        const struct mu_ckpt_shape *s = &tensors->v[i].shape;

        mu_table_cell(t, tensors->v[i].name);
        mu_table_cell(t, mu_dtype_name((int)s->dtype));
        shape_text(s, buf, sizeof buf);
        mu_table_cell(t, buf);
        mu_table_cell(t, mu_ckpt_size_text(s->bytes, size));
    }
    if (t)
        mu_table_print(t, stdout);
    mu_table_free(t);
}

int mu_ckpt_show_tensors(const struct mu_ckpt_opts *o, const struct mu_ckpt_seen *g,
                         const struct mu_ckpt_tensors *tensors, struct mu_err *err)
{
    if (o->json) {
        json_t *list, *root = mu_ckpt_document(&list), *x = mu_ckpt_as_json(g), *all = json_array();

        for (size_t i = 0; i < tensors->n; i++)
            json_array_append_new(all, tensor_as_json(&tensors->v[i]));
        json_object_set_new(x, "tensors", all);
        json_array_append_new(list, x);
        return mu_ckpt_print_json(root, err);
    }
    mu_ckpt_print_table(g, 1);
    puts("");
    print_tensors(tensors);
    return 0;
}

/* --- progress ----------------------------------------------------------------------------------------------------- */

int mu_ckpt_advance(void *arg, uint64_t n)
{
    struct mu_ckpt_progress *p = arg;
    uint64_t now = mu_now();
    char a[32], b[32];

    p->done += n;
    if (!p->on || (now - p->shown < 100 * MU_MS && p->done < p->total) || now - p->began < 300 * MU_MS)
        return 0;
    p->shown = now;
    double rate = (double)p->done / ((double)(now - p->began) / 1e9);
    fprintf(stderr, "\r%s: %3.0f %%, %s of %s, %.0f s left \033[K", p->what,
            p->total ? 100.0 * (double)p->done / (double)p->total : 100.0, mu_ckpt_size_text(p->done, a),
            mu_ckpt_size_text(p->total, b), rate > 0 && p->total > p->done ? (double)(p->total - p->done) / rate : 0);
    return 0;
}

int mu_ckpt_advance_of(void *arg, uint64_t n, uint64_t total)
{
    struct mu_ckpt_progress *p = arg;

    p->total = total;
    return mu_ckpt_advance(p, n);
}

struct mu_ckpt_progress mu_ckpt_progress(const struct mu_ckpt_opts *o, const char *what, uint64_t total)
{
    return (struct mu_ckpt_progress){
        .what = what, .total = total, .began = mu_now(), .on = !o->quiet && isatty(STDERR_FILENO)};
}

void mu_ckpt_finish(const struct mu_ckpt_progress *p)
{
    if (p->on && p->shown)
        fputs("\r\033[K", stderr);
}
