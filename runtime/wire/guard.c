#include "runtime/wire/guard.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "runtime/base/log.h"
#include "runtime/base/procstate.h"
#include "runtime/wire/daemon.h"
#include "runtime/wire/link.h"
#include "runtime/wire/pulse.h"

struct mu_guard {
    struct mu_link *link;
    struct mu_alarm *alarm;
    struct mu_pulse pulse;
    char name[48];
    pid_t pid;
    uint64_t limit;
    void (*frozen)(void *arg, pid_t);
    void *arg;
};

static void on_alarm(void *arg)
{
    struct mu_guard *g = arg;
    uint64_t now = mu_now(), at;

    if (mu_pulse_next(&g->pulse, now, &at))
        mu_link_send_msg(g->link, MU_MSG_beat, &(struct mu_m_beat){.sent_ns = now});
    mu_alarm_set(g->alarm, at);
    if (mu_pulse_silence(&g->pulse, now) < MU_PULSE_SUSPECT)
        return;
    char letter = mu_proc_letter(g->pid);
    if (!mu_pulse_frozen(&g->pulse, now, g->limit, letter) || kill(g->pid, SIGKILL))
        return;
    mu_log(MU_LOG_WARN, "daemon", "%s is frozen: %s, and nothing was heard of it for %.1f s; killed", g->name,
           mu_proc_state_text(letter), (double)mu_pulse_silence(&g->pulse, now) / 1e9);
    mu_alarm_set(g->alarm, UINT64_MAX);
    if (g->frozen)
        g->frozen(g->arg, g->pid);
}

struct mu_guard *mu_guard_new(struct event_base *base, struct mu_link *link, const char *name, pid_t pid,
                              uint64_t limit, void (*frozen)(void *arg, pid_t), void *arg)
{
    struct mu_guard *g = pid > 1 ? calloc(1, sizeof *g) : NULL;

    if (!g || !(g->alarm = mu_alarm_new(base, on_alarm, g))) {
        free(g);
        return NULL;
    }
    g->link = link;
    snprintf(g->name, sizeof g->name, "%s", name);
    g->pid = pid;
    g->limit = limit;
    g->frozen = frozen;
    g->arg = arg;
    mu_pulse_begin(&g->pulse, mu_now());
    mu_alarm_set(g->alarm, mu_now());
    return g;
}

void mu_guard_free(struct mu_guard *g)
{
    if (!g)
        return;
    mu_alarm_free(g->alarm);
    free(g);
}

bool mu_guard_answer(struct mu_link *link, const struct mu_msg *m)
{
    if (m->type != MU_MSG_beat)
        return false;
    if (!m->beat.echo_ns)
        mu_link_send_msg(link, MU_MSG_beat, &(struct mu_m_beat){.sent_ns = mu_now(), .echo_ns = m->beat.sent_ns});
    return true;
}

bool mu_guard_take(struct mu_guard *g, const struct mu_msg *m)
{
    if (!g)
        return false;
    mu_pulse_heard(&g->pulse, mu_now(), m->type == MU_MSG_beat && m->beat.echo_ns);
    return mu_guard_answer(g->link, m);
}
