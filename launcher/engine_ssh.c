/* The ssh engine: an ssh runs `muster agent --join --detach` on the host and ends when that has joined. Where there is
 * no binary in the same place as here, nor one that was brought before, ours is copied and tried again. */
#include "launcher/engine_ssh.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "launcher/engine.h"
#include "runtime/base/clean.h"
#include "runtime/base/log.h"
#include "runtime/base/str.h"
#include "runtime/wire/daemon.h"
#include "runtime/wire/exe.h"

enum phase { FIRST, COPY, SECOND };
enum { BINARY_MAX = 256 << 20 };

/* Our own binary, once it is needed by the first host; kept for the next ones. */
struct binary {
    char *path;    /* NULL: what is there by now is not what we work with */
    char name[64]; /* VERSION-HASH, for the cache there */
    char *data;
    size_t size;
};

/* What a host's ssh must not have of ours, and what the agent there needs to have. */
static const char *const drop[] = {"MUSTER_TAG=", "MUSTER_JOB=", "PMIX_", "OMPI_", "SSH_ASKPASS", "DISPLAY=", NULL};
static const char *const handed_on[] = {"MUSTER_HOME", "MUSTER_LOG", "MUSTER_LOG_FORMAT", "LD_LIBRARY_PATH"};

static int hash(struct binary *b, struct mu_err *err)
{
    unsigned char sum[EVP_MAX_MD_SIZE];
    unsigned n = 0;

    if (EVP_Digest(b->data, b->size, sum, &n, EVP_sha256(), NULL) != 1 || n < 8)
        return mu_err_set(err, MUSTER_ENOSYS, "OpenSSL has no SHA-256");
    int len = snprintf(b->name, sizeof b->name, "%.30s-", MUSTER_VERSION);
    for (unsigned i = 0; i < 8; i++)
        len += snprintf(b->name + len, sizeof b->name - (size_t)len, "%02x", sum[i]);
    return 0;
}

static int load_binary(struct mu_start *s, struct binary **out, struct mu_err *err)
{
    struct mu_start_shared *shared = mu_start_shared(s);
    mu_auto_buf struct mu_buf data = {0};
    char path[PATH_MAX] = "";

    if (shared->p) {
        *out = shared->p;
        return 0;
    }
    bool there = !mu_exe_find(path, sizeof path, NULL);
    int rc = mu_path_read("/proc/self/exe", BINARY_MAX, &data, err);
    if (rc)
        return rc;
    size_t npath = strlen(path) + 1;
    /* one block, so that one free() ends it */
    struct binary *b = calloc(1, sizeof *b + npath + data.len);
    if (!b)
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    b->path = there ? (char *)(b + 1) : NULL;
    memcpy(b + 1, path, npath);
    b->data = (char *)(b + 1) + npath;
    memcpy(b->data, data.data, data.len);
    b->size = data.len;
    if ((rc = hash(b, err))) {
        free(b);
        return rc;
    }
    *out = b;
    *shared = (struct mu_start_shared){.p = b, .drop = free};
    return 0;
}

static const char *command(const struct mu_start *s)
{
    const char *env = getenv("MUSTER_SSH");

    return s->ssh ? s->ssh : env && *env ? env : "ssh";
}

/* The agent's own environment there. */
static char **remote_env(void)
{
    char **v = NULL;

    for (size_t i = 0; i < MU_COUNT(handed_on); i++) {
        mu_auto_buf struct mu_buf b = {0};
        const char *value = getenv(handed_on[i]);
        if (!value)
            continue;
        mu_buf_appendf(&b, "%s=%s", handed_on[i], value);
        if (mu_strv_append(&v, mu_buf_str(&b)))
            break; /* it starts without */
    }
    return v;
}

static void on_ended(void *arg, const struct mu_child_end *end);

static int remote_command(struct mu_start *s, const struct binary *b, struct mu_buf *out)
{
    if (s->phase == COPY) {
        mu_ssh_remote_copy(out, b->name, b->size);
        return out->failed ? MUSTER_ENOMEM : 0;
    }
    char **words = mu_start_agent_words(s, s->node), **env = remote_env();
    int rc = words ? mu_strv_append(&words, "--key-fd") : MUSTER_ENOMEM;
    rc = rc ? rc : mu_strv_append(&words, "0");
    rc = rc ? rc : mu_strv_append(&words, "--detach");
    if (!rc)
        mu_ssh_remote_start(out, b->path, b->name, env, words);
    mu_strv_free(words);
    mu_strv_free(env);
    return out->failed ? MUSTER_ENOMEM : rc;
}

static int run(struct mu_start *s, struct mu_err *err)
{
    mu_auto_buf struct mu_buf remote = {0};
    struct binary *b = NULL;
    char **argv = NULL, **env = NULL;
    int rc = load_binary(s, &b, err);

    if (rc)
        return rc;
    if (remote_command(s, b, &remote))
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    if ((rc = mu_ssh_argv(command(s), s->dest, mu_buf_str(&remote), &argv, err)))
        return rc;
    env = mu_child_env(drop, s->env);
    struct mu_child_spec spec = {.argv = argv,
                                 .env = env,
                                 .input = s->phase == COPY ? b->data : s->key,
                                 .ninput = s->phase == COPY ? b->size : strlen(s->key),
                                 .deadline = mu_start_deadline(s),
                                 .ended = on_ended,
                                 .arg = s};
    rc = env ? mu_child_start(mu_start_children(s), &spec, &s->child, err)
             : mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    mu_strv_free(argv);
    mu_strv_free(env);
    return rc;
}

static void go(struct mu_start *s, enum phase phase)
{
    struct mu_err err;

    s->phase = phase;
    int rc = run(s, &err);
    if (rc)
        mu_start_done(s, rc, "host %s: %s%s", s->dest, err.text,
                      rc == MUSTER_EARG ? "" : "; install OpenSSH's client, or say --ssh");
}

static void on_late(void *arg)
{
    struct mu_start *s = arg;

    mu_start_done(s, 1,
                  "host %s: %s ended well, but no agent has come; does its login shell run what it is told? See what "
                  "happens by hand: %s %s true && echo well",
                  s->dest, command(s), command(s), s->dest);
}

/* An agent that is there already only hears where the controller is, and comes when it has found the way. */
static void await_agent(struct mu_start *s)
{
    if (s->here || !(s->late = mu_alarm_new(mu_start_base(s), on_late, s)))
        mu_start_done(s, 0, "%s", "");
    else
        mu_alarm_set(s->late, mu_start_deadline(s));
}

static void on_ended(void *arg, const struct mu_child_end *end)
{
    mu_auto_buf struct mu_buf text = {0};
    struct mu_start *s = arg;
    bool ok = !end->late && WIFEXITED(end->status) && !WEXITSTATUS(end->status);

    s->child = NULL;
    if (ok && s->phase == COPY) {
        go(s, SECOND);
    } else if (ok) {
        await_agent(s);
    } else if (s->phase == FIRST && !end->late && WIFEXITED(end->status) &&
               WEXITSTATUS(end->status) == MU_SSH_NO_BINARY) {
        mu_log(MU_LOG_INFO, "engine", "%s has no muster yet; copying", s->node);
        go(s, COPY);
    } else {
        mu_auto_free char *said = strdup(end->said);
        struct mu_child_end told = *end;
        told.said = said ? said : "";
        if (said)
            mu_ssh_hide(said, s->key);
        mu_ssh_explain(&text, command(s), s->dest, &told, mu_start_limit_s(s));
        mu_start_done(s, 1, "%s", mu_buf_str(&text));
    }
}

void mu_engine_ssh(struct mu_start *s)
{
    go(s, FIRST);
}
