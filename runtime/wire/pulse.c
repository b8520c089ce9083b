#include "runtime/wire/pulse.h"

#define ABSENT (250 * MU_MS) /* called so late, we were away ourselves */

void mu_pulse_begin(struct mu_pulse *p, uint64_t now)
{
    *p = (struct mu_pulse){.heard = now, .due = now};
}

void mu_pulse_heard(struct mu_pulse *p, uint64_t now, bool beat)
{
    p->heard = now;
    p->answers = p->answers || beat;
}

bool mu_pulse_next(struct mu_pulse *p, uint64_t now, uint64_t *at)
{
    bool ask = now >= p->due;

    if (now > p->due + ABSENT) {
        p->heard += now - p->due;
        p->heard = p->heard > now ? now : p->heard;
    }
    if (ask)
        p->due = now + MU_PULSE_EVERY;
    *at = p->due;
    return ask;
}

uint64_t mu_pulse_silence(const struct mu_pulse *p, uint64_t now)
{
    return now > p->heard ? now - p->heard : 0;
}

bool mu_pulse_frozen(const struct mu_pulse *p, uint64_t now, uint64_t limit, char process)
{
    uint64_t silent = mu_pulse_silence(p, now);

    if (process == 'T' || process == 'F')
        return silent >= limit;
    return (process == 'R' || process == 'S') && p->answers && silent >= MU_PULSE_STUCK;
}
