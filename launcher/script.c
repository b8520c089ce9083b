#include "launcher/script.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/run.h"
#include "runtime/base/clean.h"
#include "runtime/base/path.h"
#include "runtime/base/str.h"

#define TEXT_MAX 120000u /* Linux takes words of 128 KiB */
#define MARK "#MUSTER"

/* Who takes a program as a word, and behind which option. $0 is the next word, or the program is named by none. */
static const struct {
    const char *name, *option;
    bool names_itself;
} interpreters[] = {{"sh", "-c", true},  {"bash", "-c", true},    {"dash", "-c", true},     {"ksh", "-c", true},
                    {"zsh", "-c", true}, {"python", "-c", false}, {"python3", "-c", false}, {"perl", "-e", false}};

static int no_memory(struct mu_err *err)
{
    return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
}

/* Where the program is on the command line; argc: nowhere. */
static int program(const struct mu_opt *table, size_t n, int argc, char **argv)
{
    int at = 0;

    while (at < argc) {
        struct mu_run_opts opts = {0};
        mu_auto_free char **copy = calloc((size_t)(argc - at) + 1, sizeof *copy);
        int first = argc;
        if (!copy)
            return argc;
        memcpy(copy, argv + at, (size_t)(argc - at) * sizeof *copy);
        int rc = mu_opt_parse(table, n, argc - at, copy, MU_OPT_ONE_DASH, &opts, &first, NULL);
        bool value = opts.mca_name; /* of --mca NAME, which is the next word */
        mu_opt_free(table, n, &opts);
        mu_strv_free(opts.mca);
        mu_strv_free(opts.after);
        if (rc)
            return argc;
        at += first;
        if (!value)
            return at;
    }
    return argc;
}

static char *read_script(const char *path, size_t *len)
{
    mu_auto_fd int fd = mu_path_open_regular(path, 0, NULL, NULL);
    mu_auto_file FILE *f = fd >= 0 ? fdopen(fd, "r") : NULL;
    char *text = f ? malloc(TEXT_MAX + 2) : NULL;

    fd = f ? -1 : fd; /* it is f's */
    *len = text ? fread(text, 1, TEXT_MAX + 1, f) : 0;
    if (*len < 2 || memcmp(text, "#!", 2) != 0) {
        free(text);
        return NULL;
    }
    text[*len] = 0;
    return text;
}

/* A line of options; it begins behind the mark. */
static int take_line(const struct mu_opt *table, size_t n, const char *line, struct mu_script *out, struct mu_err *err)
{
    char **words = NULL, *check[260] = {(char[]){"submit"}};
    struct mu_run_opts opts = {0};
    int first, rc, k = 1;
    char shown[80];

    while (isspace((unsigned char)*line))
        line++;
    if (!*line || *line == '#')
        return 0;
    if ((rc = mu_str_words(line, &words, err)))
        return rc;
    size_t kept = 0;
    while (words[kept] && words[kept][0] != '#') /* the rest is a comment */
        kept++;
    for (size_t i = 0; i < kept && k < 259; i++)
        check[k++] = words[i];
    if (k == 259)
        rc = mu_err_set(err, MUSTER_EARG, "more than 257 words");
    else
        rc = mu_opt_parse(table, n, k, check, MU_OPT_ONE_DASH, &opts, &first, err);
    if (rc == 1)
        rc = mu_err_set(err, MUSTER_EARG, "an option such as -n 8 is wanted here, not --help");
    if (!rc && first > 1 && !strcmp(check[first - 1], "--")) /* what the command line has behind it are options yet */
        rc = mu_err_set(err, MUSTER_EARG, "'--' is no option");
    if (!rc && first + (opts.mca_name ? 1 : 0) < k)
        rc = mu_err_set(err, MUSTER_EARG, "'%s' is no option", mu_str_show(shown, sizeof shown, check[first]));
    mu_opt_free(table, n, &opts);
    mu_strv_free(opts.mca);
    mu_strv_free(opts.after);
    for (size_t i = 0; i < kept && !rc; i++)
        if (mu_strv_append(&out->own, words[i]))
            rc = no_memory(err);
    mu_strv_free(words);
    return rc;
}

/* All lines before the first command. 1: there were options. */
static int take_options(const struct mu_opt *table, size_t n, const char *path, const char *text, struct mu_script *out,
                        struct mu_err *err)
{
    unsigned number = 0;
    bool any = false;
    char line[4096];

    for (const char *at = text; *at; number++) {
        size_t len = strcspn(at, "\n");
        const char *from = at;
        at += len + (at[len] == '\n');
        while (len && isspace((unsigned char)from[len - 1]))
            len--;
        if (len && from[0] != '#')
            break;
        if (strncmp(from, MARK, sizeof MARK - 1) || (len > sizeof MARK - 1 && !isspace((unsigned char)from[7])))
            continue;
        if (len >= sizeof line)
            return mu_err_set(err, MUSTER_EARG, "%s:%u: the line is longer than %zu bytes", path, number + 1,
                              sizeof line - 1);
        snprintf(line, sizeof line, "%.*s", (int)(len - (sizeof MARK - 1)), from + sizeof MARK - 1);
        int rc = take_line(table, n, line, out, err);
        if (rc)
            return mu_err_prefix(err, "%s:%u: " MARK, path, number + 1);
        any = true;
    }
    return any;
}

/* The words that execute the text: those of its first line, then it as a word. Others get the file itself. */
static int take_text(const char *path, const char *text, size_t len, struct mu_script *out, struct mu_err *err)
{
    char first[512], **words = NULL;
    const char *name = NULL;
    size_t known = 0;
    int rc = 0;

    snprintf(first, sizeof first, "%.*s", (int)strcspn(text + 2, "\r\n"), text + 2);
    if (mu_str_words(first, &words, err))
        return mu_err_set(err, MUSTER_EARG, "%s:1: #! names no interpreter", path);
    for (size_t i = 0; words[i]; i++)
        if (words[i][0] != '-')
            name = strrchr(words[i], '/') ? strrchr(words[i], '/') + 1 : words[i];
    while (known < MU_COUNT(interpreters) && (!name || strcmp(interpreters[known].name, name) != 0))
        known++;
    if (known == MU_COUNT(interpreters)) {
        rc = mu_strv_append(&out->own, path);
    } else if (len > TEXT_MAX || strlen(text) < len) {
        mu_strv_free(words);
        return mu_err_set(err, MUSTER_EARG, "%s: %s", path,
                          len > TEXT_MAX ? "a script has at most 120000 bytes" : "it is not text");
    } else {
        for (size_t i = 0; words[i] && !rc; i++)
            if (strcmp(words[i], "-S") != 0)
                rc = mu_strv_append(&out->own, words[i]);
        rc = rc ? rc : mu_strv_append(&out->own, interpreters[known].option);
        rc = rc ? rc : mu_strv_append(&out->own, text);
        if (!rc && interpreters[known].names_itself)
            rc = mu_strv_append(&out->own, path);
    }
    mu_strv_free(words);
    return rc ? no_memory(err) : 0;
}

int mu_script_expand(const struct mu_opt *table, size_t n, int argc, char **argv, struct mu_script *out,
                     struct mu_err *err)
{
    int at = program(table, n, argc, argv), rc;
    const char *slash;
    size_t len, options;

    memset(out, 0, sizeof *out);
    mu_auto_free char *text = at < argc ? read_script(argv[at], &len) : NULL;
    if (!text)
        return 0;
    slash = strrchr(argv[at], '/');
    if (mu_strv_append(&out->own, "--name") || mu_strv_append(&out->own, slash ? slash + 1 : argv[at]))
        return no_memory(err);
    if ((rc = take_options(table, n, argv[at], text, out, err)) <= 0) {
        mu_script_free(out);
        return rc;
    }
    options = mu_strv_len(out->own);
    if ((rc = take_text(argv[at], text, len, out, err)) ||
        !(out->argv = calloc((size_t)argc + mu_strv_len(out->own) + 1, sizeof *out->argv))) {
        mu_script_free(out);
        return rc ? rc : no_memory(err);
    }
    out->argv[out->argc++] = argv[0];
    for (size_t i = 0; i < options; i++)
        out->argv[out->argc++] = out->own[i];
    for (int i = 1; i < at; i++)
        out->argv[out->argc++] = argv[i];
    for (size_t i = options; out->own[i]; i++)
        out->argv[out->argc++] = out->own[i];
    for (int i = at + 1; i < argc; i++)
        out->argv[out->argc++] = argv[i];
    return 1;
}

void mu_script_free(struct mu_script *s)
{
    free(s->argv);
    mu_strv_free(s->own);
    memset(s, 0, sizeof *s);
}
