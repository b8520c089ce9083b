#include "runtime/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/path.h"
#include "runtime/base/str.h"

/* A line fits into PIPE_BUF, so that lines of several processes never mix. */
enum { MAX_ROOMS = 16, MAX_LINE = 4096, PATIENCE_MS = 200 };

static const char *const level_names[MU_LOG_LEVELS] = {"error", "warn", "info", "debug", "trace"};

struct rooms {
    enum mu_log_level all;
    size_t n;
    struct {
        char name[24];
        enum mu_log_level level;
    } room[MAX_ROOMS];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct rooms rooms;
static int out_fd = -1;
static bool json, stuck, is_socket;
static unsigned long dropped;
static char host[65], context[96];
static _Atomic int loudest = -1; /* of all rooms; -1: closed */

static int parse_level(const char *word, size_t len, enum mu_log_level *out)
{
    for (size_t i = 0; i < MU_LOG_LEVELS; i++)
        if (strlen(level_names[i]) == len && !strncmp(level_names[i], word, len)) {
            *out = (enum mu_log_level)i;
            return 0;
        }
    return MUSTER_EARG;
}

static int parse_spec(const char *spec, struct rooms *out, struct mu_err *err)
{
    struct rooms r = {.all = MU_LOG_INFO};
    char shown[40];

    for (const char *p = spec; *p;) {
        size_t len = strcspn(p, ","), eq = strcspn(p, "=,");
        const char *word = eq < len ? p + eq + 1 : p;
        enum mu_log_level level;

        snprintf(shown, sizeof shown, "%.*s", (int)(len > 30 ? 30 : len), p);
        if (len && parse_level(word, (size_t)(p + len - word), &level) < 0)
            return mu_err_set(err, MUSTER_EARG,
                              "MUSTER_LOG: '%s' is none of error, warn, info, debug, trace or ROOM=LEVEL", shown);
        if (len && word == p) {
            r.all = level;
        } else if (len) {
            if (r.n == MAX_ROOMS || !eq || eq >= sizeof r.room[0].name)
                return mu_err_set(err, MUSTER_EARG, "MUSTER_LOG: cannot take '%s'", shown);
            memcpy(r.room[r.n].name, p, eq);
            r.room[r.n++].level = level;
        }
        p += len + (p[len] != 0);
    }
    *out = r;
    return 0;
}

/* A description of our own, so that not blocking is our affair alone; where that cannot be had, a plain copy. */
static int open_copy(int fd, struct mu_err *err)
{
    char path[32];
    struct stat st;

    if (fstat(fd, &st) < 0)
        return mu_err_errno(err, 0, "cannot log to descriptor %d", fd);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int copy = S_ISSOCK(st.st_mode) ? -1 : open(path, O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (copy < 0)
        copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    return copy < 0 ? mu_err_errno(err, 0, "cannot log to descriptor %d", fd) : copy;
}

int mu_log_setup(int fd, const char *spec, const char *format, struct mu_err *err)
{
    struct rooms r;
    struct stat st;
    int rc, top;

    if (!spec)
        spec = getenv("MUSTER_LOG");
    if (!format)
        format = getenv("MUSTER_LOG_FORMAT");
    if (format && *format && strcmp(format, "json") && strcmp(format, "text"))
        return mu_err_set(err, MUSTER_EARG, "MUSTER_LOG_FORMAT must be text or json");
    if ((rc = parse_spec(spec ? spec : "", &r, err)) < 0)
        return rc;
    if ((rc = open_copy(fd, err)) < 0)
        return rc;
    pthread_mutex_lock(&lock);
    if (out_fd >= 0)
        close(out_fd);
    out_fd = rc;
    is_socket = fstat(rc, &st) == 0 && S_ISSOCK(st.st_mode);
    rooms = r;
    json = format && !strcmp(format, "json");
    stuck = false;
    dropped = 0;
    mu_path_host(host);
    top = r.all;
    for (size_t i = 0; i < r.n; i++)
        if ((int)r.room[i].level > top)
            top = r.room[i].level;
    atomic_store(&loudest, top);
    pthread_mutex_unlock(&lock);
    return 0;
}

void mu_log_context(const char *text)
{
    pthread_mutex_lock(&lock);
    mu_str_show(context, sizeof context, text);
    pthread_mutex_unlock(&lock);
}

void mu_log_close(void)
{
    pthread_mutex_lock(&lock);
    atomic_store(&loudest, -1);
    if (out_fd >= 0)
        close(out_fd);
    out_fd = -1;
    pthread_mutex_unlock(&lock);
}

static bool on_locked(enum mu_log_level level, const char *room)
{
    for (size_t i = 0; i < rooms.n; i++)
        if (!strcmp(rooms.room[i].name, room))
            return level <= rooms.room[i].level;
    return level <= rooms.all;
}

bool mu_log_on(enum mu_log_level level, const char *room)
{
    if ((int)level > atomic_load_explicit(&loudest, memory_order_relaxed))
        return false;
    pthread_mutex_lock(&lock);
    bool on = out_fd >= 0 && on_locked(level, room);
    pthread_mutex_unlock(&lock);
    return on;
}

static bool write_line(const char *line, size_t len)
{
    for (int tries = 0; tries < 4; tries++) {
        struct pollfd p = {.fd = out_fd, .events = POLLOUT};

        /* Also before the first write: the copy may be a descriptor that blocks. After a line that had to be dropped
         * nobody waits again until one gets through. */
        if (poll(&p, 1, stuck ? 0 : PATIENCE_MS) == 0)
            break;
        ssize_t n = is_socket ? send(out_fd, line, len, MSG_DONTWAIT | MSG_NOSIGNAL) : write(out_fd, line, len);
        if (n >= 0 && (size_t)n == len)
            return true;
        if (n >= 0) { /* a full disk or a terminal; the rest follows */
            line += n;
            len -= (size_t)n;
        } else if (errno != EAGAIN && errno != EINTR) {
            break;
        }
    }
    return false;
}

static void emit_locked(const char *line, size_t len)
{
    char note[128];

    if (dropped) {
        int n = snprintf(note, sizeof note,
                         json ? "{\"level\":\"warn\",\"room\":\"log\",\"msg\":\"%lu lines dropped\"}\n"
                              : "muster: %lu log lines dropped\n",
                         dropped);
        if (!write_line(note, (size_t)n)) {
            dropped++;
            return;
        }
        dropped = 0;
        stuck = false;
    }
    if (write_line(line, len)) {
        stuck = false;
    } else {
        stuck = true;
        dropped++;
    }
}

/* Appends text as the inside of a JSON string; printable already, so only two characters are left to escape. A cut
 * never falls into a UTF-8 sequence. */
static size_t put_json(char *line, size_t at, size_t end, const char *text)
{
    for (; *text && at + ((unsigned char)*text >= 0xc0 ? 6 : 2) < end; text++) {
        if (*text == '"' || *text == '\\')
            line[at++] = '\\';
        line[at++] = *text;
    }
    line[at] = 0;
    return at;
}

void mu_log(enum mu_log_level level, const char *room, const char *fmt, ...)
{
    char raw[2048], text[MAX_LINE - 300], line[MAX_LINE], stamp[40];
    struct timespec now;
    struct tm tm;
    int saved = errno;
    va_list ap;

    if (!mu_log_on(level, room))
        return;
    errno = saved; /* for %m */
    va_start(ap, fmt);
    vsnprintf(raw, sizeof raw, fmt, ap);
    va_end(ap);
    size_t end = strlen(raw);
    while (end && raw[end - 1] == '\n')
        raw[--end] = 0;
    mu_str_show(text, sizeof text, raw);
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    size_t k = strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(stamp + k, sizeof stamp - k, ".%03uZ", (unsigned)(now.tv_nsec / 1000000) % 1000);

    pthread_mutex_lock(&lock);
    if (out_fd >= 0) {
        size_t n;
        if (json) {
            n = (size_t)snprintf(line, sizeof line,
                                 "{\"t\":\"%s\",\"host\":\"%s\",\"pid\":%ld,\"room\":\"%.24s\",\"level\":\"%s\"", stamp,
                                 host, (long)getpid(), room, level_names[level]);
            if (*context) {
                n += (size_t)snprintf(line + n, sizeof line - n, ",\"context\":\"");
                n = put_json(line, n, sizeof line - 100, context);
                n += (size_t)snprintf(line + n, sizeof line - n, "\"");
            }
            n += (size_t)snprintf(line + n, sizeof line - n, ",\"msg\":\"");
            n = put_json(line, n, sizeof line - 8, text);
            n += (size_t)snprintf(line + n, sizeof line - n, "\"}\n");
        } else {
            n = (size_t)snprintf(line, sizeof line, "%s %s %.24s %s: %s%s%s\n", stamp, host, room, level_names[level],
                                 context, *context ? ": " : "", text);
        }
        emit_locked(line, n);
    }
    pthread_mutex_unlock(&lock);
    errno = saved;
}
