#include "runtime/wire/pace.h"

#include <event2/event.h>
#include <stdlib.h>

#include "runtime/base/clock.h"

struct mu_pace {
    struct mu_pace *next; /* of another loop of this thread */
    struct event_base *base;
    struct event *turn;
    struct mu_step *first, *last;
    unsigned users;
};

static _Thread_local struct mu_pace *all;

/* Not event_active(): that would be before the loop has looked at its sockets. */
static void go_on(struct mu_pace *p)
{
    static const struct timeval next = {0};

    event_add(p->turn, &next);
}

static void on_turn(evutil_socket_t fd, short what, void *arg)
{
    struct mu_pace *p = arg;
    uint64_t until = mu_now() + MU_PACE_NS;

    (void)fd, (void)what;
    p->users++; /* a step may be the end of who has asked for us */
    do {
        struct mu_step *s = p->first;
        if (!s)
            break;
        mu_pace_drop(p, s);
        s->fn(s->arg);
    } while (mu_now() < until);
    if (p->first)
        go_on(p);
    mu_pace_put(p);
}

struct mu_pace *mu_pace_get(struct event_base *base)
{
    struct mu_pace *p = all;

    while (p && p->base != base)
        p = p->next;
    if (!p) {
        p = calloc(1, sizeof *p);
        if (!p || !(p->turn = event_new(base, -1, 0, on_turn, p))) {
            free(p);
            return NULL;
        }
        p->base = base;
        p->next = all;
        all = p;
    }
    p->users++;
    return p;
}

void mu_pace_put(struct mu_pace *p)
{
    struct mu_pace **at = &all;

    if (!p || --p->users)
        return;
    while (*at != p)
        at = &(*at)->next;
    *at = p->next;
    event_free(p->turn);
    free(p);
}

void mu_pace_add(struct mu_pace *p, struct mu_step *s)
{
    if (s->waiting)
        return;
    s->waiting = true;
    s->next = NULL;
    s->prev = p->last;
    if (p->last)
        p->last->next = s;
    else
        p->first = s;
    p->last = s;
    if (p->first == s)
        go_on(p);
}

void mu_pace_drop(struct mu_pace *p, struct mu_step *s)
{
    if (!s->waiting)
        return;
    s->waiting = false;
    if (s->prev)
        s->prev->next = s->next;
    else
        p->first = s->next;
    if (s->next)
        s->next->prev = s->prev;
    else
        p->last = s->prev;
}
