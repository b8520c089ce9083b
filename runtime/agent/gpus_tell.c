/* The process that asks NVML, and the agent's side of it. */
#include <errno.h>
#include <event2/event.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/agent/checker.h"
#include "runtime/agent/gpus.h"
#include "runtime/agent/way.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/str.h"
#include "runtime/wire/daemon.h"

#define EVERY (10 * MU_SEC)
#define FIRST (1 * MU_SEC)   /* the start of the first job is not held up */
#define AGAIN (600 * MU_SEC) /* where there was no GPU, or NVML hung */
#define SAME (30 * MU_SEC)   /* the same is said again */

uint64_t mu_gpus_every(void)
{
    const char *text = getenv("MUSTER_GPU_HEALTH");
    uint64_t every = EVERY;

    if (text && *text && mu_str_duration(text, &every)) {
        mu_log(MU_LOG_ERROR, "agent", "MUSTER_GPU_HEALTH=%.60s: not a duration such as 30 or 5m", text);
        return EVERY;
    }
    return every && every < 100 * MU_MS ? 100 * MU_MS : every;
}

/* --- the process ---------------------------------------------------------------------------------------------------
 */

static void send_all(int fd, const struct mu_m_gpus *m)
{
    mu_auto_buf struct mu_buf b = {0};
    bool ok = !mu_msg_encode(&b, MU_MSG_gpus, m);

    for (size_t at = 0; ok && at < b.len;) {
        ssize_t n = send(fd, b.data + at, b.len - at, MSG_NOSIGNAL);
        ok = n > 0 || (n < 0 && errno == EINTR);
        at += n > 0 ? (size_t)n : 0;
    }
    if (!ok)
        _exit(1);
}

static void *ask(void *arg)
{
    int fd = *(int *)arg;
    char trouble[MU_GPUS_TROUBLE];
    struct mu_gpus_asked *g;
    uint64_t every = mu_gpus_every();

    if (mu_gpus_open(&g, trouble, sizeof trouble))
        _exit(1);
    if (!g) {
        send_all(fd, &(struct mu_m_gpus){.since = mu_wall(), .trouble = trouble});
        _exit(0);
    }
    for (;;) {
        struct mu_m_gpus m;
        if (mu_gpus_ask(g, &m))
            _exit(1);
        send_all(fd, &m);
        mu_msg_free_body(MU_MSG_gpus, &m);
        mu_gpus_wait(g, every);
    }
    return NULL;
}

/* NVML may hang, but the end of the agent is seen. */
int mu_gpus_main(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    pthread_t thread;
    char byte;

    if (pthread_create(&thread, NULL, ask, &fd))
        return 1;
    for (;;)
        if (poll(&p, 1, -1) > 0 && recv(fd, &byte, 1, MSG_DONTWAIT) <= 0 && errno != EINTR)
            _exit(0);
}

/* --- the agent's side ----------------------------------------------------------------------------------------------
 */

struct mu_gpus_teller {
    struct event_base *base;
    struct mu_way *const *way;
    struct mu_alarm *alarm;
    uint64_t every, limit, again;
    struct mu_checker who; /* to who asks; NULL: nobody does */
    struct mu_buf frame;   /* the newest; empty: there is no GPU */
    bool some, told;       /* it has GPUs or trouble; something was sent once */
    unsigned sent_on;      /* the way that has got it; 0: none */
    uint64_t sent_at;
};

static void send_it(struct mu_gpus_teller *t)
{
    struct mu_way *way = *t->way;

    if (!way || !t->frame.len || !mu_way_count(way) || (!t->some && !t->told))
        return;
    if (t->sent_on == mu_way_count(way) && (!t->some || mu_now() < t->sent_at + SAME))
        return;
    if (mu_way_send(way, t->frame.data, t->frame.len))
        return;
    t->sent_on = mu_way_count(way);
    t->sent_at = mu_now();
    t->told = true;
}

void mu_gpus_teller_tick(struct mu_gpus_teller *t)
{
    send_it(t);
}

static void take(struct mu_gpus_teller *t, const void *frame, size_t len, bool some)
{
    t->some = some;
    if (t->frame.len == len && !memcmp(t->frame.data, frame, len)) {
        send_it(t);
        return;
    }
    mu_buf_clear(&t->frame);
    mu_buf_append(&t->frame, frame, len);
    if (t->frame.failed)
        mu_buf_clear(&t->frame);
    t->sent_on = 0;
    send_it(t);
}

static void finish(struct mu_gpus_teller *t)
{
    mu_checker_end(&t->who);
    mu_alarm_set(t->alarm, mu_now() + t->again);
    t->again = AGAIN;
}

static void on_msg(void *arg, struct mu_link *link, const struct mu_msg *msg, const void *frame, size_t len)
{
    struct mu_gpus_teller *t = arg;

    (void)link;
    if (msg->type != MU_MSG_gpus)
        return;
    t->again = mu_gpus_count(&msg->gpus) ? t->every : AGAIN; /* if it ends now */
    take(t, frame, len, mu_gpus_count(&msg->gpus) || (msg->gpus.trouble && *msg->gpus.trouble));
    mu_alarm_set(t->alarm, mu_now() + t->limit);
}

static void on_down(void *arg, struct mu_link *link)
{
    (void)link;
    finish(arg);
}

static void hangs(struct mu_gpus_teller *t)
{
    mu_auto_buf struct mu_buf b = {0};
    char trouble[MU_GPUS_TROUBLE];

    snprintf(trouble, sizeof trouble, "NVML has not answered for %.3g s: the driver hangs", (double)t->limit / MU_SEC);
    mu_log(MU_LOG_WARN, "agent", "%s", trouble);
    if (!mu_msg_encode(&b, MU_MSG_gpus, &(struct mu_m_gpus){.since = mu_wall(), .trouble = trouble}))
        take(t, b.data, b.len, true);
    t->again = AGAIN;
    finish(t);
}

static void on_alarm(void *arg)
{
    struct mu_gpus_teller *t = arg;
    struct mu_err err = {0};

    if (t->who.link) {
        hangs(t);
    } else if (mu_checker_start(&t->who, t->base, "--gpus", on_msg, on_down, t, &err)) {
        mu_log(MU_LOG_ERROR, "agent", "GPUs cannot be asked for: %s", err.text);
        finish(t);
    } else {
        mu_alarm_set(t->alarm, mu_now() + t->limit);
    }
}

struct mu_gpus_teller *mu_gpus_teller_new(struct event_base *base, struct mu_way *const *way)
{
    struct mu_gpus_teller *t = calloc(1, sizeof *t);

    if (!t)
        return NULL;
    *t = (struct mu_gpus_teller){
        .base = base, .way = way, .every = mu_gpus_every(), .again = AGAIN, .who = MU_CHECKER_NONE};
    t->limit = t->every + (t->every < EVERY ? t->every * 2 + 2 * MU_SEC : 20 * MU_SEC);
    t->alarm = mu_alarm_new(base, on_alarm, t);
    if (!t->alarm) {
        free(t);
        return NULL;
    }
    if (t->every)
        mu_alarm_set(t->alarm, mu_now() + (t->every < FIRST ? t->every : FIRST));
    return t;
}

void mu_gpus_teller_free(struct mu_gpus_teller *t)
{
    if (!t)
        return;
    mu_checker_end(&t->who);
    mu_alarm_free(t->alarm);
    mu_buf_free(&t->frame);
    free(t);
}
