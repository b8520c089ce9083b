#include "runtime/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>

#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/path.h"
#include "tests/unit/tap.h"

static int fds[2];
static char got[1 << 16];

/* What has been logged since the last call. */
static const char *drain(void)
{
    size_t n = 0;
    ssize_t k;

    while (n + 1 < sizeof got && (k = read(fds[0], got + n, sizeof got - 1 - n)) > 0)
        n += (size_t)k;
    got[n] = 0;
    return got;
}

static int setup(const char *spec, const char *format)
{
    return mu_log_setup(fds[1], spec, format, NULL);
}

/* Whether the line is "STAMP host " + rest, where the stamp has the right form. */
static bool line_is(const char *line, const char *rest)
{
    static const char form[] = "dddd-dd-ddTdd:dd:dd.dddZ ";
    char want[500], host[65];

    for (size_t i = 0; i < sizeof form - 1; i++, line++)
        if (form[i] == 'd' ? *line < '0' || *line > '9' : *line != form[i])
            return false;
    mu_path_host(host);
    snprintf(want, sizeof want, "%s %s", host, rest);
    return !strcmp(line, want);
}

static void levels(void)
{
    static const struct {
        const char *spec;
        int pool, coll; /* loudest level that is on in each room, -1 none */
    } rows[] = {
        {"", MU_LOG_INFO, MU_LOG_INFO},
        {"error", MU_LOG_ERROR, MU_LOG_ERROR},
        {"trace", MU_LOG_TRACE, MU_LOG_TRACE},
        {"info,coll=debug", MU_LOG_INFO, MU_LOG_DEBUG},
        {"coll=debug", MU_LOG_INFO, MU_LOG_DEBUG},
        {"coll=error,debug", MU_LOG_DEBUG, MU_LOG_ERROR},
        {"warn,,", MU_LOG_WARN, MU_LOG_WARN},
    };
    static const char *const bad[] = {
        "loud", "info,coll=loud", "=debug", "INFO", "coll=", "info debug", "a-room-name-that-is-far-too-long=info"};
    struct mu_err err;

    for (size_t i = 0; i < MU_COUNT(rows); i++) {
        int ok = setup(rows[i].spec, "text") == 0;
        for (int l = 0; l < MU_LOG_LEVELS; l++)
            ok &= mu_log_on((enum mu_log_level)l, "pool") == (l <= rows[i].pool) &&
                  mu_log_on((enum mu_log_level)l, "coll") == (l <= rows[i].coll);
        TAP_OK(ok, "levels by '%s'", rows[i].spec);
    }
    setup("warn", "text");
    for (size_t i = 0; i < MU_COUNT(bad); i++)
        TAP_OK(mu_log_setup(fds[1], bad[i], "text", &err) == MUSTER_EARG && strstr(err.text, "MUSTER_LOG") &&
                   mu_log_on(MU_LOG_WARN, "x") && !mu_log_on(MU_LOG_INFO, "x"),
               "refused, and nothing has changed: %s", err.text);
    TAP_OK(mu_log_setup(fds[1], "info", "xml", &err) == MUSTER_EARG, "%s", err.text);
    TAP_OK(mu_log_setup(999, "info", "text", &err) < 0, "%s", err.text);
    setenv("MUSTER_LOG", "debug", 1);
    setenv("MUSTER_LOG_FORMAT", "json", 1);
    TAP_OK(setup(NULL, NULL) == 0 && mu_log_on(MU_LOG_DEBUG, "x"), "set up from the environment");
    mu_log(MU_LOG_DEBUG, "x", "y");
    TAP_OK(drain()[0] == '{', "the format too");
}

static void lines(void)
{
    setup("info,coll=debug", "text");
    mu_log(MU_LOG_INFO, "pool", "job %d starts", 3);
    TAP_OK(line_is(drain(), "pool info: job 3 starts\n"), "a line");
    mu_log(MU_LOG_DEBUG, "pool", "no");
    TAP_OK(!*drain(), "what is off is not written");
    mu_log(MU_LOG_DEBUG, "coll", "yes\n\n");
    TAP_OK(line_is(drain(), "coll debug: yes\n"), "a room's own level; newlines at the end are dropped");
    mu_log_context("job 3.1");
    errno = EPERM;
    mu_log(MU_LOG_ERROR, "keeper", "evil \033[2J\nname: %m");
    int e = errno;
    TAP_OK(line_is(drain(), "keeper error: job 3.1: evil \\x1b[2J\\nname: Operation not permitted\n") && e == EPERM,
           "context, one safe line, errno kept");
    mu_log_context("");
    char *huge = malloc(20000);
    memset(huge, 'h', 19999);
    huge[19999] = 0;
    mu_log(MU_LOG_INFO, "pool", "%s", huge);
    size_t n = strlen(drain());
    TAP_OK(n > 1000 && n <= 4096 && got[n - 1] == '\n', "a huge line is cut to one write");

    setup("info", "json");
    mu_log_context("rank \"0\"");
    mu_log(MU_LOG_WARN, "pool", "a \"b\" \\ c\td");
    drain();
    TAP_OK(strstr(got, "\"room\":\"pool\",\"level\":\"warn\",\"context\":\"rank \\\"0\\\"\","
                       "\"msg\":\"a \\\"b\\\" \\\\ c\\\\td\"}\n"),
           "JSON is escaped: %.300s", got);
    mu_log_context("");
    memset(huge, '"', 19999);
    mu_log(MU_LOG_INFO, "pool", "%s", huge);
    n = strlen(drain());
    TAP_OK(n > 1000 && n <= 4096 && !strcmp(got + n - 3, "\"}\n") && got[n - 4] == '"' && got[n - 5] == '\\',
           "a huge JSON line is cut and still whole");
    free(huge);
    mu_log_close();
    mu_log(MU_LOG_ERROR, "pool", "gone");
    TAP_OK(!*drain() && !mu_log_on(MU_LOG_ERROR, "pool"), "closed");
}

static void full(void)
{
    uint64_t t = mu_now();

    setup("info", "text");
    for (int i = 0; i < 3000; i++)
        mu_log(MU_LOG_INFO, "pool", "%0100d", i);
    uint64_t took = mu_now() - t;
    TAP_OK(took < 5 * MU_SEC, "3000 lines into a pipe that nobody reads take %llu ms",
           (unsigned long long)(took / MU_MS));
    drain();
    TAP_OK(strstr(got, "pool info: "), "the first of them are there");
    drain();
    mu_log(MU_LOG_INFO, "pool", "again");
    drain();
    unsigned long lost = 0;
    TAP_OK(sscanf(got, "muster: %lu log lines dropped\n", &lost) == 1 && lost > 1000 && strstr(got, "again\n"),
           "%lu dropped lines are owned up to", lost);
    mu_log(MU_LOG_INFO, "pool", "more");
    TAP_OK(!strstr(drain(), "dropped"), "once");
    int flags = fcntl(fds[1], F_GETFL);
    TAP_OK(!(flags & O_NONBLOCK), "the caller's descriptor still blocks as it did");
}

static void *chatter(void *arg)
{
    for (int i = 0; i < 50; i++)
        mu_log(MU_LOG_INFO, "pool", "thread %d", *(int *)arg);
    return NULL;
}

static void others(void)
{
    pthread_t t[4];
    int id[4], n = 0;

    for (int i = 0; i < 4; i++) {
        id[i] = i;
        pthread_create(&t[i], NULL, chatter, &id[i]);
    }
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    drain();
    for (char *p = got; (p = strstr(p, " pool info: thread ")) && p[20] == '\n'; p++)
        n++;
    TAP_OK(n == 200, "four threads' lines are whole");

    int s[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s) < 0)
        return;
    TAP_OK(mu_log_setup(s[1], "info", "text", NULL) == 0, "a socket can be logged to");
    mu_log(MU_LOG_INFO, "pool", "by socket");
    ssize_t k = read(s[0], got, sizeof got - 1);
    got[k > 0 ? k : 0] = 0;
    TAP_OK(line_is(got, "pool info: by socket\n"), "and gets the line");
    uint64_t from = mu_now();
    for (int i = 0; i < 5000; i++)
        mu_log(MU_LOG_INFO, "pool", "%0100d", i);
    TAP_OK(mu_now() - from < 5 * MU_SEC, "one that nobody reads blocks no one");
    close(s[0]);
    mu_log(MU_LOG_INFO, "pool", "to nobody");
    TAP_OK(mu_log_on(MU_LOG_INFO, "pool"), "one that is closed kills no one");
    close(s[1]);
    TAP_OK(mu_log_setup(open("/dev/full", O_WRONLY | O_CLOEXEC), "info", "text", NULL) == 0, "a full disk");
    mu_log(MU_LOG_INFO, "pool", "lost");
    mu_log_close();
}

int main(void)
{
    if (pipe2(fds, O_CLOEXEC) < 0 || fcntl(fds[0], F_SETFL, O_NONBLOCK) < 0)
        return 1;
    mu_log(MU_LOG_ERROR, "pool", "before the set-up");
    TAP_OK(!*drain(), "before the set-up nothing is written");
    levels();
    lines();
    full();
    setup("info", "text");
    others();
    return tap_done();
}
