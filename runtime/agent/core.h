/* The agent's core: one keeper a job, started on demand, adopted when found, reported for as long as the controller has
 * not released the job. Pure; see runtime/wire/core.h.
 *
 * Shell's duties. Before anything else: MU_EV_LOAD for each keeper found on this node (job, pid; pid 0: a dead one that
 * has not been forgotten), then MU_EV_LOADED. MU_EV_UP/DOWN/MSG on the controller's connection with conn =
 * MU_AGENT_CTL, on keepers' connections with numbers of the shell's; a keeper says MU_MSG_hello (job) first.
 * MU_EV_CHILD when the keeper process of `job` is dead (pid), however it was started (text: how it died, or NULL).
 * Actions: SPAWN (job: start `muster keeper` for it; answer MU_EV_SPAWNED with pid, or status != 0 and text), CLEAN
 * (kill the job's keeper, if it still lives, and every process tagged with the job, remove its files; answer
 * MU_EV_CLEANED; detail, if any, says what the keeper has done wrong; it kills the keeper of a SPAWN before it, too,
 * which may not have been answered yet), CHECK (frame: check; answer MU_EV_CHECKED), FORGET (a keeper of the job that
 * dies from now on, or has died, need not be loaded any more), SEND, CLOSE, EXIT.
 *
 * Of an agent that joined from another host the shell also gives MU_EV_ECHO whenever the controller is known to have
 * heard us at `at`, by our clock, or later. From it the lease is reckoned that the keepers of attempts on several nodes
 * get: without a newer one they end their ranks. It counts once the controller has answered `agent` with `parent`, on
 * this way to it: only then does it take this way's end for ours. A parent that cannot be reached is MU_EV_STAY: the
 * controller is told, and nothing else: what it has sent meanwhile may be under way, so an inventory would be wrong. */
#ifndef MU_AGENT_CORE_H
#define MU_AGENT_CORE_H

#include "runtime/wire/core.h"

#define MU_AGENT_CTL ((mu_conn)1)

struct mu_agent_config {
    const char *node; /* borrowed */
    uint32_t slots, pus, numa, gpus, pid;
    char **guids;                 /* of its InfiniBand adapters; borrowed, NULL: none */
    uint64_t memory, incarnation; /* incarnation: greater than that of any agent before in this boot */
    const char *boot;
    uint64_t adopt_wait_ns; /* found keepers may take so long to connect */
    uint64_t end_ns;    /* a released keeper may live so long, one told to kill its ranks be silent so long; 0 = ever */
    uint64_t lonely_ns; /* without controller and without keepers for so long: exit; 0 = never */
    uint64_t owner;     /* the job that it was started for; 0 = the pool's */
    bool joined;        /* of another host than the controller's: leases */
};

struct mu_agent;
struct mu_agent *mu_agent_new(const struct mu_agent_config *);
void mu_agent_free(struct mu_agent *);
void mu_agent_step(struct mu_agent *, const struct mu_ev *, struct mu_acts *);
uint64_t mu_agent_next(const struct mu_agent *);
/* Before the shell forwards a start to a keeper it may fill in what only the node knows (cpusets): the core calls this
 * with the message that is about to be sent. May be NULL. */
typedef void (*mu_agent_plan_fn)(void *arg, struct mu_m_start *start);
void mu_agent_set_plan(struct mu_agent *, mu_agent_plan_fn, void *arg);
unsigned mu_agent_keepers(const struct mu_agent *);
/* There is no controller, but keepers here need one, or it has gone without a farewell: other hosts may have jobs. */
bool mu_agent_abandoned(const struct mu_agent *);
/* Where other hosts reach this agent, for the controller; before MU_EV_UP of its connection. */
void mu_agent_set_addr(struct mu_agent *, const char *addr, uint32_t port);
/* How long ago the controller is known to have heard us on our present way to it, for the agents whose way goes through
 * us (beat.up_age_ns). */
uint64_t mu_agent_up_age(const struct mu_agent *, uint64_t now);
/* There are keepers here whose ranks a lease keeps alive. */
bool mu_agent_leased(const struct mu_agent *);
/* When the lease was prolonged last, by an echo or by MU_EV_NOCTL (`at` of the event); 0: never. */
uint64_t mu_agent_known(const struct mu_agent *);

#endif
