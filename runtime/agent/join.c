#include "runtime/agent/join.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/clean.h"
#include "runtime/base/str.h"
#include "runtime/wire/addr.h"

#define HEAD "muster-join 1"
#define FILE_MAX 16384

uint32_t mu_join_id(const char *text)
{
    uint64_t h = mu_str_hash(text, strlen(text));

    return (uint32_t)(h ^ h >> 32);
}

void mu_join_prefer(struct mu_join *j, const char *host)
{
    unsigned at = 0;

    if (!*host || strlen(host) >= MU_JOIN_HOST)
        return;
    while (at < j->n && strcmp(j->hosts[at], host))
        at++;
    if (at == j->n)
        j->n += j->n < MU_JOIN_HOSTS;
    if (at == MU_JOIN_HOSTS)
        at--;
    memmove(j->hosts[1], j->hosts[0], at * sizeof j->hosts[0]);
    snprintf(j->hosts[0], MU_JOIN_HOST, "%s", host);
}

/* One of the hosts, without its brackets. */
static int take_host(struct mu_join *j, const char *word, size_t len, struct mu_err *err)
{
    char one[MU_JOIN_HOST + 4];
    uint16_t port;

    if (j->n == MU_JOIN_HOSTS)
        return mu_err_set(err, MUSTER_EARG, "more than %d hosts", MU_JOIN_HOSTS);
    snprintf(one, sizeof one, "%.*s", (int)(len < sizeof one ? len : sizeof one - 1), word);
    int rc = mu_addr_split(one, j->port, j->hosts[j->n], &port, err);
    if (!rc)
        j->n++;
    return rc;
}

int mu_join_parse(struct mu_join *j, const char *text, struct mu_err *err)
{
    static const char scheme[] = "muster://";
    const char *at = strncmp(text, scheme, sizeof scheme - 1) ? text : text + sizeof scheme - 1;
    const char *last = strrchr(at, ',');
    char host[MU_ADDR_HOST];
    int rc;

    j->n = 0;
    /* the port stands behind the last one */
    if ((rc = mu_addr_split(last ? last + 1 : at, 0, host, &j->port, err)))
        return rc;
    while (last && at <= last && !rc) {
        size_t len = strcspn(at, ",");
        rc = take_host(j, at, len, err);
        at += len + 1;
    }
    return rc ? rc : take_host(j, host, strlen(host), err);
}

/* --- files ------------------------------------------------------------------------------------------------------- */

static int paths_of(const struct mu_paths *paths, char file[PATH_MAX], char key[PATH_MAX], struct mu_err *err)
{
    int rc = mu_path_join(file, PATH_MAX, paths->state, "join", err);

    return rc ? rc : mu_path_join(key, PATH_MAX, paths->state, "join.key", err);
}

int mu_join_save(const struct mu_paths *paths, const struct mu_join *j, struct mu_err *err)
{
    char file[PATH_MAX], keyfile[PATH_MAX], key[MU_KEY_TEXT];
    mu_auto_buf struct mu_buf b = {0};
    int rc = paths_of(paths, file, keyfile, err);

    if (rc)
        return rc;
    mu_buf_puts(&b, HEAD "\n");
    for (unsigned i = 0; i < j->n; i++)
        mu_buf_appendf(&b, "host %s\n", j->hosts[i]);
    mu_buf_appendf(&b, "port %u\nnode %s\nslots %d\nowner %" PRIu64 "\nstay %d\n", j->port, j->node, j->slots, j->owner,
                   j->stay);
    if (b.failed)
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    size_t len = mu_key_format(&j->key, key);
    rc = mu_path_write_atomic(keyfile, key, len, 0600, err);
    explicit_bzero(key, sizeof key);
    return rc ? rc : mu_path_write_atomic(file, b.data, b.len, 0600, err);
}

static int take_line(struct mu_join *j, char *line)
{
    char *value = strchr(line, ' ');
    uint64_t n = 0;

    if (!value)
        return MUSTER_ECORRUPT;
    *value++ = 0;
    bool number = !mu_str_u64(value, 0, UINT64_MAX, &n);
    if (!strcmp(line, "host") && j->n < MU_JOIN_HOSTS && *value)
        return mu_str_copy(j->hosts[j->n++], MU_JOIN_HOST, value);
    if (!strcmp(line, "node") && *value)
        return mu_str_copy(j->node, sizeof j->node, value);
    if (!strcmp(line, "port") && number && n && n < 65536)
        j->port = (uint16_t)n;
    else if (!strcmp(line, "slots") && number && n <= 1 << 16)
        j->slots = (int)n;
    else if (!strcmp(line, "owner") && number)
        j->owner = n;
    else if (!strcmp(line, "stay") && number)
        j->stay = n != 0;
    else
        return MUSTER_ECORRUPT;
    return 0;
}

int mu_join_load(const struct mu_paths *paths, struct mu_join *out, struct mu_err *err)
{
    char file[PATH_MAX], keyfile[PATH_MAX], *save = NULL;
    mu_auto_buf struct mu_buf b = {0};
    struct mu_join j = {0};
    int rc = paths_of(paths, file, keyfile, err);

    if (rc || (rc = mu_path_read(file, FILE_MAX, &b, err)))
        return rc;
    char *line = b.data ? strtok_r(b.data, "\n", &save) : NULL;
    if (!line || strcmp(line, HEAD))
        return mu_err_set(err, MUSTER_ECORRUPT, "%s is not of this version", file);
    while (!rc && (line = strtok_r(NULL, "\n", &save)))
        rc = take_line(&j, line);
    if (rc || !j.n || !j.port || !*j.node)
        return mu_err_set(err, MUSTER_ECORRUPT, "%s is damaged", file);
    if ((rc = mu_key_load(keyfile, &j.key, err)))
        return rc;
    *out = j;
    mu_key_wipe(&j.key);
    return 0;
}

void mu_join_forget(const struct mu_paths *paths)
{
    char file[PATH_MAX], keyfile[PATH_MAX];

    if (paths_of(paths, file, keyfile, NULL))
        return;
    unlink(file);
    unlink(keyfile);
}
