/* Daemons that fall silent: when they are asked, when they count as frozen. */
#include "runtime/wire/pulse.h"

#include "tests/unit/tap.h"

static const struct {
    uint64_t silent, limit;
    char process;
    bool answers, frozen;
    const char *what;
} rows[] = {
    {1900 * MU_MS, MU_PULSE_STOPPED, 'T', true, false, "stopped for less than 2 s"},
    {2000 * MU_MS, MU_PULSE_STOPPED, 'T', true, true, "stopped for 2 s"},
    {2000 * MU_MS, MU_PULSE_STOPPED, 'T', false, true, "one that has never answered, too"},
    {2000 * MU_MS, MU_PULSE_STOPPED, 'F', true, true, "in a frozen cgroup"},
    {9 * MU_SEC, MU_PULSE_CONTROLLER, 'T', true, false, "a controller has more time"},
    {10 * MU_SEC, MU_PULSE_CONTROLLER, 'T', true, true, "but not for ever"},
    {900 * MU_SEC, MU_PULSE_STOPPED, 't', true, false, "under a debugger"},
    {900 * MU_SEC, MU_PULSE_STOPPED, 'D', true, false, "waiting for a disk"},
    {59 * MU_SEC, MU_PULSE_STOPPED, 'S', true, false, "asleep on a busy machine"},
    {60 * MU_SEC, MU_PULSE_STOPPED, 'S', true, true, "asleep for a minute"},
    {60 * MU_SEC, MU_PULSE_STOPPED, 'R', true, true, "going round and round for a minute"},
    {900 * MU_SEC, MU_PULSE_STOPPED, 'S', false, false, "one that does not know how to answer"},
    {900 * MU_SEC, MU_PULSE_STOPPED, 0, true, false, "one that is gone"},
};

int main(void)
{
    struct mu_pulse p;
    uint64_t now = 500 * MU_SEC, at;

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        mu_pulse_begin(&p, now);
        mu_pulse_heard(&p, now, rows[i].answers);
        TAP_OK(mu_pulse_frozen(&p, now + rows[i].silent, rows[i].limit, rows[i].process) == rows[i].frozen, "%s",
               rows[i].what);
    }
    mu_pulse_begin(&p, now);
    TAP_OK(mu_pulse_next(&p, now, &at) && at == now + MU_PULSE_EVERY, "it is asked at once");
    TAP_OK(!mu_pulse_next(&p, now + 100 * MU_MS, &at) && at == now + MU_PULSE_EVERY, "then every half second");
    TAP_OK(mu_pulse_next(&p, now + MU_PULSE_EVERY, &at), "again");
    for (int i = 2; i < 5; i++)
        mu_pulse_next(&p, now + (uint64_t)i * MU_PULSE_EVERY, &at);
    TAP_OK(mu_pulse_silence(&p, now + 2 * MU_SEC) == 2 * MU_SEC, "silence adds up while we ask");
    mu_pulse_next(&p, now + 60 * MU_SEC, &at);
    TAP_OK(mu_pulse_silence(&p, now + 60 * MU_SEC) < 3 * MU_SEC, "but not while we ourselves stood still");
    mu_pulse_heard(&p, now + 61 * MU_SEC, false);
    TAP_OK(!mu_pulse_silence(&p, now + 61 * MU_SEC) && !mu_pulse_silence(&p, now), "a word ends it");
    return tap_done();
}
