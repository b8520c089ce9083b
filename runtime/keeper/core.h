/* The keeper's core: the attempts of one job on one node, one after the other. Pure; see runtime/wire/core.h.
 *
 * Shell's duties. MU_EV_UP/DOWN/MSG with conn = MU_KEEPER_AGENT for the agent's connection (hello is sent by the core
 * on UP). Actions: SPAWN (frame: start; make session directory, slots, PMIx namespace, logs; fork and exec all local
 * ranks; answer once: MU_EV_SPAWNED, status 0, or status = exit code (126, 127, 1) and text when it cannot be: then no
 * rank lives), SIGNAL, ABORT, NOTICE, INPUT, STREAM, ACK, CLEAN (nothing of the attempt may live on: process groups,
 * tagged processes, PMIx namespace, directories; answer MU_EV_CLEANED), FENCED, MODEX, LOOK, EXIT. MU_EV_HANG when
 * ranks hang, and once for each LOOK. MU_EV_FENCE and MU_EV_MODEX for what PMIx wants; a question of MU_ACT_MODEX is
 * answered with MU_EV_MODEX, once or never. MU_EV_CHILD for each local rank that ended (index = local rank, status =
 * wait status, abnormal, aborted and abort_code, text = last lines of its stderr). MU_EV_SLOTS with the progress fields
 * of a report (njoined steps step first_step_wall step_wall ckpt_plus1 restored_plus1 dropped drained) when they
 * changed, and now and then with what operations and saves cost. When several ranks are found dead at once the shell
 * gives MU_EV_CHILD in the order of plausibility: signals first, then codes, then ranks whose slot says that a peer
 * failed.
 */
#ifndef MU_KEEPER_CORE_H
#define MU_KEEPER_CORE_H

#include "runtime/wire/core.h"

#define MU_KEEPER_AGENT ((mu_conn)1)

struct mu_keeper_config {
    uint64_t job;
    const char *node; /* borrowed */
    uint32_t pid;
};

struct mu_keeper;
struct mu_keeper *mu_keeper_new(const struct mu_keeper_config *);
void mu_keeper_free(struct mu_keeper *);
void mu_keeper_step(struct mu_keeper *, const struct mu_ev *, struct mu_acts *);
uint64_t mu_keeper_next(const struct mu_keeper *);
/* The report as it stands; borrowed until the next step. */
const struct mu_m_report *mu_keeper_report(const struct mu_keeper *);
uint32_t mu_keeper_attempt(const struct mu_keeper *);

#endif
