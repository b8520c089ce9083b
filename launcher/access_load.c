#include "launcher/access_load.h"

#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/clean.h"
#include "runtime/base/path.h"
#include "runtime/base/str.h"

enum { FILE_MAX = 1 << 20, ENTRY = 65536 };

static void resolve(struct mu_access_rule *r)
{
    mu_auto_free char *room = malloc(ENTRY);
    struct passwd pw, *user = NULL;
    struct group gr, *group = NULL;
    uint64_t id;

    r->known = !mu_str_u64(r->name, 0, UINT32_MAX - 1, &id);
    if (r->known) {
        r->id = (uint32_t)id;
    } else if (room && r->group && !getgrnam_r(r->name, &gr, room, ENTRY, &group) && group) {
        r->known = true;
        r->id = group->gr_gid;
    } else if (room && !r->group && !getpwnam_r(r->name, &pw, room, ENTRY, &user) && user) {
        r->known = true;
        r->id = user->pw_uid;
    }
}

static struct mu_access_stamp stamp_of(const struct stat *st)
{
    return (struct mu_access_stamp){.changed = st->st_ctim, .size = st->st_size, .inode = st->st_ino, .there = true};
}

/* It is there, and nobody can look at it: a link to itself. */
static struct mu_access_stamp unreadable(void)
{
    return (struct mu_access_stamp){.size = -1, .there = true};
}

int mu_access_load(const char *home, struct mu_access *out, struct mu_access_stamp *stamp, struct mu_err *err)
{
    mu_auto_buf struct mu_buf text = {0};
    char path[PATH_MAX];
    struct stat st;
    int rc = mu_path_join(path, sizeof path, home, "access", err);

    if (stamp)
        *stamp = (struct mu_access_stamp){0};
    if (rc)
        return rc;
    if (stat(path, &st)) {
        if (errno != ENOENT) {
            if (stamp)
                *stamp = unreadable();
            return mu_err_errno(err, 0, "%s", path);
        }
        mu_access_free(out);
        mu_access_defaults(out);
        return 0;
    }
    if (stamp)
        *stamp = stamp_of(&st);
    if ((st.st_uid != geteuid() && st.st_uid) || st.st_mode & 022)
        return mu_err_set(err, MUSTER_EARG,
                          "%s: others than the pool's account could have written it; chown it to the account, and "
                          "chmod go-w",
                          path);
    if ((rc = mu_path_read_regular(path, FILE_MAX, &text, err)) ||
        (rc = mu_access_parse(path, mu_buf_str(&text), text.len, out, err)))
        return rc;
    for (unsigned i = 0; i < out->n; i++)
        resolve(&out->rules[i]);
    return 0;
}

bool mu_access_changed(const char *home, const struct mu_access_stamp *was)
{
    struct mu_access_stamp is = {0};
    char path[PATH_MAX];
    struct stat st;

    if (mu_path_join(path, sizeof path, home, "access", NULL))
        return false;
    if (!stat(path, &st))
        is = stamp_of(&st);
    else if (errno != ENOENT)
        is = unreadable();
    return is.there != was->there || is.size != was->size || is.inode != was->inode ||
           is.changed.tv_sec != was->changed.tv_sec || is.changed.tv_nsec != was->changed.tv_nsec;
}

const char *mu_access_unknown(const struct mu_access *a)
{
    for (unsigned i = 0; i < a->n; i++)
        if (!a->rules[i].known)
            return a->rules[i].name;
    return NULL;
}

char *mu_access_user(uint32_t uid, char *buf, size_t n)
{
    mu_auto_free char *room = malloc(ENTRY);
    struct passwd pw, *found = NULL;

    if (room && !getpwuid_r(uid, &pw, room, ENTRY, &found) && found && *found->pw_name &&
        !mu_str_copy(buf, n, found->pw_name))
        return buf;
    snprintf(buf, n, "%lu", (unsigned long)uid);
    return buf;
}
