#include "runtime/base/opt.h"

#include <limits.h>
#include <stdbool.h>
#include <string.h>

#include "runtime/base/str.h"

enum { HELP = -2, NONE = -1, WIDTH = 80, COLUMN = 27 };

/* Calls for each blank-separated word of s: true when word w of length len is among them. */
static bool among(const char *words, char sep, const char *w, size_t len)
{
    for (const char *p = words; p && *p;) {
        size_t k = strcspn(p, (char[]){sep, 0});
        if (k == len && !strncmp(p, w, len))
            return true;
        p += k + (p[k] != 0);
    }
    return false;
}

static bool takes_value(const struct mu_opt *o)
{
    return o->kind != MU_OPT_FLAG && !(o->kind == MU_OPT_FUNC && !o->metavar);
}

static int find_long(const struct mu_opt *table, size_t n, const char *name, size_t len, bool two_dashes)
{
    for (size_t i = 0; i < n; i++) {
        if (two_dashes && strlen(table[i].name) == len && !strncmp(table[i].name, name, len))
            return (int)i;
        if (among(table[i].aliases, ' ', name, len))
            return (int)i;
    }
    return len == 4 && !strncmp(name, "help", 4) ? HELP : NONE;
}

static int find_letter(const struct mu_opt *table, size_t n, char letter)
{
    for (size_t i = 0; i < n; i++)
        if (table[i].letter == letter)
            return (int)i;
    return letter == 'h' ? HELP : NONE;
}

static int unknown(const struct mu_opt *table, size_t n, const char *arg, struct mu_err *err)
{
    char shown[80], word[64], best[64] = "";
    const char *name = arg + strspn(arg, "-");
    size_t len = strcspn(name, "=");
    unsigned least = UINT_MAX;

    mu_str_show(shown, sizeof shown, arg);
    if (len < sizeof word) {
        memcpy(word, name, len);
        word[len] = 0;
        for (size_t i = 0; i < n; i++) {
            if (!table[i].help)
                continue;
            unsigned d = mu_str_distance(word, table[i].name);
            /* "--rank" for "--ranks-per-node": a beginning that is long enough is a good guess too. */
            if (len >= 3 && !strncmp(word, table[i].name, len))
                d = 1;
            if (d < least && d <= 1 + len / 4) {
                least = d;
                snprintf(best, sizeof best, "--%s", table[i].name);
            }
        }
    }
    if (*best)
        return mu_err_set(err, MUSTER_EARG, "unknown option %s; did you mean %s?", shown, best);
    return mu_err_set(err, MUSTER_EARG, "unknown option %s; --help lists the options", shown);
}

/* What a value of this kind must look like, for messages. */
static void allowed(const struct mu_opt *o, char *buf, size_t size)
{
    switch (o->kind) {
    case MU_OPT_INT:
        snprintf(buf, size, "a number from %lld to %lld", (long long)o->min, (long long)o->max);
        break;
    case MU_OPT_U64:
        if (o->max)
            snprintf(buf, size, "a number from %lld to %lld", (long long)o->min, (long long)o->max);
        else
            snprintf(buf, size, "a number of at least %lld", (long long)o->min);
        break;
    case MU_OPT_DOUBLE:
        snprintf(buf, size, "a number");
        break;
    case MU_OPT_DURATION:
        snprintf(buf, size, "a time such as 500ms, 30s, 2m, 1h30m");
        break;
    case MU_OPT_SIZE:
        snprintf(buf, size, "a size such as 4096, 64K, 64M, 1.5G");
        break;
    case MU_OPT_CHOICE:
        snprintf(buf, size, "one of %s", o->metavar);
        break;
    default:
        snprintf(buf, size, "%s", o->metavar ? o->metavar : "a value");
    }
}

static int choice(const char *words, const char *value, int *out)
{
    int i = 0;

    for (const char *p = words; *p; i++) {
        size_t k = strcspn(p, "|");
        if (strlen(value) == k && !strncmp(p, value, k)) {
            *out = i;
            return 0;
        }
        p += k + (p[k] != 0);
    }
    return MUSTER_EARG;
}

static int store(const struct mu_opt *o, const char *spelling, const char *value, void *opts, struct mu_err *err)
{
    char *field = (char *)opts + o->offset, want[120], shown[80];
    uint64_t u, top = o->max > 0 ? (uint64_t)o->max : UINT64_MAX;
    int64_t i;
    double d;
    int k, rc = 0;

    switch (o->kind) {
    case MU_OPT_FLAG:
        memcpy(field, &(bool){true}, sizeof(bool));
        return 0;
    case MU_OPT_STRING:
        memcpy(field, &value, sizeof value);
        return 0;
    case MU_OPT_INT:
        if ((rc = mu_str_i64(value, o->min, o->max, &i)) == 0)
            memcpy(field, &(int){(int)i}, sizeof(int));
        break;
    case MU_OPT_U64:
        if ((rc = mu_str_u64(value, (uint64_t)o->min, top, &u)) == 0)
            memcpy(field, &u, sizeof u);
        break;
    case MU_OPT_DOUBLE:
        if ((rc = mu_str_double(value, &d)) == 0)
            memcpy(field, &d, sizeof d);
        break;
    case MU_OPT_DURATION:
        if ((rc = mu_str_duration(value, &u)) == 0)
            memcpy(field, &u, sizeof u);
        break;
    case MU_OPT_SIZE:
        if ((rc = mu_str_size(value, &u)) == 0)
            memcpy(field, &u, sizeof u);
        break;
    case MU_OPT_CHOICE:
        if ((rc = choice(o->metavar, value, &k)) == 0)
            memcpy(field, &k, sizeof k);
        break;
    case MU_OPT_STRV: {
        char **v;
        memcpy(&v, field, sizeof v);
        rc = mu_strv_append(&v, value);
        memcpy(field, &v, sizeof v);
        return rc < 0 ? mu_err_set(err, rc, "%s: %s", spelling, muster_strerror(rc)) : 0;
    }
    case MU_OPT_FUNC:
        rc = o->func(value, opts, err);
        if (rc < 0)
            mu_err_prefix(err, "%s", spelling);
        return rc < 0 ? rc : 0;
    }
    if (rc < 0) {
        allowed(o, want, sizeof want);
        return mu_err_set(err, rc, "%s takes %s, not '%s'", spelling, want, mu_str_show(shown, sizeof shown, value));
    }
    return 0;
}

/* Takes the option at argv[i]. Returns the number of arguments used, 0 for help, or a negative error. */
static int take(const struct mu_opt *table, size_t n, int argc, char **argv, int i, unsigned flags, void *opts,
                struct mu_err *err)
{
    const char *arg = argv[i], *name = arg + 1 + (arg[1] == '-'), *value = NULL;
    bool two = arg[1] == '-';
    size_t len = strcspn(name, "=");
    char spelling[80];
    int at = find_long(table, n, name, len, two || flags & MU_OPT_ONE_DASH), used = 1;

    if (at >= 0) {
        snprintf(spelling, sizeof spelling, "%.*s", (int)(len + (size_t)(name - arg)), arg);
        value = name[len] ? name + len + 1 : NULL;
    } else if (at == NONE && !two && (at = find_letter(table, n, arg[1])) >= 0) {
        snprintf(spelling, sizeof spelling, "-%c", arg[1]);
        value = arg[2] ? arg + 2 : NULL;
        if (value && !takes_value(&table[at]))
            return unknown(table, n, arg, err);
    }
    if (at == HELP && (!arg[2] || !strcmp(name, "help")))
        return 0;
    if (at == HELP && name[len] == '=')
        return mu_err_set(err, MUSTER_EARG, "%.*s takes no value", (int)(name + len - arg), arg);
    if (at < 0)
        return unknown(table, n, arg, err);
    if (!takes_value(&table[at])) {
        if (value)
            return mu_err_set(err, MUSTER_EARG, "%s takes no value", spelling);
    } else if (!value) {
        if (i + 1 >= argc) {
            char want[120];
            allowed(&table[at], want, sizeof want);
            return mu_err_set(err, MUSTER_EARG, "%s needs a value: %s", spelling, want);
        }
        value = argv[i + 1];
        used = 2;
    }
    int rc = store(&table[at], spelling, value, opts, err);
    return rc < 0 ? rc : used;
}

/* Moves argv[from..from+k-1] to before argv[to], to <= from. */
static void rotate(char **argv, int to, int from, int k)
{
    for (; k > 0; k--, to++, from++) {
        char *a = argv[from];
        memmove(argv + to + 1, argv + to, (size_t)(from - to) * sizeof *argv);
        argv[to] = a;
    }
}

int mu_opt_parse(const struct mu_opt *table, size_t n, int argc, char **argv, unsigned flags, void *opts,
                 int *first_operand, struct mu_err *err)
{
    int i = 1, end = 1; /* argv[1..end-1] are options, argv[end..i-1] operands that were met on the way */

    while (i < argc) {
        const char *a = argv[i];

        if (!strcmp(a, "--")) {
            rotate(argv, end, i, 1);
            end++;
            break;
        }
        if (a[0] != '-' || !a[1]) {
            if (!(flags & MU_OPT_PERMUTE))
                break;
            i++;
            continue;
        }
        int used = take(table, n, argc, argv, i, flags, opts, err);
        if (used < 0)
            return used;
        if (!used)
            return 1;
        rotate(argv, end, i, used);
        end += used;
        i += used;
    }
    *first_operand = end;
    return 0;
}

void mu_opt_free(const struct mu_opt *table, size_t n, void *opts)
{
    for (size_t i = 0; i < n; i++) {
        char **v, *field = (char *)opts + table[i].offset;

        if (table[i].kind != MU_OPT_STRV)
            continue;
        memcpy(&v, field, sizeof v);
        mu_strv_free(v);
        memset(field, 0, sizeof v);
    }
}

/* --- help ------------------------------------------------------------------------------------------------------- */

/* Prints text from column `at` on, wrapped, further lines at COLUMN. */
static void wrap(FILE *f, const char *text, int at)
{
    bool fresh = true;

    for (const char *p = text + strspn(text, " "); *p; p += strspn(p, " ")) {
        int len = (int)strcspn(p, " ");
        if (!fresh && at + 1 + len > WIDTH) {
            fprintf(f, "\n%*s", COLUMN, "");
            at = COLUMN;
            fresh = true;
        }
        at += fprintf(f, "%s%.*s", fresh ? "" : " ", len, p);
        fresh = false;
        p += len;
    }
    fputc('\n', f);
}

static void help_row(FILE *f, const char *left, const char *text)
{
    int at = fprintf(f, "  %s", left);

    if (at >= COLUMN - 1) {
        fputc('\n', f);
        at = 0;
    }
    fprintf(f, "%*s", COLUMN - at, "");
    wrap(f, text, COLUMN);
}

void mu_opt_help(FILE *f, const char *usage, const struct mu_opt *table, size_t n)
{
    fprintf(f, "usage: %s\n", usage);
    if (n)
        fputc('\n', f);
    for (size_t i = 0; i < n; i++) {
        const struct mu_opt *o = &table[i];
        char left[120];
        mu_auto_buf struct mu_buf text = {0};

        if (!o->help)
            continue;
        int k = o->letter ? snprintf(left, sizeof left, "-%c, ", o->letter) : snprintf(left, sizeof left, "    ");
        snprintf(left + k, sizeof left - (size_t)k, "--%s%s%s", o->name, takes_value(o) ? " " : "",
                 !takes_value(o) ? ""
                 : o->metavar    ? o->metavar
                                 : "VALUE");
        mu_buf_puts(&text, o->help);
        for (const char *p = o->aliases, *sep = " (also "; p && *p; sep = ", ") {
            int len = (int)strcspn(p, " ");
            /* mpirun's users know the short spellings by one dash, the others by two. */
            mu_buf_appendf(&text, "%s%s%.*s", sep, len < 4 ? "-" : "--", len, p);
            p += len + (p[len] != 0);
            if (!*p)
                mu_buf_putc(&text, ')');
        }
        help_row(f, left, mu_buf_str(&text));
    }
}

/* --- check ------------------------------------------------------------------------------------------------------ */

static int check_row(const struct mu_opt *o, struct mu_err *err)
{
    if (!o->name || !*o->name || strpbrk(o->name, " ="))
        return mu_err_set(err, MUSTER_EARG, "a row without a proper name");
    if (o->kind == MU_OPT_INT && (o->min > o->max || o->min < INT_MIN || o->max > INT_MAX || o->min == o->max))
        return mu_err_set(err, MUSTER_EARG, "--%s: range", o->name);
    if (o->kind == MU_OPT_U64 && (o->min < 0 || (o->max && o->min > o->max)))
        return mu_err_set(err, MUSTER_EARG, "--%s: range", o->name);
    if (o->kind == MU_OPT_CHOICE && (!o->metavar || !strchr(o->metavar, '|')))
        return mu_err_set(err, MUSTER_EARG, "--%s: choices", o->name);
    if ((o->kind == MU_OPT_FUNC) != !!o->func)
        return mu_err_set(err, MUSTER_EARG, "--%s: func", o->name);
    if (o->kind != MU_OPT_FLAG && o->kind != MU_OPT_FUNC && !o->metavar)
        return mu_err_set(err, MUSTER_EARG, "--%s: metavar", o->name);
    return 0;
}

int mu_opt_check(const struct mu_opt *table, size_t n, struct mu_err *err)
{
    for (size_t i = 0; i < n; i++) {
        const struct mu_opt *o = &table[i];
        int rc = check_row(o, err);

        if (rc < 0)
            return rc;
        for (size_t j = 0; j < i; j++) {
            if (!strcmp(o->name, table[j].name) || among(table[j].aliases, ' ', o->name, strlen(o->name)) ||
                (o->letter && o->letter == table[j].letter))
                return mu_err_set(err, MUSTER_EARG, "--%s: spelled like --%s", o->name, table[j].name);
            for (const char *p = o->aliases; p && *p;) {
                size_t len = strcspn(p, " ");
                if (among(table[j].aliases, ' ', p, len) ||
                    (strlen(table[j].name) == len && !strncmp(p, table[j].name, len)))
                    return mu_err_set(err, MUSTER_EARG, "--%s: alias of --%s", o->name, table[j].name);
                p += len + (p[len] != 0);
            }
        }
    }
    return 0;
}
