#include "runtime/wire/beat.h"

#include <string.h>

#define SLACK (5 * MU_MS)    /* what is due so soon is done now: links are served together */
#define ABSENT (250 * MU_MS) /* called so late, we were away ourselves */

void mu_beat_begin(struct mu_beat *b, uint64_t now, bool upper)
{
    *b = (struct mu_beat){.began = now, .heard = now, .due = now, .mean = MU_BEAT_EVERY, .upper = upper};
}

bool mu_beat_heard(struct mu_beat *b, uint64_t now)
{
    bool was = b->suspected && !b->silent;

    b->heard = now;
    b->suspected = false;
    return was;
}

void mu_beat_take(struct mu_beat *b, uint64_t now, const struct mu_m_beat *m)
{
    if (b->came) {
        /* as TCP estimates round trips */
        uint64_t gap = now - b->came, off = gap > b->mean ? gap - b->mean : b->mean - gap;
        b->mean = b->mean - b->mean / 8 + gap / 8;
        b->dev = b->dev - b->dev / 4 + off / 4;
    }
    b->came = now;
    if (m->sent_ns > b->theirs)
        b->theirs = m->sent_ns;
    /* no more than we have said is believed */
    if (m->echo_ns < b->began || m->echo_ns > b->sent)
        return;
    if (m->echo_ns > b->echoed)
        b->echoed = m->echo_ns;
    /* What is echoed was sent before this beat was: so the controller heard the other side at echo - age or later. */
    uint64_t age = MU_MUTANT(UP_AGE_IGNORED) ? 0 : m->up_age_ns;
    if (age < m->echo_ns && m->echo_ns - age > b->known)
        b->known = m->echo_ns - age;
}

static uint64_t limit(const struct mu_beat *b, uint64_t least)
{
    uint64_t credible = b->mean + 6 * b->dev;

    if (credible > MU_BEAT_PATIENCE * MU_BEAT_SUSPECT)
        credible = MU_BEAT_PATIENCE * MU_BEAT_SUSPECT;
    return credible <= MU_BEAT_SUSPECT ? least : least / 100 * (credible / (MU_BEAT_SUSPECT / 100));
}

unsigned mu_beat_next(struct mu_beat *b, uint64_t now, uint64_t *at)
{
    uint64_t every = b->upper ? MU_BEAT_UPPER : MU_BEAT_EVERY;
    unsigned words = 0;

    if (now > b->due + ABSENT) {
        b->heard += now - b->due;
        b->heard = b->heard > now ? now : b->heard;
        b->came = 0;
    }
    uint64_t suspect = b->heard + limit(b, MU_BEAT_SUSPECT), silent = b->heard + limit(b, MU_BEAT_SILENT);
    if (!b->sent || now + SLACK >= b->sent + every)
        words |= MU_BEAT_SEND;
    if (!b->suspected && now >= suspect) {
        b->suspected = true;
        words |= MU_BEAT_SUSPECTED;
    }
    if (!b->silent && now >= silent) {
        b->silent = true;
        words |= MU_BEAT_GONE;
    }
    b->due = words & MU_BEAT_SEND ? now + every : b->sent + every;
    if (!b->suspected && suspect < b->due)
        b->due = suspect;
    if (!b->silent && silent < b->due)
        b->due = silent;
    *at = b->due;
    return words;
}

struct mu_m_beat mu_beat_make(struct mu_beat *b, uint64_t now, uint64_t up_age)
{
    b->sent = now;
    return (struct mu_m_beat){.sent_ns = now, .echo_ns = b->theirs, .up_age_ns = up_age};
}

bool mu_beat_answers(const struct mu_beat *b, uint64_t now)
{
    return b->upper && now >= b->sent + MU_BEAT_EVERY / 2;
}

uint64_t mu_beat_echoed(const struct mu_beat *b)
{
    return b->echoed;
}

uint64_t mu_beat_known(const struct mu_beat *b)
{
    return b->known;
}
