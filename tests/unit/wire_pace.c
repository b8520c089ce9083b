/* Work in turns: in order, a few milliseconds at a time, and everything else gets its turn between them. */
#include "runtime/wire/pace.h"

#include <event2/event.h>
#include <stdlib.h>

#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/wire/daemon.h"
#include "tests/unit/tap.h"

#define STEPS 60u

static struct mu_pace *pace;
static unsigned done, ticks, disorder;

static struct work {
    struct mu_step step;
    unsigned i, again;
} works[STEPS];

static void on_step(void *arg)
{
    struct work *w = arg;
    uint64_t until = mu_now() + MU_MS;

    disorder += w->i != done % STEPS;
    done++;
    while (mu_now() < until)
        ;
    if (w->again) {
        w->again--;
        mu_pace_add(pace, &w->step);
    }
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what, (void)arg;
    ticks++;
}

static void on_free(void *arg)
{
    mu_pace_put(MU_STEAL(pace, NULL));
    free(arg);
}

int main(void)
{
    struct event_base *base = mu_loop_new();
    const struct timeval often = {.tv_usec = 1000};

    pace = mu_pace_get(base);
    struct mu_pace *same = mu_pace_get(base);
    TAP_OK(pace && pace == same, "a loop has one");
    mu_pace_put(same);

    struct event *tick = event_new(base, -1, EV_PERSIST, on_tick, NULL);
    event_add(tick, &often);
    for (unsigned i = 0; i < STEPS; i++) {
        works[i] = (struct work){.step = {.fn = on_step, .arg = &works[i]}, .i = i, .again = 1};
        mu_pace_add(pace, &works[i].step);
        mu_pace_add(pace, &works[i].step); /* no difference */
    }
    TAP_OK(!done, "nothing is done by adding it");
    for (uint64_t limit = mu_now() + 30 * MU_SEC; done < 2 * STEPS && mu_now() < limit;)
        event_base_loop(base, EVLOOP_ONCE);
    TAP_OK(done == 2 * STEPS && !disorder, "%u steps are done, in order; who comes again comes last", done);
    TAP_OK(ticks >= 10, "and a timer has come between them, %u times", ticks);
    event_free(tick);

    mu_pace_add(pace, &works[0].step);
    mu_pace_add(pace, &works[1].step);
    mu_pace_add(pace, &works[2].step);
    mu_pace_drop(pace, &works[1].step);
    mu_pace_drop(pace, &works[2].step);
    mu_pace_drop(pace, &works[0].step);
    mu_pace_drop(pace, &works[0].step);
    event_base_loop(base, EVLOOP_NONBLOCK);
    TAP_OK(done == 2 * STEPS && !works[0].step.waiting, "what is dropped is not done");

    struct mu_step *last = calloc(1, sizeof *last);
    *last = (struct mu_step){.fn = on_free, .arg = last};
    mu_pace_add(pace, last);
    event_base_loop(base, EVLOOP_ONCE);
    TAP_OK(!pace, "a step may free itself and be the last user");
    event_base_free(base);
    return tap_done();
}
