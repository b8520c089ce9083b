#include "launcher/core/settings.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/str.h"

int mu_setting_bad(const struct mu_setting *l, const char *at, const char *fmt, const char *what, const char *more)
{
    char shown[80], text[400];

    snprintf(text, sizeof text, fmt, mu_str_show(shown, sizeof shown, what), more);
    return mu_err_set(l->err, MUSTER_EARG, "%s:%u:%u: %s", l->file, l->number, (unsigned)(at - l->text) + 1, text);
}

static char *trim(char *s)
{
    size_t n;

    while (isspace((unsigned char)*s))
        s++;
    for (n = strlen(s); n && isspace((unsigned char)s[n - 1]); n--)
        ;
    s[n] = 0;
    return s;
}

const char *mu_setting_of(const struct mu_setting *l, const char *word)
{
    size_t n = strlen(word);

    if (strncmp(l->key, word, n) != 0 || !isspace((unsigned char)l->key[n]))
        return NULL;
    for (n++; isspace((unsigned char)l->key[n]); n++)
        ;
    return l->key + n;
}

static int choose(const struct mu_setting *l, const struct mu_setting_row *row, void *at)
{
    char all[120] = "";

    for (uint32_t k = 0; row->choices[k]; k++) {
        size_t len = strlen(all);
        if (!strcmp(l->value, row->choices[k])) {
            memcpy(at, &k, sizeof k);
            return 0;
        }
        snprintf(all + len, sizeof all - len, "%s%s", !k ? "" : row->choices[k + 1] ? ", " : " and ", row->choices[k]);
    }
    return mu_setting_bad(l, l->value, "'%s' is none of %s", l->value, all);
}

int mu_setting_set(const struct mu_setting *l, const struct mu_setting_row *rows, size_t nrows, void *out)
{
    char least[32], most[32], range[80];
    size_t i = 0, near = 0;
    uint64_t n;

    while (i < nrows && strcmp(rows[i].name, l->key) != 0) {
        if (mu_str_distance(l->key, rows[i].name) < mu_str_distance(l->key, rows[near].name))
            near = i;
        i++;
    }
    if (i == nrows)
        return mu_setting_bad(l, l->key, "there is no setting '%s'; the nearest is '%s'", l->key, rows[near].name);
    const struct mu_setting_row *row = &rows[i];
    void *at = (char *)out + row->offset;
    switch (row->kind) {
    case MU_SET_DURATION:
        snprintf(range, sizeof range, "%s to %s", mu_str_fmt_duration(least, sizeof least, row->min),
                 mu_str_fmt_duration(most, sizeof most, row->max));
        if (mu_str_duration(l->value, &n) || n < row->min || n > row->max)
            return mu_setting_bad(l, l->value, "'%s' is not a time such as 90s, 10m, 36h or 7d, %s", l->value, range);
        memcpy(at, &n, sizeof n);
        return 0;
    case MU_SET_SIZE:
        snprintf(range, sizeof range, "%s to %s", mu_str_fmt_size(least, sizeof least, row->min),
                 mu_str_fmt_size(most, sizeof most, row->max));
        if (mu_str_size(l->value, &n) || n < row->min || n > row->max)
            return mu_setting_bad(l, l->value, "'%s' is not a size such as 500M or 2G, %s", l->value, range);
        memcpy(at, &n, sizeof n);
        return 0;
    case MU_SET_NUMBER:
        snprintf(range, sizeof range, "%llu to %llu", (unsigned long long)row->min, (unsigned long long)row->max);
        if (mu_str_u64(l->value, row->min, row->max, &n))
            return mu_setting_bad(l, l->value, "'%s' is not a number, %s", l->value, range);
        memcpy(at, &(uint32_t){(uint32_t)n}, sizeof(uint32_t));
        return 0;
    case MU_SET_CHOICE:
        return choose(l, row, at);
    }
    return 0;
}

static int parse_line(struct mu_setting *l, char *text, const char *forms,
                      int (*set)(void *arg, const struct mu_setting *), void *arg)
{
    char *hash = strchr(text, '#'), *eq;

    if (hash)
        *hash = 0;
    char *key = trim(text);
    if (!*key)
        return 0;
    if (!(eq = strchr(key, '=')))
        return mu_setting_bad(l, key, "'%s' has no '='; a line is: %s", key, forms);
    *eq = 0;
    l->value = trim(eq + 1);
    l->key = trim(key);
    return set(arg, l);
}

int mu_settings_parse(const char *name, const char *text, size_t len, const char *forms,
                      int (*set)(void *arg, const struct mu_setting *), void *arg, struct mu_err *err)
{
    char line[1024];
    unsigned number = 0;
    int rc = 0;

    for (size_t at = 0; at < len && !rc; number++) {
        const char *nl = memchr(text + at, '\n', len - at);
        size_t n = nl ? (size_t)(nl - text) - at : len - at;
        struct mu_setting l = {.file = name, .text = line, .number = number + 1, .err = err};
        if (n >= sizeof line) {
            rc = mu_err_set(err, MUSTER_EARG, "%s:%u:1: the line is longer than %zu bytes", name, number + 1,
                            sizeof line - 1);
        } else if (memchr(text + at, 0, n)) {
            rc = mu_err_set(err, MUSTER_EARG, "%s:%u:1: the line is not text", name, number + 1);
        } else {
            memcpy(line, text + at, n);
            line[n] = 0;
            rc = parse_line(&l, line, forms, set, arg);
        }
        at += n + 1;
    }
    return rc;
}
