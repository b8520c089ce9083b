#include "runtime/base/opt.h"

#include <stdbool.h>
#include <string.h>

#include "runtime/base/buf.h"
#include "runtime/base/clean.h"
#include "runtime/base/str.h"
#include "tests/unit/tap.h"

struct opts {
    bool json;
    int ranks, failure;
    uint64_t seed, timeout, size;
    double scale;
    const char *name;
    char **env;
    int calls;
    char last[20];
};

static int on_func(const char *value, void *opts, struct mu_err *err)
{
    struct opts *o = opts;

    o->calls++;
    if (value && !strcmp(value, "bad"))
        return mu_err_set(err, MUSTER_EARG, "bad is not good");
    if (value)
        snprintf(o->last, sizeof o->last, "%s", value);
    return 0;
}

static const struct mu_opt table[] = {
    {"ranks", 'n', MU_OPT_INT, offsetof(struct opts, ranks), "N", "number of ranks", .aliases = "np c", .min = 1,
     .max = 100},
    {"json", 0, MU_OPT_FLAG, offsetof(struct opts, json), NULL, "machine-readable output"},
    {"name", 'J', MU_OPT_STRING, offsetof(struct opts, name), "NAME", "name of the job"},
    {"env", 'x', MU_OPT_STRV, offsetof(struct opts, env), "VAR[=VALUE]", "sets a variable for the ranks"},
    {"timeout", 't', MU_OPT_DURATION, offsetof(struct opts, timeout), "TIME", "ends the job after this time"},
    {"size", 0, MU_OPT_SIZE, offsetof(struct opts, size), "SIZE", "bytes"},
    {"seed", 0, MU_OPT_U64, offsetof(struct opts, seed), "N", "seed", .min = 1},
    {"scale", 0, MU_OPT_DOUBLE, offsetof(struct opts, scale), "X", "factor"},
    {"on-failure", 0, MU_OPT_CHOICE, offsetof(struct opts, failure), "kill|keep",
     "what happens to the other ranks when one fails, with a text that is long enough to need a second line"},
    {"bind", 0, MU_OPT_FUNC, 0, "POLICY", "binds ranks", .aliases = "bind-to", .func = on_func},
    {"bell", 'b', MU_OPT_FUNC, 0, NULL, "rings", .func = on_func},
    {"secret", 0, MU_OPT_FLAG, offsetof(struct opts, json), NULL, NULL},
};

static struct mu_err err;
static struct opts o;
static int first;

static int parse(unsigned flags, const char *line, char *words[32])
{
    static char copy[400];
    int argc = 0;

    snprintf(copy, sizeof copy, "cmd %s", line);
    for (char *save, *w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save))
        words[argc++] = w;
    words[argc] = NULL;
    mu_opt_free(table, MU_COUNT(table), &o);
    memset(&o, 0, sizeof o);
    memset(&err, 0, sizeof err);
    first = -7;
    return mu_opt_parse(table, MU_COUNT(table), argc, words, flags, &o, &first, &err);
}

static void accepted(void)
{
    char *w[32];

    static const char *const spell[] = {"--ranks 4", "--ranks=4", "-n 4",   "-n4", "-np 4",
                                        "--np 4",    "-np=4",     "--np=4", "-c 4"};
    for (size_t i = 0; i < MU_COUNT(spell); i++) {
        int rc = parse(0, spell[i], w);
        TAP_OK(rc == 0 && o.ranks == 4 && !w[first], "ranks as '%s'", spell[i]);
    }
    TAP_OK(parse(0, "", w) == 0 && first == 1, "no arguments");
    TAP_OK(parse(0, "--json -n 2 prog --json -n 3", w) == 0 && o.json && o.ranks == 2 && !strcmp(w[first], "prog"),
           "stops at the first operand");
    TAP_OK(parse(0, "-n 2 -- --json", w) == 0 && !o.json && !strcmp(w[first], "--json"), "-- ends the options");
    TAP_OK(parse(0, "- x", w) == 0 && !strcmp(w[first], "-"), "a lone dash is an operand");
    TAP_OK(parse(MU_OPT_PERMUTE, "a -n 2 b --json c -- -d e", w) == 0 && o.json && o.ranks == 2 &&
               !strcmp(w[first], "a") && !strcmp(w[first + 1], "b") && !strcmp(w[first + 2], "c") &&
               !strcmp(w[first + 3], "-d") && !strcmp(w[first + 4], "e") && !w[first + 5],
           "operands and options mixed, in order");
    TAP_OK(parse(0, "-x A=1 -x B --env=C=2=3", w) == 0 && mu_strv_len(o.env) == 3 && !strcmp(o.env[2], "C=2=3"),
           "a repeatable option collects");
    TAP_OK(parse(0, "--timeout 1h30m --size 64M --seed 18446744073709551615 --scale 0.5", w) == 0 &&
               o.timeout == 5400000000000 && o.size == 64 << 20 && o.seed == UINT64_MAX && o.scale == 0.5,
           "times, sizes, numbers");
    TAP_OK(parse(0, "--on-failure=keep", w) == 0 && o.failure == 1, "a choice gives its index");
    TAP_OK(parse(0, "-b --bell --bind-to core -bind-to x", w) == 0 && o.calls == 4 && !strcmp(o.last, "x"),
           "functions with and without a value");
    TAP_OK(parse(0, "--name --json", w) == 0 && !strcmp(o.name, "--json") && !o.json, "a value may start with dashes");
    TAP_OK(parse(0, "--name=", w) == 0 && !*o.name, "an empty value");
    TAP_OK(parse(0, "-n 1 -n 2", w) == 0 && o.ranks == 2, "the last one wins");
    TAP_OK(parse(0, "--secret", w) == 0 && o.json, "a row without help is understood");
    static const char *const help[] = {"-h", "--help", "-help", "-n 1 --help -n 0"};
    for (size_t i = 0; i < MU_COUNT(help); i++)
        TAP_OK(parse(0, help[i], w) == 1, "help by '%s'", help[i]);
    TAP_OK(parse(0, "prog --help", w) == 0, "help behind the program is the program's");
}

static void refused(void)
{
    static const struct {
        const char *line, *text;
    } rows[] = {
        {"--nmae x", "unknown option --nmae; did you mean --name?"},
        {"--rank 3", "unknown option --rank; did you mean --ranks?"},
        {"--on-fail=keep", "unknown option --on-fail=keep; did you mean --on-failure?"},
        {"--zzzz", "unknown option --zzzz; --help lists the options"},
        {"--secre", "unknown option --secre; --help lists the options"},
        {"-q", "unknown option -q; --help lists the options"},
        {"-bx", "unknown option -bx; --help lists the options"},
        {"--ranks", "--ranks needs a value: a number from 1 to 100"},
        {"-n", "-n needs a value: a number from 1 to 100"},
        {"-n 0", "-n takes a number from 1 to 100, not '0'"},
        {"-n -1", "-n takes a number from 1 to 100, not '-1'"},
        {"-np=four", "-np takes a number from 1 to 100, not 'four'"},
        {"--ranks=", "--ranks takes a number from 1 to 100, not ''"},
        {"-n 101", "-n takes a number from 1 to 100, not '101'"},
        {"-n 4294967297", "-n takes a number from 1 to 100, not '4294967297'"},
        {"--json=yes", "--json takes no value"},
        {"--bell=x", "--bell takes no value"},
        {"--help=x", "--help takes no value"},
        {"-hx", "unknown option -hx; --help lists the options"},
        {"--timeout soon", "--timeout takes a time such as 500ms, 30s, 2m, 1h30m, not 'soon'"},
        {"--size 1X", "--size takes a size such as 4096, 64K, 64M, 1.5G, not '1X'"},
        {"--seed 0", "--seed takes a number of at least 1, not '0'"},
        {"--scale x", "--scale takes a number, not 'x'"},
        {"--on-failure=kil", "--on-failure takes one of kill|keep, not 'kil'"},
        {"--on-failure=", "--on-failure takes one of kill|keep, not ''"},
        {"--name", "--name needs a value: NAME"},
        {"--bind bad", "--bind: bad is not good"},
        {"-n \033[2J", "-n takes a number from 1 to 100, not '\\x1b[2J'"},
    };
    char *w[32];

    for (size_t i = 0; i < MU_COUNT(rows); i++) {
        int rc = parse(0, rows[i].line, w);
        TAP_OK(rc == MUSTER_EARG && !strcmp(err.text, rows[i].text) && first == -7, "%s", rows[i].text);
        if (strcmp(err.text, rows[i].text))
            printf("# got: %s\n", err.text);
    }
    TAP_OK(parse(0, "-x A --nope", w) == MUSTER_EARG && mu_strv_len(o.env) == 1, "a failure leaves what can be freed");
    mu_opt_free(table, MU_COUNT(table), &o);
    TAP_OK(o.env == NULL, "mu_opt_free");
}

static void help(void)
{
    char *text = NULL;
    size_t len;
    FILE *f = open_memstream(&text, &len);
    mu_auto_free char *hold = NULL;

    mu_opt_help(f, "muster cmd [options]", table, MU_COUNT(table));
    fclose(f);
    hold = text;
    TAP_OK(strstr(text, "usage: muster cmd [options]\n\n  -n, --ranks N            number of ranks (also -np, -c)\n"),
           "help begins with usage and aligned rows");
    TAP_OK(strstr(text, "  -x, --env VAR[=VALUE]    sets a variable for the ranks\n"), "a wide row still fits");
    TAP_OK(strstr(text, "      --on-failure kill|keep\n                           what happens"),
           "a wider one does not");
    TAP_OK(!strstr(text, "secret"), "rows without help are not shown");
    bool narrow = true;
    for (char *p = text; *p; p += strcspn(p, "\n") + 1)
        narrow &= strcspn(p, "\n") <= 80;
    TAP_OK(narrow, "no line is wider than 80");
}

static void checks(void)
{
    static const struct {
        struct mu_opt row[2];
        const char *what;
    } bad[] = {
        {{{"a", 'x', MU_OPT_FLAG, 0, NULL, ""}, {"b", 'x', MU_OPT_FLAG, 0, NULL, ""}}, "same letter"},
        {{{"a", 0, MU_OPT_FLAG, 0, NULL, ""}, {"a", 0, MU_OPT_FLAG, 0, NULL, ""}}, "same name"},
        {{{"a", 0, MU_OPT_FLAG, 0, NULL, ""}, {"b", 0, MU_OPT_FLAG, 0, NULL, "", .aliases = "c a"}}, "alias of a name"},
        {{{"a", 0, MU_OPT_FLAG, 0, NULL, "", .aliases = "b"}, {"b", 0, MU_OPT_FLAG, 0, NULL, ""}}, "name of an alias"},
        {{{"a", 0, MU_OPT_INT, 0, "N", ""}, {"b", 0, MU_OPT_FLAG, 0, NULL, ""}}, "number without a range"},
        {{{"a", 0, MU_OPT_STRING, 0, NULL, ""}, {"b", 0, MU_OPT_FLAG, 0, NULL, ""}}, "value without a metavar"},
        {{{"a", 0, MU_OPT_FUNC, 0, NULL, ""}, {"b", 0, MU_OPT_FLAG, 0, NULL, ""}}, "function without one"},
        {{{"a", 0, MU_OPT_CHOICE, 0, "one", ""}, {"b", 0, MU_OPT_FLAG, 0, NULL, ""}}, "choice without one"},
        {{{"a b", 0, MU_OPT_FLAG, 0, NULL, ""}, {"b", 0, MU_OPT_FLAG, 0, NULL, ""}}, "name with a blank"},
    };

    TAP_OK(mu_opt_check(table, MU_COUNT(table), &err) == 0, "this test's table is sound");
    for (size_t i = 0; i < MU_COUNT(bad); i++)
        TAP_OK(mu_opt_check(bad[i].row, 2, &err) == MUSTER_EARG, "unsound: %s", bad[i].what);
}

int main(void)
{
    accepted();
    refused();
    help();
    checks();
    mu_opt_free(table, MU_COUNT(table), &o);
    return tap_done();
}
