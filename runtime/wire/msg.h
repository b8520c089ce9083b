/* The messages between clients, controller, agents and keepers: one table gives each message its number, its struct,
 * its encoder and its decoder. The same rows are the job store's blobs. docs/formats.md describes the encoding.
 *
 * A frame is: u32 length of what follows, u16 type, then fields: u8 number (1 = first of the row), u32 length, bytes;
 * all little-endian. Fields that are zero or empty are not sent; unknown field numbers are skipped, missing ones are
 * zero. So rows grow at their end and only there; numbers are never used again.
 *
 * How to add a message: append a field list MU_F_name, a row in MU_MESSAGES and its FIELD_OF_name in msg.c; the codec
 * test and the fuzz target run over the table.
 *
 * A struct that mu_msg_decode filled owns its strings, vectors and bytes: give it to mu_msg_free. Structs that the
 * program fills for encoding borrow theirs. */
#ifndef MU_WIRE_MSG_H
#define MU_WIRE_MSG_H

#include "runtime/base/buf.h"
#include "runtime/base/err.h"

#define MU_WIRE_VERSION 1u
#define MU_FRAME_MAX (64u << 20)
#define MU_FRAME_HEAD 6u

struct mu_bytes {
    uint8_t *data;
    uint32_t len;
};
struct mu_u32v {
    uint32_t *v;
    uint32_t n;
};

/* F(type, name); types: u32 u64 i32 str bytes strv u32v. Times: _wall CLOCK_REALTIME ns, _ns durations. */
/* It does not settle on these lists. */
/* clang-format off */
#define MU_F_hello(F)                                                                                                  \
    F(u32, proto) F(str, role) F(str, node) F(u32, pid) F(str, version) F(u64, incarnation) F(u64, job) F(str, user)
#define MU_F_welcome(F) F(u32, proto) F(str, version) F(u64, incarnation) F(u32, pid)
#define MU_F_error(F) F(i32, code) F(str, text)

#define MU_F_submit(F) F(str, token) F(bytes, spec)
#define MU_F_submitted(F) F(u64, job)
#define MU_F_attach(F) F(u64, job) F(u32, foreground) F(str, token)
#define MU_F_state(F) F(u64, job) F(u32, state) F(str, reason) F(u32, attempt)
#define MU_F_output(F)                                                                                                 \
    F(u64, job) F(u32, attempt) F(u32, rank) F(u32, stream) F(u64, offset) F(bytes, data) F(u64, dropped) F(u32, why)
#define MU_F_output_ack(F) F(u64, job) F(u32, attempt) F(u32, rank) F(u32, stream) F(u64, offset)
#define MU_F_input(F) F(u64, job) F(bytes, data) F(u32, eof) F(u64, offset)
#define MU_F_input_ack(F) F(u64, job) F(u64, taken)
#define MU_F_signal(F) F(u64, job) F(u32, signo)
#define MU_F_cancel(F) F(u64, job) F(u32, force) F(str, by) F(u32, signo)
/* A job that waits is not started while it is held (on 1), until it is released (0). */
#define MU_F_hold(F) F(u64, job) F(u32, on) F(str, by)
/* A job that runs is to end its ranks and wait again. */
#define MU_F_requeue(F) F(u64, job) F(str, by)
#define MU_F_ended(F) F(u64, job) F(bytes, row)
/* spec: of `place`, which asks where a job would go; node: of `inventory`, that alone, and with all its history. */
#define MU_F_query(F) F(str, what) F(u64, job) F(u32, all) F(bytes, spec) F(str, node)
#define MU_F_reply(F) F(str, json)
#define MU_F_stop(F) F(u32, force)
/* Hosts become the pool's, or are no longer: "name:slots,..." as in spec.hosts. The answer is `submitted` (job 0) once
 * that is known to the controller; whether their agents come up shows in the answer to a query for nodes. The rest is
 * for the engine, as in spec. */
#define MU_F_nodes_add(F) F(str, hosts) F(str, ssh) F(str, engine) F(strv, engine_env)
#define MU_F_nodes_remove(F) F(str, hosts) F(u32, force)
/* They get jobs again; agents of lost ones are started at once. */
#define MU_F_nodes_resume(F) F(str, hosts)
/* No job gets these any more, until they are resumed; what runs there runs on. */
#define MU_F_nodes_drain(F) F(str, hosts) F(str, by) F(str, reason)
/* Nodes (empty: all) are to be checked; the answer is `submitted` with the number of that check. */
#define MU_F_nodes_check(F) F(str, hosts)
/* Controller to agent: make the health checks, but those in off. disk_free: bytes that the pool's directories and dirs
 * should have; memory_permille: how much of the memory should be free; limit_ns: of each. The agent fills in jobs: JOB.ATTEMPT of
 * those that are here, ATTEMPT 0 when its ranks do not run. */
#define MU_F_check(F)                                                                                                  \
    F(u64, id) F(u64, limit_ns) F(u64, disk_free) F(u32, memory_permille) F(strv, off) F(strv, dirs) F(strv, jobs)
/* The answer, a row for each check: levels are MU_LEVEL_. got_wall, sent_wall: the agent's clock when it was asked and
 * when it answers. */
#define MU_F_checked(F)                                                                                                \
    F(u64, id) F(u64, got_wall) F(u64, sent_wall) F(strv, names) F(u32v, levels) F(strv, reasons) F(u32v, took_ms)
/* Agent to controller, now and then: how its node is. load_milli: of the last minute; busy_ns: of all CPUs, since the boot.
 * Of the file systems of MUSTER_HOME and of the run directory, size 0: not known, or on the network, where asking could
 * take for ever. */
#define MU_F_vitals(F)                                                                                                 \
    F(u32, load_milli) F(u64, busy_ns) F(u64, memory_free) F(u64, home_size) F(u64, home_free) F(u64, run_size)        \
        F(u64, run_free) F(strv, nics) F(u32v, nic_counts) F(strv, disks) F(u32v, disk_counts)
/* nics: interfaces, MU_NICS at most; nic_counts: of each MU_NIC_COUNTS numbers since it came up, lower halves first. */
#define MU_NICS 8u
#define MU_NIC_NAME 16u
enum { MU_NIC_RX, MU_NIC_TX, MU_NIC_RX_ERRORS, MU_NIC_TX_ERRORS, MU_NIC_RX_DROPS, MU_NIC_TX_DROPS, MU_NIC_COUNTS };
/* disks, disk_counts: the same of disks: bytes, bytes, ms. */
#define MU_DISKS 16u
#define MU_DISK_NAME 32u
enum { MU_DISK_READ, MU_DISK_WRITTEN, MU_DISK_BUSY, MU_DISK_COUNTS };
/* Agent to controller, when it has changed, on each new way, and now and then: how its GPUs are (gpus.h). since: tells one
 * who asks NVML from the next. trouble: why nothing, or not all, is known of them. values: a row for each of uuids; xids: the
 * newest, each a number that grows from 1, its GPU (its place in uuids) and the Xid. */
#define MU_F_gpus(F)                                                                                                   \
    F(u64, since) F(str, driver) F(str, trouble) F(strv, uuids) F(strv, names) F(u32v, values) F(u32v, xids)
/* Agent to controller: what its node is made of (inventory.h), each time that this has changed and on each new way. The
 * controller adds node and wall, when it heard of it first, and stores it; of one that was approved also by whom and
 * why, and then wall is when. */
#define MU_F_inventory(F) F(strv, keys) F(strv, values) F(str, node) F(u64, wall) F(str, by) F(str, why)
/* What these hosts (empty: all that are known) are made of now is what they should be made of. */
#define MU_F_approve(F) F(str, hosts) F(str, by) F(str, why)
/* What was approved of these hosts (empty: of all in the pool) counts no more. */
#define MU_F_withdraw(F) MU_F_approve(F)
/* A node that gets no jobs, as the controller keeps it (STATE/marks). kind: MU_OUT_; times: quarantines so far. KNOWN:
 * reason is the GPUs' fault, since_wall their gpus.since, times the newest Xid that was told. */
#define MU_F_mark(F)                                                                                                   \
    F(str, node) F(u32, kind) F(str, by) F(str, reason) F(u64, since_wall) F(u64, until_wall) F(u32, times)
/* What they are labelled with from now on: "fast,rack3"; empty: nothing. */
#define MU_F_nodes_label(F) F(str, hosts) F(str, labels)

/* One of the job store, as its journal has it (launcher/journal.h). rank_plus1 0: it is about none. */
#define MU_F_event(F)                                                                                                  \
    F(u64, job) F(u64, wall) F(u32, attempt) F(u32, rank_plus1) F(str, kind) F(str, node) F(str, detail)

#define MU_F_agent(F)                                                                                                  \
    F(str, node) F(u32, slots) F(u32, pus) F(u32, numa) F(u64, memory) F(str, boot) F(u64, incarnation) F(u32, pid)    \
        F(str, addr) F(u32, port) F(u64, owner) F(u64, way) F(u64, ctl) F(u32, gpus) F(strv, guids)
/* agent.incarnation grows from one agent of a boot to the next, way each time that it says this, ctl is the incarnation
 * of the controller that it takes this for: what was said on an older way and comes late is known by them. guids: of its
 * InfiniBand adapters (node GUIDs), in hexadecimal. */
/* What it still has, at first and whenever something has gone for good. jobs: a keeper each, in decimal. */
#define MU_F_agent_ready(F) F(u32, keepers) F(strv, jobs)
/* Between hosts, both ways, for as long as the connection lives. sent_ns: the sender's own clock; echo_ns: the newest
 * sent_ns that it has heard from the other side, so that each side knows how late it was last known to be there.
 * up_age_ns, from the side that is nearer to the controller: how long ago, when this was sent, the sender was last known
 * to have been heard by the controller; 0 when it is the controller, MU_UP_AGE_NONE when it does not know. */
#define MU_F_beat(F) F(u64, sent_ns) F(u64, echo_ns) F(u64, up_age_ns)
/* Controller to agent, in answer to `agent` and later at any time: its way goes through the agent of `node` from now on,
 * which listens at addr and port. node empty: it stays as it is. way: of the newest `agent` of its that has come. */
#define MU_F_parent(F) F(str, node) F(str, addr) F(u32, port) F(u64, way)
/* Agent to controller: the node of a `parent` that it has `tried` cannot be reached, so its way is as it was. */
#define MU_F_stay(F) F(str, tried)
/* The streams of agents whose way to the controller goes through others (docs/formats.md, "The tree"). kind: MU_RELAY_.
 * channels are those of this connection; 0, and none at all, is the stream of its lower end itself. status, age_ns: of
 * a CLOSE that goes up, MU_DOWN_ and how long ago the other end was heard last; via: of an OPEN, the channel of the agent
 * to which the new ones are connected. */
#define MU_F_relay(F) F(u32, kind) F(u32v, channels) F(bytes, data) F(i32, status) F(u64, age_ns) F(u32, via)
/* Agent to keeper: until then (CLOCK_MONOTONIC of this host) the ranks of an attempt on several nodes may live on
 * without another one. */
#define MU_F_lease(F) F(u64, until_ns)
/* Agent to keeper: where the controller is reached, for the keeper's line there (runtime/keeper/line.h). */
#define MU_F_line(F) F(str, host) F(u32, port)
#define MU_F_start(F)                                                                                                  \
    F(u64, job)                                                                                                        \
    F(u32, attempt)                                                                                                    \
    F(bytes, spec)                                                                                                     \
    F(u32, node_id)                                                                                                    \
    F(strv, nodes)                                                                                                     \
    F(u32v, node_ranks)                                                                                                \
    F(strv, cpusets)                                                                                                   \
    F(u32, stream) F(str, note) F(str, log_dir) F(u64, limit_ns) F(u32, local_slots) F(str, ckpt_dir)             \
        F(u64, lease_ns) F(u32, mark) F(strv, nodesets) F(strv, rank_env) F(str, refusal) F(u32, failures) F(u64, ran_ns) \
        F(bytes, row)
/* The controller sends all nodes the same; their agents fill in node_id, their place in nodes, and lease_ns: begun later
 * (CLOCK_MONOTONIC) it may be one that was given up. limit_ns: what is left of the job's time limit, 0: it has none; no
 * time of the day, as clocks of hosts differ and are set. failures: of the job so far, while it ran for ran_ns. local_slots is not used any more. The agent
 * also fills in, one a local rank: cpusets, nodesets ("": memory is not bound) and rank_env, lines NAME=VALUE; or refusal:
 * what was asked for by name cannot be had, so that nothing is to be started. row: a jobrow, as the controller has stored
 * it, its spec left out where that is this spec. */
/* kill.rank_plus1: this rank alone, because it hangs; why is what is said of it. 0: all. */
#define MU_F_kill(F) F(u64, job) F(u32, attempt) F(u32, signo) F(u64, grace_ns) F(str, why) F(u32, rank_plus1)
#define MU_F_release(F) F(u64, job)
/* Controller to keeper: which job is that? Its store has lost it. The answer is what came with its newest start, before a
 * report; empty, from its agent, when there is nothing. */
#define MU_F_recall(F) F(u64, job)
#define MU_F_recalled(F) F(u64, job) F(u32, attempt) F(bytes, row) F(bytes, spec)
#define MU_F_stream(F) F(u64, job) F(u32, on)
#define MU_F_bye(F) F(u32, reason)
/* What a keeper knows of its newest attempt; sent whole whenever something changed, so that a lost or repeated one does
 * no harm, and a late one is known by its seq. phase: MU_PHASE_. first_*: the failure that came first (first_rank + 1,
 * 0 = none; first_blame: MU_BLAME_). lapsed: the keeper ended the ranks because its lease ran out. aborted: the ranks
 * that live have been told of a failure. */
#define MU_F_report(F)                                                                                                 \
    F(u64, job)                                                                                                        \
    F(u32, attempt)                                                                                                    \
    F(str, node)                                                                                                       \
    F(u32, phase)                                                                                                      \
    F(u32, nranks)                                                                                                     \
    F(u32, nlive)                                                                                                      \
    F(u32, nfailed)                                                                                                    \
    F(u32, njoined)                                                                                                    \
    F(u32, first_rank_plus1)                                                                                           \
    F(i32, first_status)                                                                                               \
    F(u64, first_wall)                                                                                                 \
    F(str, first_text)                                                                                                 \
    F(bytes, first_tail)                                                                                               \
    F(u64, steps)                                                                                                      \
    F(u64, step)                                                                                                       \
    F(u64, first_step_wall)                                                                                            \
    F(u64, step_wall)                                                                                                  \
    F(u64, ckpt_plus1)                                                                                                 \
    F(u64, restored_plus1)                                                                                             \
    F(u32, keeper) F(u32, lost) F(u64, started_wall) F(u64, detected_wall) F(u32, starterr) F(u64, dropped)            \
        F(u32, drained) F(u64, seq) F(u32, lapsed) F(u32, aborted) F(u32, first_blame) F(u64, unseen) F(u32, drop_why)             \
        F(u64, stored_plus1) F(u64, store_bytes) F(u64, store_retries) F(str, store_trouble)                              \
        F(u64, ops) F(u64, op_bytes) F(u32, saves) F(u64, save_ns) F(u64, save_last_ns) F(u64, ckpt_bytes)
/* stored_plus1: newest step in the object store; store_trouble: why sending there failed last, empty once it went well.
 * ops, op_bytes: operations that ranks have begun, of all ranks here, and their bytes; saves, save_ns, save_last_ns: calls
 * of muster_ckpt_save, how long they and the last of them held up the rank that they held up longest; ckpt_bytes: of parts
 * that were written into the directory. All of this attempt. They alone are a report every 5 s at most. */
/* The fence of an attempt's nodes: contributions go up, nodes says whose (their places in start.nodes) are in data and
 * lens how much of it is whose (empty: all is that of one node); among: the nodes that take part (empty: all). The
 * result comes down to all, in the order of the nodes. Known by (job, attempt, seq): said again after a lost connection
 * it does no harm. flags: MU_FENCE_. status: these nodes never will contribute. Downwards, without nodes and data, it is
 * a question: say it again (seq MU_FENCE_ALL: all that wait). */
#define MU_F_fence(F)                                                                                                  \
    F(u64, job) F(u32, attempt) F(u64, seq) F(u32v, nodes) F(bytes, data) F(u32v, lens) F(u32v, among) F(u32, flags)   \
        F(i32, status)
#define MU_F_fenced(F) F(u64, job) F(u32, attempt) F(u64, seq) F(i32, status) F(bytes, data)
/* What a rank of another node has published: a question (answer 0) to the node `to`, or its answer, which goes to the
 * node in `to` as well. id is the asker's. */
#define MU_F_modex(F)                                                                                                  \
    F(u64, job) F(u32, attempt) F(u32, from) F(u32, to) F(u64, id) F(u32, rank) F(u32, answer) F(i32, status)          \
        F(bytes, data)
/* The first failure of an attempt, to the keepers of its other nodes, whose ranks live on. */
#define MU_F_abort(F) F(u64, job) F(u32, attempt) F(u32, rank) F(i32, status) F(str, node)
#define MU_F_rank_exit(F) F(u64, job) F(u32, attempt) F(u32, rank) F(i32, status) F(str, text) F(u64, at_wall)

/* What a keeper sees of ranks that wait too long or do not go on (runtime/keeper/hang.h). level: MU_HANG_LEVEL_. what:
 * MU_HANG_: what is found where those end for whom a rank waits that waits for others: at rank, whose process is in the
 * state process, still_ns long, op_seq operations after its start and last in the collective last_ctx, last_number
 * (in_kind: it has not come out). from waits for it, for wait_ns, in the operation kind, ctx, number, with nwait - 1
 * others of this node; nwait 0: nobody here does. With ELSEWHERE process to last_number are from's. asked_plus1: the
 * answer to `look` for this rank. */
#define MU_F_hang(F)                                                                                                   \
    F(u64, job) F(u32, attempt) F(u32, level) F(u32, from) F(u32, nwait) F(u32, kind) F(u64, ctx) F(u64, number)       \
        F(u64, wait_ns) F(u32, what) F(u32, rank) F(u32, process) F(u64, still_ns) F(u64, op_seq) F(u32, in_kind)      \
            F(u64, last_ctx) F(u64, last_number) F(u32, asked_plus1)
/* A rank does not run where it was bound to; text says what was wanted and what is found. */
#define MU_F_misbound(F) F(u64, job) F(u32, attempt) F(u32, rank) F(str, text)
/* Between the drains of a job's nodes (runtime/keeper/peers.h): part of a save (id: a struct mu_ckpt_id) of a group of n
 * members with k parities, chunk bytes a chunk. kind: MU_SHARD_; from: the sender's place in the group. */
#define MU_F_shard(F)                                                                                                  \
    F(bytes, id) F(u64, nonce) F(u32, kind) F(u32, n) F(u32, k) F(u64, chunk) F(u32, from) F(u32, stripe) F(u32, row)    \
        F(u64, at) F(bytes, data)
/* Controller to keeper: whom does this rank of yours wait for? MU_ALL: who of yours has not called muster_init? */
#define MU_F_look(F) F(u64, job) F(u32, attempt) F(u32, rank)

/* What have the ranks of a running attempt called last? From a client by way of the controller, which says by whom it is
 * asked (a connection of its own), to the keepers; last: so many of each communicator. */
#define MU_F_flight(F) F(u64, job) F(u32, attempt) F(u32, last) F(u32, asker)
/* Up: what rank has (lines as in rank-R.flight); left: so many of its node follow. The controller adds node; before, it
 * has answered which nodes it asks, and the attempt. */
#define MU_F_flown(F)                                                                                                  \
    F(u64, job) F(u32, attempt) F(u32, asker) F(strv, nodes) F(str, node) F(u32, rank) F(u32, left) F(bytes, text)

/* What a job is; made by the client, kept in the store, handed to keepers. Application i (MPMD) has app_ranks[i] ranks,
 * app_argc[i] of argv, app_envc[i] of app_env on top of env, and works in app_wdir[i]. hosts: "name:slots,...", the
 * destinations as the user gave them, slots 0 for as many as the node has; this machine under its node name. engine and
 * engine_env: how agents are started on the others, and what of the submitter's environment that needs; ssh: the command
 * in place of ssh. nofile: the submitter's soft limit of open files. hang_ns_plus1: see mu_hang_ns. smt: ranks
 * get all hardware threads of their cores. slots: of a rank file, by rank, instead of bind and map. group: so many nodes
 * that follow one another talk most; 0, 1: no such groups. after: numbers of jobs that
 * must have completed before; hold: it is held from the beginning. baseline: only nodes that are as somebody has approved
 * them. */
#define MU_F_spec(F)                                                                                                   \
    F(str, name)                                                                                                       \
    F(str, user)                                                                                                       \
    F(u32, ranks)                                                                                                      \
    F(u32v, app_ranks)                                                                                                 \
    F(u32v, app_argc)                                                                                                  \
    F(strv, argv)                                                                                                      \
    F(u32v, app_envc)                                                                                                  \
    F(strv, app_env)                                                                                                   \
    F(strv, app_wdir)                                                                                                  \
    F(strv, env)                                                                                                       \
    F(u32, bind)                                                                                                       \
    F(str, map)                                                                                                        \
    F(u32, oversubscribe)                                                                                              \
    F(str, output)                                                                                                     \
    F(u32, tag_output)                                                                                                 \
    F(u64, timeout_ns)                                                                                                 \
    F(u32, restarts_plus1)                                                                                             \
    F(u32, on_failure)                                                                                                 \
    F(u32, min_ranks)                                                                                                  \
    F(u32, spares)                                                                                                     \
    F(u32, nodes)                                                                                                      \
    F(u32, ppn)                                                                                                        \
    F(str, ckpt_dir)                                                                                                   \
    F(str, ckpt_options) F(u32, foreground) F(u64, grace_ns) F(str, hosts) F(u32, umask_plus1) F(u32, input)           \
        F(str, ssh) F(str, engine) F(strv, engine_env) F(u64, nofile) F(u64, hang_ns_plus1) F(u32, smt) F(strv, slots) \
        F(u32, group) F(i32, priority) F(strv, after) F(u32, hold) F(u32, gpus) F(u64, memory) F(str, label)     \
        F(u32, baseline)

#define MU_F_jobrow(F)                                                                                                 \
    F(u64, id)                                                                                                         \
    F(str, token)                                                                                                      \
    F(bytes, spec)                                                                                                     \
    F(u32, state)                                                                                                      \
    F(str, reason)                                                                                                     \
    F(u32, attempt)                                                                                                    \
    F(u64, submitted_wall)                                                                                             \
    F(u64, started_wall)                                                                                               \
    F(u64, ended_wall)                                                                                                 \
    F(i32, exit_code)                                                                                                  \
    F(u32, fail_rank_plus1)                                                                                            \
    F(str, fail_node)                                                                                                  \
    F(i32, fail_status)                                                                                                \
    F(str, fail_text)                                                                                                  \
    F(bytes, fail_tail)                                                                                                \
    F(u64, fail_wall)                                                                                                  \
    F(u32, fail_attempt)                                                                                               \
    F(u32, failures)                                                                                                   \
    F(u32, noprogress)                                                                                                 \
    F(u32, startlost)                                                                                                  \
    F(u64, best_plus1)                                                                                                 \
    F(u64, step_plus1)                                                                                                 \
    F(u64, ckpt_plus1)                                                                                                 \
    F(u64, restored_plus1)                                                                                             \
    F(strv, nodes)                                                                                                     \
    F(u32v, node_ranks)                                                                                                \
    F(u32v, node_slots)                                                                                                \
    F(u32, ending)                                                                                                     \
    F(i32, ending_code)                                                                                                \
    F(str, name)                                                                                                       \
    F(str, user) F(u32, ranks) F(str, log_dir) F(u64, retry_wall) F(u32, joined) F(u64, best_ckpt_plus1)               \
        F(u64, first_step_wall) F(strv, spare_nodes) F(u32v, spare_slots) F(u64, lost_lines) F(u64, lost_before)       \
        F(u64, unseen_lines) F(u64, unseen_before) F(u32, lost_why) F(strv, lapsed_nodes) F(str, unread)               \
        F(u32, unread_ranks) F(u32, draining) F(str, placed) F(str, held) F(u32, place) F(u64, expected_wall)         \
        F(u64, waits_for)                                                                                              \
        F(u32, share_permille) F(i32, priority) F(u64, since_wall) F(u64, resumed_wall) F(u64, ran_ns)                 \
        F(u64, ckpt_wall) F(u32, requeues) F(u64, waited_ns) F(u64, rank_ns) F(u64, steps_done)                   \
        F(u32v, node_boots) F(u32, gpus) F(u64, stepping_ns) F(u32, mended) F(strv, used_nodes)                       \
        F(u32v, used_ns) F(u64, resumed_now) F(u64, resumed_boot) F(u64, stored_plus1) F(u32, skip)                   \
        F(u64, ops) F(u64, op_bytes) F(u64, saves) F(u64, save_ns) F(u64, save_last_ns) F(u64, ckpt_bytes)
/* since_wall: it waits again since then; resumed_wall: and runs again; ran_ns: before. 0: it never did. ckpt_wall: of
 * its newest checkpoint. waited_ns: all of its waiting, up to its newest start or its end; rank_ns: time of all ranks, and
 * steps_done: steps of all attempts, those that were lost again among them; up to the end of the one before.
 * node_boots: of each node as its start was sent, the lower half first; a node that has not been booted since has marks
 * of all that began there. gpus: of each rank. stepping_ns: of ran_ns, between first steps of attempts and their ends.
 * mended: attempts that followed a failure. used_nodes, used_ns: where rank_ns was used, lower halves first.
 * resumed_now, resumed_boot: resumed_wall by a clock that is not set, CLOCK_MONOTONIC of that boot of the controller's host.
 * skip: the store has lost attempts, so many at most: the next one's number is above them. ops to ckpt_bytes: as in
 * reports, of all attempts. */
/* place, expected_wall, waits_for, share_permille: of one that waits, as the policy said last: place in the order (1: the
 * first), when it starts at the latest, the job that it waits for, its user's fair share (1000: nothing used). */
/* clang-format on */

#define MU_MESSAGES(M)                                                                                                 \
    M(1, hello)                                                                                                        \
    M(2, welcome)                                                                                                      \
    M(3, error)                                                                                                        \
    M(10, submit)                                                                                                      \
    M(11, submitted)                                                                                                   \
    M(12, attach)                                                                                                      \
    M(13, state)                                                                                                       \
    M(14, output)                                                                                                      \
    M(15, output_ack)                                                                                                  \
    M(16, input)                                                                                                       \
    M(17, input_ack)                                                                                                   \
    M(18, signal)                                                                                                      \
    M(19, cancel)                                                                                                      \
    M(20, ended)                                                                                                       \
    M(21, query)                                                                                                       \
    M(22, reply)                                                                                                       \
    M(23, stop)                                                                                                        \
    M(24, nodes_add)                                                                                                   \
    M(25, nodes_remove)                                                                                                \
    M(26, nodes_resume)                                                                                                \
    M(27, hold)                                                                                                        \
    M(28, requeue)                                                                                                     \
    M(29, nodes_drain)                                                                                                 \
    M(30, agent)                                                                                                       \
    M(31, agent_ready)                                                                                                 \
    M(32, beat)                                                                                                        \
    M(33, lease)                                                                                                       \
    M(34, line)                                                                                                        \
    M(35, parent)                                                                                                      \
    M(36, relay)                                                                                                       \
    M(37, stay)                                                                                                        \
    M(38, nodes_check)                                                                                                 \
    M(39, approve)                                                                                                     \
    M(40, start)                                                                                                       \
    M(41, kill)                                                                                                        \
    M(42, release)                                                                                                     \
    M(43, stream)                                                                                                      \
    M(44, bye)                                                                                                         \
    M(45, fence)                                                                                                       \
    M(46, fenced)                                                                                                      \
    M(47, modex)                                                                                                       \
    M(48, abort)                                                                                                       \
    M(50, report)                                                                                                      \
    M(51, rank_exit)                                                                                                   \
    M(52, hang)                                                                                                        \
    M(53, look)                                                                                                        \
    M(54, misbound)                                                                                                    \
    M(55, shard)                                                                                                       \
    M(56, check)                                                                                                       \
    M(57, checked)                                                                                                     \
    M(58, vitals)                                                                                                      \
    M(59, gpus)                                                                                                        \
    M(60, spec)                                                                                                        \
    M(61, jobrow)                                                                                                      \
    M(62, mark)                                                                                                        \
    M(63, nodes_label)                                                                                                 \
    M(64, inventory)                                                                                                   \
    M(66, event)                                                                                                       \
    M(67, recall)                                                                                                      \
    M(68, recalled)                                                                                                    \
    M(69, withdraw)                                                                                                    \
    M(70, flight)                                                                                                      \
    M(71, flown)

#define MU_T_u32 uint32_t
#define MU_T_u64 uint64_t
#define MU_T_i32 int32_t
#define MU_T_str char *
#define MU_T_bytes struct mu_bytes
#define MU_T_strv char **
#define MU_T_u32v struct mu_u32v

#define MU_FIELD(type, name) MU_T_##type name;
#define MU_STRUCT(num, name)                                                                                           \
    struct mu_m_##name {                                                                                               \
        MU_F_##name(MU_FIELD)                                                                                          \
    };
MU_MESSAGES(MU_STRUCT)
#undef MU_STRUCT
#undef MU_FIELD

enum mu_msg_type {
#define MU_ENUM(num, name) MU_MSG_##name = num,
    MU_MESSAGES(MU_ENUM)
#undef MU_ENUM
};

struct mu_msg {
    enum mu_msg_type type;
    union {
#define MU_MEMBER(num, name) struct mu_m_##name name;
        MU_MESSAGES(MU_MEMBER)
#undef MU_MEMBER
    };
};

/* Appends one whole frame. ENOMEM; EARG when it would be longer than MU_FRAME_MAX. */
int mu_msg_encode(struct mu_buf *out, enum mu_msg_type type, const void *body);
/* A frame whose last field, which must be of bytes and is empty in body, is so long: all of it but that field's bytes,
 * which the caller puts behind it. */
int mu_msg_encode_head(struct mu_buf *out, enum mu_msg_type type, const void *body, size_t tail);
/* Length of the first whole frame in data, head included; 0: not all there yet; ECORRUPT: no frame can start so. */
int64_t mu_msg_frame(const void *data, size_t len);
/* Decodes one whole frame (mu_msg_frame told its length). On an error *out is untouched. */
int mu_msg_decode(const void *frame, size_t len, struct mu_msg *out, struct mu_err *err);
void mu_msg_free(struct mu_msg *);
/* The same, but fields of bytes lie in the frame, and end with it. */
int mu_msg_decode_lent(const void *frame, size_t len, struct mu_msg *out, struct mu_err *err);
void mu_msg_free_lent(struct mu_msg *);
/* Of a frame that comes in pieces: appends the next one. 1: have is the whole frame, to be taken out; 0: more must
 * come; ECORRUPT, ENOMEM: the stream is broken. */
int mu_msg_piece(struct mu_buf *have, const void *data, size_t len);
/* The same for a struct by itself. */
void mu_msg_free_body(enum mu_msg_type type, void *body);
const char *mu_msg_name(enum mu_msg_type); /* "?" for an unknown one */
/* Body as a blob (frame without its length word), and back: spec and row fields, the store. */
int mu_msg_pack(struct mu_bytes *out, enum mu_msg_type type, const void *body);
int mu_msg_unpack(const struct mu_bytes *blob, enum mu_msg_type want, void *body, struct mu_err *err);
/* Deep copy by encoding; dst owns what it gets. */
int mu_msg_copy(enum mu_msg_type type, void *dst, const void *src);
/* All types of the table, for tests: n-th, 0 at the end. */
enum mu_msg_type mu_msg_nth(unsigned n);
size_t mu_msg_size(enum mu_msg_type);

#define MU_AUTO_MSG __attribute__((cleanup(mu_msg_free)))

#endif
