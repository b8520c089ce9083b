/* Roles: the file, whose they are, and the table of what each may, which the documentation repeats. */
#include <string.h>

#include "launcher/core/access.h"
#include "runtime/base/buf.h"
#include "runtime/base/clean.h"
#include "runtime/base/path.h"
#include "tests/unit/tap.h"

static struct mu_access parsed(const char *text)
{
    struct mu_access a;
    struct mu_err err = {0};

    mu_access_defaults(&a);
    if (mu_access_parse("access", text, strlen(text), &a, &err))
        printf("# %s\n", err.text);
    return a;
}

static void test_file(void)
{
    static const struct {
        const char *text, *error;
    } bad[] = {
        {"users = own\n", "access:1:1: there is no setting 'users'; the nearest is 'others'"},
        {"others = viewer\nuser ada = boss\n", "access:2:12: 'boss' is no role: none, viewer, user, operator or admin"},
        {"user = admin\n", "access:1:1: there is no setting 'user'; the nearest is 'others'"},
        {"user ada = user\n\ngroup ada = user\n  user ada = none # again\n",
         "access:4:8: 'ada' has a role already, as a user"},
        {"socket = ctl.sock\n", "access:1:10: 'ctl.sock' is not the path of a socket: absolute, 107 bytes at most"},
        {"socket = /srv/\n", "access:1:10: '/srv/' is not the path of a socket: absolute, 107 bytes at most"},
        {"socket =\n", "access:1:9: '' is not the path of a socket: absolute, 107 bytes at most"},
        {"users-see = mine\n", "access:1:13: 'mine' is none of own and all"},
        {"others viewer\n",
         "access:1:1: 'others viewer' has no '='; a line is: setting = value, user NAME = role, or: group NAME = role"},
    };
    struct mu_access a = parsed("# who\nsocket = /srv/m/ctl\nuser ada=admin\ngroup ml = operator\nothers = viewer\n"
                                "users-see = own\nusers-touch = all\n");
    TAP_OK(a.n == 2 && !a.rules[0].group && a.rules[1].group && a.rules[0].role == MU_ROLE_ADMIN &&
               a.rules[1].role == MU_ROLE_OPERATOR && !strcmp(a.rules[1].name, "ml") && a.others == MU_ROLE_VIEWER &&
               !a.see_all && a.touch_all && !strcmp(a.socket, "/srv/m/ctl"),
           "a file with all of it");
    for (size_t i = 0; i < MU_COUNT(bad); i++) {
        struct mu_access was = a;
        struct mu_err err = {0};
        int rc = mu_access_parse("access", bad[i].text, strlen(bad[i].text), &a, &err);
        TAP_OK(rc == MUSTER_EARG && !strcmp(err.text, bad[i].error) && !memcmp(&was, &a, sizeof a),
               "refused, and nothing has changed: %s", err.text);
    }
    mu_access_free(&a);
    a = parsed("");
    TAP_OK(!a.n && a.others == MU_ROLE_NONE && a.see_all && !a.touch_all && !*a.socket,
           "an empty one lets nobody in but the pool's account");
    mu_access_free(&a);
}

static void test_roles(void)
{
    struct mu_access a = parsed("user ada = viewer\nuser bob = none\nuser gone = admin\ngroup ml = user\n"
                                "group ops = operator\nothers = none\n");
    static const struct {
        uint32_t uid, gids[2];
        size_t n;
        enum mu_role role;
        const char *why;
    } rows[] = {
        {1000, {7}, 1, MU_ROLE_VIEWER, "a rule for the user"},
        {1000, {50, 60}, 2, MU_ROLE_VIEWER, "wins over those of the groups"},
        {1001, {60}, 1, MU_ROLE_NONE, "also when it takes something away"},
        {1002, {50}, 1, MU_ROLE_USER, "a group"},
        {1002, {50, 60}, 2, MU_ROLE_OPERATOR, "the higher one of two"},
        {1002, {7}, 1, MU_ROLE_NONE, "neither: others"},
        {0, {0}, 1, MU_ROLE_NONE, "root is one of the others"},
        {50, {1000}, 1, MU_ROLE_NONE, "numbers of users and groups are two things"},
    };
    uint32_t ids[] = {1000, 1001, 0, 50, 60};

    for (unsigned i = 0; i < a.n; i++) {
        a.rules[i].id = ids[i];
        a.rules[i].known = i != 2;
    }
    for (size_t i = 0; i < MU_COUNT(rows); i++)
        TAP_OK(mu_access_role(&a, rows[i].uid, rows[i].gids, rows[i].n) == rows[i].role, "%s", rows[i].why);
    a.others = MU_ROLE_VIEWER;
    TAP_OK(mu_access_role(&a, 0, NULL, 0) == MU_ROLE_VIEWER, "a name that nobody has is no rule for root");
    mu_access_free(&a);
}

/* Every row for every role, and the jobs of others as the file says. */
static void test_may(void)
{
    struct mu_access a = parsed("");
    unsigned wrong = 0, n = 0;
    struct mu_err err;

    for (size_t i = 0; mu_access_row_at(i); i++) {
        const struct mu_access_row *r = mu_access_row_at(i);
        for (unsigned role = 0; role < MU_ROLE_COUNT; role++)
            for (unsigned set = 0; set < 4; set++, n++) {
                a.see_all = set & 1;
                a.touch_all = set >> 1;
                bool all = role >= r->least && role;
                bool others = all && (role != MU_ROLE_USER || r->own == MU_ANY_JOB ||
                                      (a.see_all && (r->own == MU_SEE_JOB || a.touch_all)));
                bool own = !mu_access_may(&a, role, "ada", r, 7, "ada", &err);
                bool other = !mu_access_may(&a, role, "ada", r, 7, "bob", &err);
                bool nobodys = !mu_access_may(&a, role, "ada", r, 7, "", &err);
                bool none = !mu_access_may(&a, role, "ada", r, 0, NULL, &err);
                if (own != all || other != others || nobodys != others || none != all) {
                    printf("# %s, %s, see %u, touch %u\n", r->command, mu_role_name(role), a.see_all, a.touch_all);
                    wrong++;
                }
            }
    }
    TAP_OK(!wrong && n > 300, "%u cases of the table", n);
    a.see_all = 1;
    a.touch_all = 0;
    const struct mu_access_row *cancel = mu_access_row(&(struct mu_msg){.type = MU_MSG_cancel});
    TAP_OK(mu_access_may(&a, MU_ROLE_USER, "ada", cancel, 7, "bob", &err) == MUSTER_EPERM &&
               !strcmp(err.text, "job 7 is bob's, and ada has the role user in this pool: ask an operator"),
           "whose it is: %s", err.text);
    a.see_all = 0;
    TAP_OK(mu_access_may(&a, MU_ROLE_USER, "ada", cancel, 7, "bob", &err) == MUSTER_EJOB &&
               !strcmp(err.text, "there is no job 7; `muster jobs --all` lists them"),
           "not even that where jobs of others are not seen");
    TAP_OK(mu_access_hides(&a, MU_ROLE_USER, "ada", "bob") && !mu_access_hides(&a, MU_ROLE_USER, "ada", "ada") &&
               !mu_access_hides(&a, MU_ROLE_VIEWER, "ada", "bob") && mu_access_hides(&a, MU_ROLE_USER, "ada", NULL) &&
               mu_access_hides(&a, MU_ROLE_USER, "", ""),
           "which jobs are hidden");
    TAP_OK(mu_access_may(&a, MU_ROLE_ADMIN, "ada", NULL, 0, NULL, &err) == MUSTER_EPERM,
           "what is in no row is for nobody: %s", err.text);
    mu_access_free(&a);
}

/* What clients may send, and nothing that daemons say to one another. */
static void test_rows(void)
{
    static const enum mu_msg_type daemons[] = {MU_MSG_agent, MU_MSG_agent_ready, MU_MSG_report, MU_MSG_relay,
                                               MU_MSG_fence, MU_MSG_checked,     MU_MSG_beat,   MU_MSG_start};
    char what[] = "no such query";
    bool any = false;

    for (size_t i = 0; i < MU_COUNT(daemons); i++)
        any = any || mu_access_row(&(struct mu_msg){.type = daemons[i]});
    TAP_OK(!any, "messages of daemons have no row");
    TAP_OK(!mu_access_row(&(struct mu_msg){.type = MU_MSG_query, .query = {.what = what}}) &&
               !mu_access_row(&(struct mu_msg){.type = MU_MSG_query}),
           "neither have queries that nobody knows");
}

/* "| `cancel` | user | own |" of docs/operations.md: each row of the table once, and no other. */
static void test_docs(void)
{
    mu_auto_buf struct mu_buf text = {0};
    char want[120];
    unsigned missing = 0, shown = 0, kinds = 0;
    struct mu_err err = {0};

    if (mu_path_read("docs/operations.md", 1 << 20, &text, &err)) {
        TAP_OK(0, "%s", err.text);
        return;
    }
    const char *from = strstr(mu_buf_str(&text), "| command | least role |"), *end = from ? strstr(from, "\n\n") : NULL;
    TAP_OK(from && end, "docs/operations.md has a table");
    if (!from || !end)
        return;
    mu_auto_free char *table = strndup(from, (size_t)(end - from));
    for (const char *p = table; (p = strstr(p, "\n| `")); p++)
        shown++;
    for (size_t i = 0; mu_access_row_at(i); i++) {
        const struct mu_access_row *r = mu_access_row_at(i);
        bool again = false;
        for (size_t k = 0; k < i; k++)
            again = again || !strcmp(mu_access_row_at(k)->command, r->command);
        kinds += !again;
        snprintf(want, sizeof want, "\n| `%s` | %s |%s |", r->command, mu_role_name(r->least),
                 r->own == MU_ANY_JOB   ? ""
                 : r->own == MU_SEE_JOB ? " sees"
                                        : " touches");
        if (!strstr(table, want)) {
            printf("# not there: %s\n", want + 1);
            missing++;
        }
    }
    TAP_OK(!missing && shown == kinds, "the table of docs/operations.md has the %u rows of the code, and %u in all",
           kinds, shown);
}

int main(void)
{
    test_file();
    test_roles();
    test_may();
    test_rows();
    test_docs();
    return tap_done();
}
