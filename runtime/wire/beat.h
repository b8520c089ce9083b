/* Whether the other side of a connection between hosts is still there: beats go both ways every 100 ms, and whatever
 * comes counts as heard. One struct a link and connection, no clock and no socket in it; the owner calls mu_beat_next
 * when the time that it was told has come. All times mu_now().
 *
 * A link whose beats come irregularly gets more time: the limits are those below or, when that is longer, what the gaps
 * seen so far make credible (mean and deviation), at most MU_BEAT_PATIENCE times as long. When we ourselves were not
 * running (stopped, swapped out), the other side cannot be blamed for it: that time does not count.
 *
 * The two ends of a link differ: the upper one is nearer to the controller (or is it). It answers each beat at once, so
 * that what the lower one knows is as new as it can be, and tells how old its own knowledge is
 * (docs/decisions/007-tree.md). */
#ifndef MU_WIRE_BEAT_H
#define MU_WIRE_BEAT_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/clock.h"
#include "runtime/wire/core.h"

#define MU_BEAT_EVERY (100 * MU_MS)
#define MU_BEAT_UPPER (150 * MU_MS) /* an upper end, when there is nothing to answer */
#define MU_BEAT_SUSPECT (500 * MU_MS)
#define MU_BEAT_SILENT MU_SILENT_NS
#define MU_BEAT_PATIENCE 3u
#define MU_UP_AGE_NONE UINT64_MAX /* beat.up_age_ns: not known */

struct mu_beat {
    uint64_t began, heard, sent, due; /* due: when mu_beat_next was to be called */
    uint64_t came;                    /* the last beat itself; 0 = none yet */
    uint64_t theirs, echoed;          /* newest of their beats; newest of ours that they have echoed, by our clock */
    uint64_t known;                   /* we were reachable for the controller then, or later, by our clock; 0 = never */
    uint64_t mean, dev;               /* of the gaps between beats */
    bool upper, suspected, silent;
};

enum mu_beat_word {
    MU_BEAT_SEND = 1,      /* mu_beat_make and send it */
    MU_BEAT_SUSPECTED = 2, /* nothing was heard for a while; said once */
    MU_BEAT_GONE = 4,      /* nor since: close the link. Said once */
};

/* The connection is there. upper: we are its end that is nearer to the controller. */
void mu_beat_begin(struct mu_beat *, uint64_t now, bool upper);
/* Something came. True: the link had been under suspicion and is no more. */
bool mu_beat_heard(struct mu_beat *, uint64_t now);
/* A beat came; after mu_beat_heard. */
void mu_beat_take(struct mu_beat *, uint64_t now, const struct mu_m_beat *);
/* Words of enum mu_beat_word, or 0. *at: when to call again. */
unsigned mu_beat_next(struct mu_beat *, uint64_t now, uint64_t *at);
/* up_age: at an upper end, see beat.up_age_ns. */
struct mu_m_beat mu_beat_make(struct mu_beat *, uint64_t now, uint64_t up_age);
/* At an upper end, after mu_beat_take: it is to be answered now. */
bool mu_beat_answers(const struct mu_beat *, uint64_t now);
/* When our newest beat that the other side has heard was sent: it was reached by us then, or later. 0: none was. */
uint64_t mu_beat_echoed(const struct mu_beat *);
/* The same of the controller, however many agents are between it and us. */
uint64_t mu_beat_known(const struct mu_beat *);

#endif
