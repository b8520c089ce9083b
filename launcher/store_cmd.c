/* muster store: copies of the job store, and putting one in its place. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "launcher/answer.h"
#include "launcher/backup.h"
#include "launcher/client.h"
#include "launcher/commands.h"
#include "launcher/journal.h"
#include "launcher/table.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/str.h"
#include "runtime/wire/daemon.h"

#define BACKUP_NS (600 * MU_SEC)
#define USAGE "muster store [list|backup|verify|restore [COPY]] [OPTIONS]"

struct opts {
    bool json;
};
static const struct mu_opt rows[] = {
    {"json", 0, MU_OPT_FLAG, offsetof(struct opts, json), NULL, "with list and verify: print JSON", NULL, 0, 0, NULL},
};

static int find_state(struct mu_paths *paths, struct mu_err *err)
{
    const char *far = getenv("MUSTER_POOL");

    if (far && *far)
        return mu_err_set(err, MUSTER_EARG,
                          "this is about files: do it as the pool's account on the controller's host, without "
                          "MUSTER_POOL");
    return mu_paths_find(paths, err);
}

struct found {
    bool bad;   /* some that were read are damaged */
    bool whole; /* the store can be made of what is there */
};

/* A row for each copy and journal. */
static int look_at(const char *state, bool journals, bool verify, json_t *list, struct found *found, struct mu_err *err)
{
    mu_auto_free uint64_t *v = NULL;
    int n = mu_backup_list(state, journals, &v, err), rc;

    for (int i = 0; i < n; i++) {
        struct mu_store_facts facts = {0};
        struct mu_journal_head head;
        char path[PATH_MAX], said[600] = "";
        struct mu_err why = {0};
        struct stat st;
        if ((rc = mu_backup_path(path, sizeof path, state, v[i], journals ? "log" : "db", err)))
            return rc;
        if (stat(path, &st)) /* it was pruned meanwhile */
            continue;
        int wrong = !verify    ? 0
                    : journals ? mu_journal_read(path, &head, NULL, NULL, &why)
                               : mu_store_verify(path, &facts, &why);
        mu_str_show(said, sizeof said, why.text);
        found->bad = found->bad || wrong;
        found->whole = found->whole || (verify && !wrong && (!journals || head.first));
        json_t *o = json_pack("{s:s, s:I, s:s, s:I, s:f}", "kind", journals ? "journal" : "copy", "number",
                              (json_int_t)v[i], "path", path, "bytes", (json_int_t)st.st_size, "t",
                              (double)st.st_mtim.tv_sec + (double)st.st_mtim.tv_nsec / 1e9);
        if (o && verify)
            json_object_set_new(o, "good", json_boolean(!wrong));
        if (o && wrong)
            json_object_set_new(o, "reason", json_string(said));
        if (o && verify && !wrong && !journals)
            json_object_set_new(o, "jobs", json_integer((json_int_t)facts.jobs));
        if (!o || json_array_append_new(list, o))
            return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    }
    return n < 0 ? n : 0;
}

static int print(json_t *list, const struct opts *o, bool verify, const char *state)
{
    static const struct mu_column columns[] = {
        {"NUMBER", MU_RIGHT}, {"KIND", 0}, {"MADE", 0}, {"SIZE", MU_RIGHT}, {"STATE", 0}};
    const json_t *e;
    char buf[80];
    size_t i;

    if (o->json) {
        json_t *all = json_pack("{s:s, s:s, s:O}", "schema", "muster.store/1", "state", state, "files", list);
        mu_auto_free char *text = all ? json_dumps(all, JSON_COMPACT | JSON_REAL_PRECISION(16)) : NULL;
        json_decref(all);
        if (text)
            puts(text);
        return text ? 0 : MUSTER_ENOMEM;
    }
    struct mu_table *t = mu_table_new(columns, MU_COUNT(columns));
    json_array_foreach(list, i, e)
    {
        bool bad = json_is_false(json_object_get(e, "good"));
        if (!t)
            break;
        mu_table_cellf(t, "%.0f", mu_answer_num(e, "number"));
        mu_table_cell(t, mu_answer_str(e, "kind"));
        mu_table_cell(t, mu_answer_time(mu_answer_num(e, "t"), buf, sizeof buf));
        mu_table_cell(t, mu_str_fmt_size(buf, sizeof buf, (uint64_t)mu_answer_num(e, "bytes")));
        mu_table_coloured(t, bad ? MU_BAD : MU_PLAIN, bad ? mu_answer_str(e, "reason") : verify ? "good" : "-");
    }
    if (t && i)
        mu_table_print(t, stdout);
    else if (t)
        printf("no copy of %s/jobs.db has been made yet\n", state);
    mu_table_free(t);
    return t ? 0 : MUSTER_ENOMEM;
}

/* Whether the controller makes copies; where none runs, one that this environment would start. */
static bool makes_copies(void)
{
    const char *every = getenv("MUSTER_BACKUP");
    mu_auto_free char *text = NULL;
    struct mu_client client;
    uint64_t ns = 1;
    int rc = mu_client_look(&client, NULL);

    if (!rc) {
        rc = mu_client_query_on(&client, "copies", 0, false, &text, NULL);
        mu_client_close(&client);
    }
    if (!rc) {
        json_t *o = json_loads(text, 0, NULL);
        ns = mu_answer_num(o, "every_s") > 0;
        json_decref(o);
    } else if (every && *every && mu_str_duration(every, &ns)) {
        ns = 1;
    }
    return ns > 0;
}

static int list(const struct opts *o, bool verify, int *code, struct mu_err *err)
{
    struct mu_paths paths;
    json_t *files = json_array();
    struct found found = {0};
    int rc = files ? find_state(&paths, err) : mu_err_set(err, MUSTER_ENOMEM, "out of memory");

    rc = rc ? rc : look_at(paths.state, false, verify, files, &found, err);
    rc = rc ? rc : look_at(paths.state, true, verify, files, &found, err);
    bool missing = !rc && verify && !found.bad && !found.whole, off = missing && !makes_copies();
    if (off && !o->json)
        printf("no copies of %s/jobs.db are made: MUSTER_BACKUP is 0\n", paths.state);
    else if (!rc && (o->json || json_array_size(files) || !missing) && print(files, o, verify, paths.state))
        rc = mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    json_decref(files);
    if (rc)
        return rc;
    *code = found.bad || (missing && !off) ? MU_EXIT_FAILED : 0;
    if (missing && !off)
        fprintf(stderr,
                "muster store: there is no copy of %s/jobs.db, and no journal that begins with it: nothing that a lost "
                "store could be made of; `muster store backup` makes a copy\n",
                paths.state);
    return 0;
}

/* Asks the controller for one, and again until it is there. */
static int backup(struct mu_err *err)
{
    uint64_t until = mu_now() + BACKUP_NS;
    struct mu_client client;
    double number = 0;
    bool done = false;
    int rc = mu_client_look(&client, err);

    if (rc == MU_CLIENT_NO_POOL)
        return mu_err_set(err, MUSTER_ENODE, "there is no pool, and so nothing to copy");
    for (bool ask = true; !rc && !done; ask = false) {
        mu_auto_free char *text = NULL;
        if ((rc = mu_client_query_on(&client, ask ? "backup" : "copies", 0, false, &text, err)))
            break;
        json_t *o = json_loads(text, 0, NULL);
        number = ask ? mu_answer_num(o, "number") : number;
        if (json_is_true(json_object_get(o, "running"))) {
            if (mu_now() > until)
                rc = mu_err_set(err, MUSTER_ETIMEOUT, "the copy takes too long; see `muster store` later");
        } else if (*mu_answer_str(o, "reason")) {
            rc = mu_err_set(err, MUSTER_EIO, "%.400s", mu_answer_str(o, "reason"));
        } else {
            done = true;
        }
        json_decref(o);
        if (!done && !rc)
            nanosleep(&(struct timespec){.tv_nsec = 20 * (long)MU_MS}, NULL);
    }
    mu_client_close(&client);
    if (!rc)
        printf("copy %.0f is made\n", number);
    return rc;
}

/* Nobody else may have the store open, nor begin to. */
static int restore(const char *which, struct mu_err *err)
{
    struct mu_backup_open o = {.force = true};
    struct mu_store *s = NULL;
    struct mu_paths paths;
    char path[PATH_MAX], shown[80];
    int rc;

    if (which && mu_str_u64(which, 1, UINT64_MAX, &o.copy))
        return mu_err_set(err, MUSTER_EARG, "'%s' is not the number of a copy; `muster store` lists them",
                          mu_str_show(shown, sizeof shown, which));
    if ((rc = find_state(&paths, err)))
        return rc;
    o.state = paths.state;
    if ((rc = mu_paths_init(&paths, err)) || (rc = mu_path_join(path, sizeof path, paths.run, "ctl.lock", err)))
        return rc;
    int lock = mu_path_lock(path, 0, err);
    if (lock == MUSTER_ETIMEOUT)
        return mu_err_set(err, MUSTER_EARG,
                          "the controller has the store open, and restores it by itself when it is lost; for an older "
                          "state end it first: muster controller --stop");
    if (lock < 0)
        return lock;
    rc = mu_backup_open(&o, &s, err);
    mu_store_close(s);
    if (!rc)
        puts(o.said);
    mu_daemon_leave(&paths, &lock);
    return rc;
}

int mu_cmd_store(int argc, char **argv)
{
    struct opts o = {0};
    struct mu_err err = {0};
    int first, code = 0, rc;

    if (mu_cmd_options(USAGE, rows, MU_COUNT(rows), argc, argv, 0, 2, &o, &first, &code))
        return code;
    const char *what = first < argc ? argv[first] : "list";
    bool restores = !strcmp(what, "restore");
    if (argc - first > 1 && !restores)
        rc = mu_err_set(&err, MUSTER_EARG, "unexpected argument '%.60s'; usage: %s", argv[first + 1], USAGE);
    else if (restores)
        rc = restore(argc - first > 1 ? argv[first + 1] : NULL, &err);
    else if (!strcmp(what, "backup"))
        rc = backup(&err);
    else if (!strcmp(what, "list") || !strcmp(what, "verify"))
        rc = list(&o, !strcmp(what, "verify"), &code, &err);
    else
        rc = mu_err_set(&err, MUSTER_EARG, "'%.60s' is not something to do with the store; usage: %s", what, USAGE);
    return rc ? mu_cmd_fail(argv[0], &err) : code;
}
