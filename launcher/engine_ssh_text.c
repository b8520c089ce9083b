#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "launcher/engine_ssh.h"
#include "runtime/base/clean.h"
#include "runtime/base/str.h"

static bool is_openssh(const char *program)
{
    const char *slash = strrchr(program, '/');

    return !strcmp(slash ? slash + 1 : program, "ssh");
}

int mu_ssh_argv(const char *cmd, const char *dest, const char *remote, char ***argv, struct mu_err *err)
{
    /* The user's options come first: with ssh the first one wins. */
    static const char *const options[] = {"-x", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"};
    char **v = NULL;
    int rc = mu_str_words(cmd, &v, err);

    if (rc)
        return mu_err_prefix(err, "--ssh (MUSTER_SSH)");
    for (size_t i = 0; i < MU_COUNT(options) && !rc && is_openssh(v[0]); i++)
        rc = mu_strv_append(&v, options[i]);
    rc = rc ? rc : mu_strv_append(&v, dest);
    rc = rc ? rc : mu_strv_append(&v, remote);
    if (rc) {
        mu_strv_free(v);
        return mu_err_set(err, rc, "out of memory");
    }
    *argv = v;
    return 0;
}

/* "sh -c SCRIPT" for any login shell: single quotes mean the same to all of them. */
static void wrap(struct mu_buf *out, const struct mu_buf *script)
{
    mu_buf_puts(out, "exec sh -c ");
    mu_str_quote(out, mu_buf_str(script));
    out->failed = out->failed || script->failed;
}

static void put_cache(struct mu_buf *script, const char *cached)
{
    mu_buf_appendf(script, "\"${XDG_CACHE_HOME:-$HOME/.cache}/muster/%s\"", cached);
}

void mu_ssh_remote_start(struct mu_buf *out, const char *own, const char *cached, char *const *env, char *const *words)
{
    mu_auto_buf struct mu_buf script = {0};

    mu_buf_puts(&script, "for m in ");
    if (own) {
        mu_str_quote(&script, own);
        mu_buf_putc(&script, ' ');
    }
    put_cache(&script, cached);
    mu_buf_puts(&script, "/muster; do test -x \"$m\" && exec env ");
    for (; env && *env; env++) {
        mu_str_quote(&script, *env);
        mu_buf_putc(&script, ' ');
    }
    mu_buf_puts(&script, "\"$m\"");
    for (; words && *words; words++) {
        mu_buf_putc(&script, ' ');
        mu_str_quote(&script, *words);
    }
    mu_buf_appendf(&script, "; done; exit %d", MU_SSH_NO_BINARY);
    wrap(out, &script);
}

void mu_ssh_remote_copy(struct mu_buf *out, const char *cached, size_t size)
{
    mu_auto_buf struct mu_buf script = {0};

    mu_buf_puts(&script, "d=");
    put_cache(&script, cached);
    mu_buf_appendf(&script,
                   "; t=\"$d/new.$(uname -n).$$\"; umask 077; mkdir -p \"$d\" && cat >\"$t\" && "
                   "test $(wc -c <\"$t\") -eq %zu && chmod 700 \"$t\" && mv -f \"$t\" \"$d/muster\" && exit 0; "
                   "rm -f \"$t\"; exit %d",
                   size, MU_SSH_NO_COPY);
    wrap(out, &script);
}

/* --- the answer ----------------------------------------------------------------------------------------------------
 */

/* What ssh, the shell, the loader or the agent say, and what helps. The first row that is found decides. */
static const struct {
    const char *said, *instead, *fix;
} reasons[] = {
    {"the controller is not reached", NULL, "that host must get through to the controller's port: see MUSTER_LISTEN"},
    {"cannot connect to ", NULL, "that host must get through to the controller's port: see MUSTER_LISTEN"},
    {"Could not resolve hostname", NULL, "check -H or ~/.ssh/config"},
    {"REMOTE HOST IDENTIFICATION HAS CHANGED", "its key is another one than known_hosts has",
     "if the host was set up anew: ssh-keygen -R %s"},
    {"Host key verification failed", NULL, "accept its key once: ssh %s true"},
    {"Too many authentication failures", NULL, "give its IdentityFile and IdentitiesOnly in ~/.ssh/config"},
    {"Permission denied (", NULL, "ssh must get in without asking: ssh-copy-id %s, or start ssh-agent"},
    {"Connection refused", NULL, "no sshd answers there: start it, or give its Port in ~/.ssh/config"},
    {"No route to host", NULL, "is the host up?"},
    {"Network is unreachable", NULL, "is the host up?"},
    {"Connection timed out", NULL, "is the host up, and does a firewall let ssh through?"},
    {"Operation timed out", NULL, "is the host up, and does a firewall let ssh through?"},
    {"error while loading shared libraries: ", NULL, "install the package of that library there"},
    {"version `", NULL, "that host's libraries are older: build muster there"},
    {"Exec format error", NULL, "that host is of another kind: build muster there, and have it in the same place"},
    {"No space left on device", NULL, "make room there"},
};

void mu_ssh_hide(char *said, const char *key)
{
    enum { WORD = 16 }; /* shorter parts of it are no secret */
    size_t left = strlen(said), hide = 0;

    for (; *said; said++, left--) {
        if (left >= WORD && memmem(key, strlen(key), said, WORD))
            hide = WORD;
        if (hide && hide--)
            *said = '*';
    }
}

/* The last line that says something. */
static void last_line(char *out, size_t n, const char *text)
{
    static const char *const ours[] = {"muster agent: ", "muster: "};
    size_t end = strlen(text);

    while (end && strchr(" \t\r\n.", text[end - 1]))
        end--;
    size_t begin = end;
    while (begin && text[begin - 1] != '\n' && text[begin - 1] != '\r')
        begin--;
    char line[300];
    snprintf(line, sizeof line, "%.*s", (int)(end - begin < 299 ? end - begin : 299), text + begin);
    const char *from = line;
    for (size_t i = 0; i < MU_COUNT(ours); i++)
        if (!strncmp(from, ours[i], strlen(ours[i])))
            from += strlen(ours[i]);
    mu_str_show(out, n, from);
}

static void by_status(struct mu_buf *out, const char *cmd, const char *dest, int status, const char *line)
{
    const char *slash = strrchr(cmd, '/');
    int word = (int)strcspn(cmd, " ");

    if (slash && slash - cmd < word) {
        word -= (int)(slash + 1 - cmd);
        slash++;
    } else {
        slash = cmd;
    }
    if (WIFSIGNALED(status))
        mu_buf_appendf(out, "%.*s was killed by signal %d", word, slash, WTERMSIG(status));
    else if (WEXITSTATUS(status) == MU_SSH_NO_BINARY)
        mu_buf_puts(out, "there is no muster in the same place, nor could it be brought there");
    else if (WEXITSTATUS(status) == MU_SSH_NO_COPY)
        mu_buf_appendf(out, "muster cannot be copied there%s%s; install it in the same place as here",
                       *line ? ": " : "", line);
    else if (WEXITSTATUS(status) == 126 || WEXITSTATUS(status) == 127)
        mu_buf_appendf(out, "muster cannot be run there%s%s; install it in the same place as here", *line ? ": " : "",
                       line);
    else if (*line)
        mu_buf_appendf(out, "%s; see what happens by hand: %s %s true", line, cmd, dest);
    else
        mu_buf_appendf(out, "%.*s ended with exit code %d and said nothing; see what happens by hand: %s %s true", word,
                       slash, WEXITSTATUS(status), cmd, dest);
}

void mu_ssh_explain(struct mu_buf *out, const char *cmd, const char *dest, const struct mu_child_end *end,
                    unsigned limit_s)
{
    char line[400];

    last_line(line, sizeof line, end->said);
    mu_buf_appendf(out, "host %s: ", dest);
    if (end->late) {
        mu_buf_appendf(out, "no answer within %u s%s%s; is it up? (MUSTER_START_TIMEOUT sets the time)", limit_s,
                       *line ? ": " : "", line);
        return;
    }
    for (size_t i = 0; i < MU_COUNT(reasons); i++) {
        if (!strstr(end->said, reasons[i].said))
            continue;
        mu_buf_puts(out, reasons[i].instead ? reasons[i].instead : line);
        mu_buf_puts(out, "; ");
        mu_buf_appendf(out, reasons[i].fix, dest);
        return;
    }
    if (!WIFSIGNALED(end->status) && WEXITSTATUS(end->status) <= 2 && *line) {
        mu_buf_puts(out, line); /* an agent of ours said it, with its fix */
        return;
    }
    by_status(out, cmd, dest, end->status, line);
}
