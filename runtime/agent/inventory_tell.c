#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/agent/checker.h"
#include "runtime/agent/inventory.h"
#include "runtime/agent/way.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/str.h"
#include "runtime/wire/daemon.h"

#define FIRST (1 * MU_SEC) /* the start of the first job is not held up */
#define LIMIT (60 * MU_SEC)

struct mu_inventory_teller {
    struct event_base *base;
    struct mu_way *const *way;
    struct mu_alarm *alarm;
    uint64_t every;
    struct mu_checker who; /* to who gathers; NULL: nobody does */
    struct mu_buf frame;   /* the newest; empty: none yet */
    unsigned sent_on;      /* the way that has got it; 0: none */
};

static void send_it(struct mu_inventory_teller *t)
{
    struct mu_way *way = *t->way;

    if (!way || !t->frame.len || !mu_way_count(way) || t->sent_on == mu_way_count(way))
        return;
    if (!mu_way_send(way, t->frame.data, t->frame.len))
        t->sent_on = mu_way_count(way);
}

void mu_inventory_teller_tick(struct mu_inventory_teller *t)
{
    send_it(t);
}

static void finish(struct mu_inventory_teller *t)
{
    mu_checker_end(&t->who);
    mu_alarm_set(t->alarm, mu_now() + t->every);
}

static void on_msg(void *arg, struct mu_link *link, const struct mu_msg *msg, const void *frame, size_t len)
{
    struct mu_inventory_teller *t = arg;

    (void)link;
    if (msg->type != MU_MSG_inventory)
        return;
    if (t->frame.len != len || memcmp(t->frame.data, frame, len) != 0) {
        mu_buf_clear(&t->frame);
        mu_buf_append(&t->frame, frame, len);
        if (t->frame.failed)
            mu_buf_clear(&t->frame);
        t->sent_on = 0;
    }
    send_it(t);
}

static void on_down(void *arg, struct mu_link *link)
{
    (void)link;
    finish(arg);
}

static void on_alarm(void *arg)
{
    struct mu_inventory_teller *t = arg;
    struct mu_err err = {0};

    if (t->who.link) {
        mu_log(MU_LOG_WARN, "agent", "the inventory was not gathered within %llu s: something that it reads hangs",
               (unsigned long long)(LIMIT / MU_SEC));
        finish(t);
    } else if (mu_checker_start(&t->who, t->base, "--inventory", on_msg, on_down, t, &err)) {
        mu_log(MU_LOG_ERROR, "agent", "the inventory cannot be gathered: %s", err.text);
        finish(t);
    } else {
        mu_alarm_set(t->alarm, mu_now() + LIMIT);
    }
}

struct mu_inventory_teller *mu_inventory_teller_new(struct event_base *base, struct mu_way *const *way)
{
    struct mu_inventory_teller *t = calloc(1, sizeof *t);
    const char *every = getenv("MUSTER_INVENTORY");

    if (!t)
        return NULL;
    *t = (struct mu_inventory_teller){
        .base = base, .way = way, .every = MU_INVENTORY_EVERY_S * MU_SEC, .who = MU_CHECKER_NONE};
    if (every && *every && mu_str_duration(every, &t->every))
        mu_log(MU_LOG_ERROR, "agent", "MUSTER_INVENTORY=%.60s: not a duration such as 30 or 5m", every);
    t->alarm = mu_alarm_new(base, on_alarm, t);
    if (!t->alarm) {
        free(t);
        return NULL;
    }
    if (t->every)
        mu_alarm_set(t->alarm, mu_now() + (t->every < FIRST ? t->every : FIRST));
    return t;
}

void mu_inventory_teller_free(struct mu_inventory_teller *t)
{
    if (!t)
        return;
    mu_checker_end(&t->who);
    mu_alarm_free(t->alarm);
    mu_buf_free(&t->frame);
    free(t);
}
