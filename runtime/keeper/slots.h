/* The keeper's half of the shared slots (runtime/base/slot.h): one mapping for an attempt. Ranks are not trusted to be
 * right: what they write is only read, and they cannot change the mapping's size. */
#ifndef MU_KEEPER_SLOTS_H
#define MU_KEEPER_SLOTS_H

#include <stdbool.h>

#include "runtime/base/slot.h"
#include "runtime/wire/msg.h"

struct mu_slots;
struct mu_hang_rank;

int mu_slots_new(uint32_t nslots, uint32_t attempt, uint32_t world_size, uint64_t deadline_ns, struct mu_slots **out,
                 struct mu_err *err);
void mu_slots_free(struct mu_slots *); /* NULL is fine */
/* Value of MUSTER_SLOTS; valid for other processes as long as the slots live. */
const char *mu_slots_path(const struct mu_slots *);
/* The hang deadline, for the ranks; before they start. */
void mu_slots_hang(struct mu_slots *, uint64_t hang_ns);
const struct mu_slot *mu_slots_get(const struct mu_slots *, uint32_t index);
const struct mu_flight *mu_slots_flight(const struct mu_slots *, uint32_t index);

/* Tells the ranks that a peer failed; only the first call counts. */
void mu_slots_abort(struct mu_slots *, uint32_t rank, int32_t status, const char *node);
void mu_slots_notice(struct mu_slots *, uint32_t bits); /* adds MU_NOTICE_ bits */

/* Fills njoined (ranks that have been ready), and over these: steps and step (of the slowest), first_step_wall (of the
 * last, once all ranks of the node have one), step_wall (newest), ckpt_plus1, restored_plus1. Other fields are left.
 * Returns whether any of them differs from what is in *r. */
bool mu_slots_read(const struct mu_slots *, struct mu_m_report *r);

/* What collectives and saves have cost so far: ops and op_bytes (of all ranks), saves, save_ns and save_last_ns (of the
 * rank that they have held up longest). Looks every five seconds; true: then it has found something new. now
 * UINT64_MAX: at once. */
bool mu_slots_figures(struct mu_slots *, uint64_t now, struct mu_m_report *r);

/* Fills what a slot says of the rank's waiting (state op op_seq last_ late_ gave_up); returns what grows while it gets
 * on, beat + op_seq. When the rank writes faster than can be read, op is left as it was. */
uint64_t mu_slots_wait(const struct mu_slots *, uint32_t index, struct mu_hang_rank *out);

/* Why the process looks as if its MPI came up without us, "" when it does not; text for people. connected: it has had
 * a PMIx connection; age_ns: since its start; *alone: 0 at first, kept by the caller between looks. Reads /proc. */
void mu_slots_singleton(const struct mu_slots *, uint32_t index, uint32_t world_size, int pid, bool connected,
                        uint64_t age_ns, unsigned *alone, char *text, size_t n);

#endif
