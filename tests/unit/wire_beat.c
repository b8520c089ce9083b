/* The detector of a silent link, in virtual time. */
#include "runtime/wire/beat.h"

#include <stdlib.h>

#include "tests/unit/tap.h"

#define T0 (1000 * MU_SEC)

/* Two ends whose beats take delay(n) to arrive, until `until`; they then hear nothing any more. */
struct ends {
    struct mu_beat a, b;
    uint64_t at_a, at_b; /* when they want to be called */
    unsigned suspected, gone, cleared;
    uint64_t suspected_at, gone_at;
    uint64_t sent;
};

static uint64_t steady(unsigned n)
{
    (void)n;
    return 200000;
}
static uint64_t ragged(unsigned n)
{
    return (n * 2654435761u >> 16) % 60 * MU_MS;
}
/* every third beat is held up, as by a lost packet */
static uint64_t lossy(unsigned n)
{
    return n % 3 ? MU_MS : 280 * MU_MS;
}

/* B beats at A until `until`; A is looked at until `end`. Arrivals keep their order. */
static void watch(struct ends *e, uint64_t from, uint64_t until, uint64_t end, uint64_t (*delay)(unsigned))
{
    uint64_t due_b = from, arrive[4096], next = e->at_a;
    unsigned sent = 0, got = 0;

    for (uint64_t now = from; now < end; now += MU_MS / 2) {
        if (now >= due_b && now < until && sent < 4096) {
            uint64_t t = now + delay(sent);
            arrive[sent] = sent && arrive[sent - 1] > t ? arrive[sent - 1] : t;
            sent++;
            due_b += MU_BEAT_EVERY;
        }
        while (got < sent && arrive[got] <= now) {
            e->cleared += mu_beat_heard(&e->a, now);
            mu_beat_take(&e->a, now, &(struct mu_m_beat){.sent_ns = now - MU_MS});
            got++;
        }
        if (now < next)
            continue;
        unsigned words = mu_beat_next(&e->a, now, &next);
        if (words & MU_BEAT_SEND) {
            mu_beat_make(&e->a, now, 0);
            e->sent++;
        }
        if (words & MU_BEAT_SUSPECTED) {
            e->suspected++;
            e->suspected_at = now;
        }
        if (words & MU_BEAT_GONE) {
            e->gone++;
            e->gone_at = now;
        }
    }
    e->at_a = next;
}

static void silence(void)
{
    struct ends e = {0};

    mu_beat_begin(&e.a, T0, false);
    watch(&e, T0, T0 + 10 * MU_SEC, T0 + 10 * MU_SEC, steady);
    TAP_OK(!e.suspected && !e.gone, "a link that beats is never suspected");
    TAP_OK(e.sent >= 95 && e.sent <= 105, "and beats ten times a second itself (%d in 10 s)", (int)e.sent);
    uint64_t last = e.a.heard;
    watch(&e, T0 + 10 * MU_SEC, 0, T0 + 20 * MU_SEC, steady);
    TAP_OK(e.suspected == 1 && e.suspected_at - last >= 500 * MU_MS && e.suspected_at - last <= 502 * MU_MS,
           "silence is suspect after 500 ms, said once");
    TAP_OK(e.gone == 1 && e.gone_at - last >= MU_BEAT_SILENT && e.gone_at - last <= MU_BEAT_SILENT + 2 * MU_MS,
           "and the end after %d ms, said once", (int)(MU_BEAT_SILENT / MU_MS));
    TAP_OK(!mu_beat_heard(&e.a, T0 + 21 * MU_SEC), "what comes after the end clears nothing");
}

static void never_heard(void)
{
    struct ends e = {0};

    mu_beat_begin(&e.a, T0, false);
    watch(&e, T0, 0, T0 + 3 * MU_SEC, steady);
    TAP_OK(e.suspected == 1 && e.gone == 1 && e.gone_at - T0 <= MU_BEAT_SILENT + 2 * MU_MS,
           "a peer that never says a word is gone, too");
}

static void recovers(void)
{
    struct ends e = {0};

    mu_beat_begin(&e.a, T0, false);
    watch(&e, T0, T0 + 2 * MU_SEC, T0 + 2 * MU_SEC + 850 * MU_MS, steady);
    TAP_OK(e.suspected == 1 && !e.gone && !e.cleared, "0.85 s of silence is suspicion");
    watch(&e, T0 + 2 * MU_SEC + 850 * MU_MS, T0 + 4 * MU_SEC, T0 + 4 * MU_SEC, steady);
    TAP_OK(e.cleared == 1 && e.suspected == 1 && !e.gone, "which a beat clears, told once");
    mu_beat_begin(&e.a, T0, false);
    TAP_OK(!mu_beat_heard(&e.a, T0 + MU_MS), "what is not suspected is not cleared");
}

static void patience(void)
{
    struct ends e = {0};

    mu_beat_begin(&e.a, T0, false);
    watch(&e, T0, T0 + 60 * MU_SEC, T0 + 60 * MU_SEC, ragged);
    TAP_OK(!e.suspected, "beats that are up to 60 ms late raise no suspicion");
    uint64_t last = e.a.heard;
    watch(&e, T0 + 60 * MU_SEC, 0, T0 + 70 * MU_SEC, ragged);
    TAP_OK(e.gone_at - last <= MU_BEAT_SILENT + 2 * MU_MS, "nor do they cost time when it matters");

    e = (struct ends){0};
    mu_beat_begin(&e.a, T0, false);
    watch(&e, T0, T0 + 30 * MU_SEC, T0 + 30 * MU_SEC, lossy);
    TAP_OK(!e.suspected, "neither do beats of which every third is 280 ms late");
    last = e.a.heard;
    watch(&e, T0 + 30 * MU_SEC, 0, T0 + 40 * MU_SEC, lossy);
    TAP_OK(e.suspected_at - last > 500 * MU_MS && e.gone_at - last > MU_BEAT_SILENT + 2 * MU_MS,
           "such a link gets more time: %d and %d ms", (int)((e.suspected_at - last) / MU_MS),
           (int)((e.gone_at - last) / MU_MS));
    TAP_OK(e.gone_at - last <= MU_BEAT_PATIENCE * (MU_BEAT_SILENT + 2 * MU_MS), "but not without end");

    /* whatever the gaps were, the limits are never shorter than the least and never longer than the most */
    bool least = true, most = true;
    srand(1);
    for (int i = 0; i < 2000; i++) {
        uint64_t now = T0, at;
        e = (struct ends){0};
        mu_beat_begin(&e.a, now, false);
        mu_beat_next(&e.a, now, &at);
        for (int k = rand() % 40; k > 0; k--) {
            now += (uint64_t)(rand() % 450) * MU_MS;
            mu_beat_heard(&e.a, now);
            mu_beat_take(&e.a, now, &(struct mu_m_beat){.sent_ns = now});
            if (rand() % 2)
                mu_beat_next(&e.a, now, &at);
        }
        e.at_a = now;
        watch(&e, now, 0, now + 5 * MU_SEC, steady);
        least &= e.suspected_at - now >= MU_BEAT_SUSPECT && e.gone_at - now >= MU_BEAT_SILENT;
        most &= e.gone == 1 && e.gone_at - now <= MU_BEAT_PATIENCE * MU_BEAT_SILENT + 300 * MU_MS;
    }
    TAP_OK(least, "no history of gaps makes the limits shorter");
    TAP_OK(most, "nor longer than three times");
}

static void absence(void)
{
    struct mu_beat b;
    uint64_t at;

    mu_beat_begin(&b, T0, false);
    TAP_OK(mu_beat_next(&b, T0, &at) == MU_BEAT_SEND && at == T0 + MU_BEAT_EVERY, "the first beat goes out at once");
    mu_beat_make(&b, T0, 0);
    mu_beat_next(&b, T0 + MU_MS, &at);
    TAP_OK(at == T0 + MU_BEAT_EVERY, "the next one in its time");
    unsigned words = mu_beat_next(&b, T0 + 30 * MU_SEC, &at);
    TAP_OK(words == MU_BEAT_SEND, "who was away for 30 s himself suspects nobody for it");
    mu_beat_make(&b, T0 + 30 * MU_SEC, 0);
    words = 0;
    for (uint64_t now = at; now < T0 + 31 * MU_SEC + 250 * MU_MS; now = at) {
        words |= mu_beat_next(&b, now, &at);
        mu_beat_make(&b, now, 0);
    }
    TAP_OK(words & MU_BEAT_GONE, "but does when it stays silent from then on");
}

static void echoes(void)
{
    struct mu_beat a, b;
    uint64_t at;

    mu_beat_begin(&a, T0, false);
    mu_beat_begin(&b, T0 + 777, false);
    mu_beat_next(&a, T0 + 1, &at);
    struct mu_m_beat m = mu_beat_make(&a, T0 + 1, 0);
    TAP_OK(m.sent_ns == T0 + 1 && !m.echo_ns && !mu_beat_echoed(&a), "nothing is echoed at first");
    mu_beat_take(&b, T0 + 900, &m);
    struct mu_m_beat r = mu_beat_make(&b, T0 + 1000, 0);
    mu_beat_take(&a, T0 + 1100, &r);
    TAP_OK(mu_beat_echoed(&a) == T0 + 1, "the other side has heard what was sent then");
    m = mu_beat_make(&a, T0 + 2000, 0);
    mu_beat_take(&a, T0 + 2100, &(struct mu_m_beat){.sent_ns = 5, .echo_ns = T0 + 2000});
    TAP_OK(mu_beat_echoed(&a) == T0 + 2000, "it grows");
    mu_beat_take(&a, T0 + 2200, &(struct mu_m_beat){.sent_ns = 6, .echo_ns = T0 + 1});
    TAP_OK(mu_beat_echoed(&a) == T0 + 2000, "and does not fall");
    mu_beat_take(&a, T0 + 2300, &(struct mu_m_beat){.sent_ns = 7, .echo_ns = T0 + 9 * MU_SEC});
    mu_beat_take(&a, T0 + 2300, &(struct mu_m_beat){.sent_ns = 8, .echo_ns = T0 - 1});
    TAP_OK(mu_beat_echoed(&a) == T0 + 2000, "an echo of what was never sent is none");
}

/* Controller, parent, child: clocks that have nothing in common. */
static void ages(void)
{
    struct mu_beat c, p;

    mu_beat_begin(&c, T0, false);
    mu_beat_begin(&p, 7 * T0, true);
    mu_beat_make(&c, T0 + 10 * MU_MS, 0);
    mu_beat_take(&c, T0 + 90 * MU_MS, &(struct mu_m_beat){.echo_ns = T0 + 10 * MU_MS, .up_age_ns = MU_UP_AGE_NONE});
    TAP_OK(mu_beat_echoed(&c) == T0 + 10 * MU_MS && !mu_beat_known(&c), "who does not know vouches for nobody");
    mu_beat_make(&c, T0 + 200 * MU_MS, 0);
    mu_beat_take(&c, T0 + 210 * MU_MS, &(struct mu_m_beat){.echo_ns = T0 + 200 * MU_MS, .up_age_ns = 60 * MU_MS});
    TAP_OK(mu_beat_known(&c) == T0 + 140 * MU_MS, "a parent's word is as old as its own knowledge");
    mu_beat_take(&c, T0 + 290 * MU_MS, &(struct mu_m_beat){.echo_ns = T0 + 200 * MU_MS, .up_age_ns = 10 * MU_MS});
    TAP_OK(mu_beat_known(&c) == T0 + 190 * MU_MS, "it may learn more without a new echo");
    mu_beat_take(&c, T0 + 295 * MU_MS, &(struct mu_m_beat){.echo_ns = T0 + 200 * MU_MS, .up_age_ns = 90 * MU_MS});
    TAP_OK(mu_beat_known(&c) == T0 + 190 * MU_MS, "it never knows less");
    mu_beat_make(&c, T0 + 300 * MU_MS, 0);
    mu_beat_take(&c, T0 + 301 * MU_MS, &(struct mu_m_beat){.echo_ns = T0 + 300 * MU_MS});
    TAP_OK(mu_beat_known(&c) == T0 + 300 * MU_MS, "the controller's own word has no age");

    uint64_t at, now = 7 * T0;
    TAP_OK(mu_beat_next(&p, now, &at) == MU_BEAT_SEND && at == now + MU_BEAT_UPPER,
           "an upper end beats by itself, more slowly");
    TAP_OK(mu_beat_make(&p, now, 5).up_age_ns == 5, "and tells its age");
    TAP_OK(!mu_beat_answers(&p, now + 20 * MU_MS) && mu_beat_answers(&p, now + 60 * MU_MS) &&
               !mu_beat_answers(&c, T0 + MU_SEC),
           "it answers at once, but not each of a burst; the lower end never does");
}

int main(void)
{
    silence();
    never_heard();
    recovers();
    patience();
    absence();
    echoes();
    ages();
    return tap_done();
}
