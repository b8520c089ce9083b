/* What the other end of a link asks, answered in turns (runtime/wire/pace.h): one question of it, then those of others
 * and whatever else has happened, however many it has sent ahead. So nobody who asks much holds up beats. */
#ifndef MU_LAUNCHER_TURN_H
#define MU_LAUNCHER_TURN_H

#include "runtime/wire/msg.h"
#include "runtime/wire/pace.h"

struct mu_link;

struct mu_turn {
    struct mu_pace *pace;
    struct mu_link *link; /* paused while it waits for its turn */
    void (*answer)(void *arg, const struct mu_m_query *);
    void *arg;
    struct mu_m_query asked;
    bool asks;
    struct mu_step step;
};
/* From inside the link's callback: nothing more comes of it until its turn, in which q is answered, if there is one.
 * True: it waits. False: it does not have to, as there is no link, or cannot; then q is the caller's to answer. */
bool mu_turn_wait(struct mu_turn *, const struct mu_m_query *q);
/* Nothing is answered any more; the link may be gone. */
void mu_turn_end(struct mu_turn *);

#endif
