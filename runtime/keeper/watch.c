#include "runtime/keeper/watch.h"

#include <signal.h>
#include <stdlib.h>

#include "runtime/base/clock.h"
#include "runtime/base/procstate.h"

#define EVERY_MIN (50 * MU_MS)
#define EVERY_MAX (250 * MU_MS)
#define ABSENT MU_SEC              /* who looks so rarely was away himself */
#define FREEZER_AFTER (1 * MU_SEC) /* one that uses no CPU time may be in a frozen cgroup; looked at so often */

struct seen {
    uint64_t beat;
    uint64_t cpu, cpu_at; /* CPU time, and when it was seen to grow last */
    uint64_t freezer_at;  /* next look at its cgroup */
    bool any;
};

struct mu_watch {
    uint64_t every, looked, judged;
    uint64_t floor; /* nothing counts that began earlier */
    bool paused;
    struct mu_hang_told told;
    struct mu_hang_view view;
    struct seen *seen;
    struct mu_hang_rank ranks[];
};

struct mu_watch *mu_watch_new(uint32_t n, uint32_t first, uint64_t hang_ns)
{
    struct mu_watch *w = calloc(1, sizeof *w + n * sizeof w->ranks[0]);
    uint64_t every = mu_hang_stopped_ns(hang_ns) / 16;

    if (!w || !(w->seen = calloc(n, sizeof *w->seen))) {
        free(w);
        return NULL;
    }
    w->every = every < EVERY_MIN ? EVERY_MIN : every > EVERY_MAX ? EVERY_MAX : every;
    w->view = (struct mu_hang_view){.ranks = w->ranks, .n = n, .first = first, .hang_ns = hang_ns};
    return w;
}

void mu_watch_free(struct mu_watch *w)
{
    if (w)
        free(w->seen);
    free(w);
}

bool mu_watch_due(const struct mu_watch *w, uint64_t now)
{
    return w->view.hang_ns && now - w->looked >= w->every;
}

static void start_anew(struct mu_watch *w, uint64_t now)
{
    w->floor = now;
    for (uint32_t i = 0; i < w->view.n; i++) {
        w->ranks[i].stopped_at = w->ranks[i].stopped_at ? now : 0;
        w->ranks[i].beat_at = now;
        w->seen[i].cpu_at = now;
    }
}

/* A frozen process looks asleep, so the cgroups of those that sleep are looked at now and then. */
static char process(struct seen *s, pid_t pid, const struct mu_proc_state *st, char was, uint64_t now)
{
    if (!s->any || st->cpu != s->cpu) {
        s->cpu = st->cpu;
        s->cpu_at = now;
        s->any = true;
    }
    if ((st->letter != 'S' && st->letter != 'D') || now - s->cpu_at < FREEZER_AFTER)
        return st->letter;
    if (now < s->freezer_at)
        return was == 'F' ? 'F' : st->letter;
    s->freezer_at = now + FREEZER_AFTER;
    return mu_proc_frozen(pid) ? 'F' : st->letter;
}

void mu_watch_rank(struct mu_watch *w, const struct mu_slots *slots, uint32_t index, pid_t pid, uint64_t now)
{
    struct mu_hang_rank *r = &w->ranks[index];
    struct seen *s = &w->seen[index];
    struct mu_proc_state st, own;
    uint64_t beat = mu_slots_wait(slots, index, r);
    pid_t looked = pid, inner = (pid_t)atomic_load_explicit(&mu_slots_get(slots, index)->pid, memory_order_relaxed);

    if (w->looked && now > w->looked + ABSENT)
        start_anew(w, now);
    w->looked = now;
    if (!r->beat_at || beat != s->beat)
        r->beat_at = now;
    s->beat = beat;
    if (r->op.since < w->floor)
        r->op.since = w->floor;
    r->alive = pid > 0 && !mu_proc_state(pid, &st);
    if (!r->alive) {
        r->stopped_at = 0;
        return;
    }
    /* the program may run in a shell that we have started; the slot's word for it is checked */
    if (st.letter != 'T' && st.letter != 't' && inner > 0 && inner != pid && !mu_proc_state(inner, &own) &&
        own.group == pid) {
        st = own;
        looked = inner;
    }
    r->process = process(s, looked, &st, r->process, now);
    bool stopped = r->process == 'T' || r->process == 't' || r->process == 'F';
    r->stopped_at = !stopped ? 0 : r->stopped_at ? r->stopped_at : now;
}

const struct mu_hang_view *mu_watch_view(struct mu_watch *w, uint64_t now)
{
    w->view.now = now;
    return &w->view;
}

bool mu_watch_judge(struct mu_watch *w, uint64_t now, struct mu_m_hang *out)
{
    if (w->paused)
        return false;
    mu_hang_judge(mu_watch_view(w, now), out);
    return mu_hang_news(&w->told, out, now);
}

void mu_watch_signal(struct mu_watch *w, int signo, uint64_t now)
{
    if (signo == SIGSTOP || signo == SIGTSTP || signo == SIGTTIN || signo == SIGTTOU)
        w->paused = true;
    if (signo != SIGCONT)
        return;
    w->paused = false;
    start_anew(w, now);
}
