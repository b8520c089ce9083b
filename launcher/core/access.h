/* Who may do what in a pool: roles of users and groups from $MUSTER_HOME/access (docs/formats.md), and the one table of
 * what each role may ask the controller for. Pure: names have been looked up before. Why so:
 * docs/decisions/019-access.md */
#ifndef MU_LAUNCHER_CORE_ACCESS_H
#define MU_LAUNCHER_CORE_ACCESS_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/wire/msg.h"

/* Each may do what those before it may. */
enum mu_role { MU_ROLE_NONE, MU_ROLE_VIEWER, MU_ROLE_USER, MU_ROLE_OPERATOR, MU_ROLE_ADMIN, MU_ROLE_COUNT };
const char *mu_role_name(enum mu_role);

enum { MU_ACCESS_NAME = 64, MU_ACCESS_SOCKET = 108 };
struct mu_access_rule {
    bool group, known; /* known: id is its number; the rule of a name that nobody has holds for nobody */
    enum mu_role role;
    uint32_t id;
    char name[MU_ACCESS_NAME];
};
struct mu_access {
    struct mu_access_rule *rules;
    unsigned n;
    uint32_t others;               /* enum mu_role of who is not named */
    uint32_t see_all, touch_all;   /* users do so with jobs of others */
    char socket[MU_ACCESS_SOCKET]; /* where other accounts reach the controller; "": nowhere */
};
/* On an error *out is as it was. name: of the file, for errors, which have line and column. */
int mu_access_parse(const char *name, const char *text, size_t len, struct mu_access *out, struct mu_err *err);
void mu_access_defaults(struct mu_access *); /* nobody but the pool's account */
void mu_access_free(struct mu_access *);
/* A rule for the user is the only one that counts; else the highest one of the groups; else others. */
enum mu_role mu_access_role(const struct mu_access *, uint32_t uid, const uint32_t *gids, size_t ngids);

/* To add a message or a query that clients may send: a row here, and in the table of docs/operations.md, which a test
 * compares. What has no row is for the pool's own account. */
enum mu_access_own { MU_ANY_JOB, MU_SEE_JOB, MU_TOUCH_JOB };
struct mu_access_row {
    const char *command; /* as people know it */
    enum mu_msg_type type;
    const char *what; /* of a query */
    enum mu_role least;
    enum mu_access_own own; /* what a user may do with jobs of his own, and with others as the file says */
    bool change, answered;  /* it goes into the audit log; an answer says what became of it */
};
const struct mu_access_row *mu_access_row_at(size_t i);           /* NULL past the end */
const struct mu_access_row *mu_access_row(const struct mu_msg *); /* NULL: there is none */
uint64_t mu_access_job(const struct mu_msg *);                    /* that it is about; 0: none */
/* Whether somebody of that role may; row NULL: nobody but the pool's account, who is not asked. user_of_job: NULL when
 * there is no such job, or it is about none. MUSTER_EPERM with what to tell him; MUSTER_EJOB: for him that job does
 * not exist. */
int mu_access_may(const struct mu_access *, enum mu_role, const char *user, const struct mu_access_row *, uint64_t job,
                  const char *user_of_job, struct mu_err *err);
/* Jobs that somebody of that role does not see at all. */
bool mu_access_hides(const struct mu_access *, enum mu_role, const char *user, const char *user_of_job);

#endif
