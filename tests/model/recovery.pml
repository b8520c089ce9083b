/* Epochs and recovery as a spin model: a controller that crashes and starts again from its store, three nodes, one job
 * and the directory of its checkpoints. It follows the code step by step, so that a trace can be read beside the code:
 *
 *   here                   launcher/core/ctl*.c               here             runtime/
 *   after_step             the end of mu_ctl_step             dial             MU_EV_UP and tell_all in agent/core.c
 *   job_submit, schedule   mu_ctl_job_submit,                 on_start         the same in agent/core_ctl.c, keeper/core.c
 *                          mu_ctl_schedule                    on_kill          on_kill in keeper/core.c
 *   start_attempt          start_attempt                      on_release       mu_agent_on_ctl in agent/core_ctl.c
 *   job_report             mu_ctl_job_report                  begin            begin in keeper/core.c
 *   kill_parts             mu_ctl_kill_parts                  lease_is_over    lease_is_over in keeper/core.c
 *   decide                 decide                             all_ended        on_rank_end, on_cleaned in keeper/core.c
 *   job_finish, give_back  mu_ctl_job_finish, give_back,      keeper_cleaned   on_child, on_cleaned: agent/core_keeper.c
 *                          mu_ctl_job_release                 report, count    report, speak_for, tell_count
 *   place_again, leave     mu_ctl_place_again, replace,       tick             beats; on_echo, prolong in agent/core.c
 *                          leave                              refused          MU_EV_NOCTL
 *   place_spares           mu_ctl_place_spares                ckpt_take        settle in ckpt/owner.c
 *   node_joins             mu_ctl_node_joins,                 ckpt_open        the rest there; mu_ckpt_store_open
 *                          mu_ctl_job_node_ready              ckpt_fence       mu_ckpt_store_publish up to its fence,
 *   node_down, doubtful    mu_ctl_node_down, link_doubtful    ckpt_rename      and its rename
 *   line, line_down        mu_ctl_node_line, _line_down
 *   probed, nothing_on     on_probed, empty
 *   declare, part_is_lost  declare, mu_ctl_job_node_lost
 *   load                   on_load, mu_ctl_nodes_loaded
 *
 * What is simpler here:
 * - A step of a core is one atomic step. The controller may crash between any two actions of it (crash_point).
 * - `agent`, its reports and `agent_ready` are one message, `join`. Every agent reaches the controller by itself, not
 *   through the tree.
 * - Agent and keeper of a node are one process. That an agent dies is, for the others, a connection that is closed.
 *   When a keeper dies its ranks die with it, and the agent cleans away what they leave. No process hangs.
 * - STARTING and RUNNING are one phase, in which ranks may live, and a report that says no more than that is not sent.
 *   An attempt's reports only go forward, so the phase stands for their sequence number.
 * - Time is counted in leases. A lease lasts until the next tick; a connection is silent when a tick brought no beat;
 *   a node is given up two ticks after the controller heard of it last. No tick comes before a keeper whose lease is
 *   over has ended its ranks: that is what MU_LEASE_MARGIN_NS is for. Over a whole link every tick brings a beat and
 *   its echo, and so does a start. The clock stands still when nothing depends on it.
 * - `another` job of one slot stands for all others: it takes a slot that the pool says is free.
 * - Budgets of failures, quarantine, hosts of a job's own and smaller worlds are left out.
 *
 * What must hold is asserted: a slot is given once (after_step); an acknowledged job is in the store (load), where
 * neither its attempt nor its end goes back (put); an attempt is stored before its ranks live, starts once on a node,
 * and never lives together with another one (begin; with PARTS=1 it may, when it was cut off); a free slot is free on
 * the node, too (another, begin); a keeper lives until its job's end is stored (on_release); no epoch commits once a
 * newer one has opened the directory (ckpt_rename). Faults are counted, and they end: links heal (their connections
 * survive that, or not), hosts boot, the controller is started again. Then everything comes to rest, and there the job
 * is over and nothing is left of it (rest). That nothing goes on for ever instead is an LTL formula (ends); so the end
 * of a job rests on no assumption of fairness.
 *
 * Parameters:
 *   PARTS=2     attempts have two nodes and a spare; PARTS=1: one and a spare, and it lives on when it is cut off
 *   FAULTS=n    of any kinds: a link is cut, a host loses its power or shuts down, an agent or a keeper dies, a rank
 *               fails, the controller crashes
 *   LATES=n     messages `start` and `report` that come a second time, at any later moment
 *   LATE_JOINS  a join takes time, as the other messages do; otherwise it is read at once
 *   ONE_WAY     links break in one direction, too
 *   ANOTHER     the other job
 *   CKPT        rank 0 opens the directory and commits a checkpoint
 *   IN_ORDER    also: no attempt opens the directory after its successor. That does not hold: with PARTS=1 one that is
 *               cut off may have looked at OWNER before and write it after
 * Mistakes that can be planted, each to be found: tests/model/model.t lists them. */
#define N 3
#define NOBODY N
#ifndef PARTS
#define PARTS 2
#endif
#ifndef FAULTS
#define FAULTS 2
#endif
#ifndef LATES
#define LATES 0
#endif
#define CAP (5 + 2 * LATES) /* messages on their way; that it suffices is asserted */

mtype = {join, report_, count_, start, kill_, release}; /* messages */
mtype = {closed, quiet_, lost, line, line_down, submit, retry, loaded}; /* other events of the controller */

/* States of a job; J_RETRY: between two attempts, it waits for nodes. */
#define J_NONE 0
#define J_QUEUED 1
#define J_RUNNING 2
#define J_RETRY 3
#define J_OVER 4
#define works(s) (s == J_RUNNING || s == J_RETRY)
typedef jobrow {
    unsigned state : 3;
    unsigned attempt : 4;
    unsigned node0 : 2;
    unsigned node1 : 2;
    unsigned spare : 2
};

/* The store, and what else outlives the controller. */
jobrow stored;
unsigned other : 2 = NOBODY; /* node of the other job */
bool other_came, acked;
unsigned rows : 2;           /* made of the one submission */
unsigned faults : 3 = FAULTS;
unsigned lates : 2 = LATES;

/* The controller's memory: its job, whose parts are UP (below GONE), ... */
#define P_UP 0
#define P_OK 1
#define P_BAD 2
#define P_LOST 3
bool alive = true;
jobrow j;
unsigned phase0 : 2;
unsigned phase1 : 2;
bool fatal;                  /* a failure of this attempt is known: whatever lives is to be killed */
/* ... and its pool. */
#define N_AWAY 0
#define N_JOINING 1
#define N_UP 2
#define N_LOST 3
typedef mu_node {
    unsigned state : 2;
    unsigned used : 2;       /* slots; each node has one */
    unsigned quiet : 2;      /* ticks since it was heard of, or closed its connection */
    bool silent;
    bool stale;
    bool line_lost           /* of the part there */
};
mu_node pool[N];

/* A node: keeper and ranks, connection, directory of checkpoints. The phase is also what reports say. */
#define K_NONE 0
#define K_RUN 1    /* ranks live */
#define K_KILL 2   /* they are being killed: told to, */
#define K_KILL_F 3 /* because one of them failed, */
#define K_KILL_L 4 /* because the lease is over */
#define K_CLEAN 5  /* the keeper is dead, and its ranks with it; what else is left is cleaned away */
#define K_OK 6     /* gone: all of them ended well, */
#define K_BAD 7    /* or as above */
#define K_BAD_F 8
#define K_BAD_L 9
#define K_LOST 10  /* said by the agent: nothing is left of the attempt */
#define gone(k) (k >= K_OK)
#define W_NONE 0
#define W_TAKEN 1
#define W_OPENED 2
#define W_FENCED 3
#define W_DONE 4
typedef host_ {
    bool up;
    unsigned cut : 2;        /* 1: both ways, 2: nothing leaves it, 3: nothing reaches it */
    bool dialled;            /* the agent has a connection, */
    bool accepted;           /* the controller has it too, */
    bool joined;             /* and has read the join that came on it */
    bool bye;                /* that its connection is closed is on its way, */
    bool line_bye;           /* that the line of its keeper is, who is dead, */
    bool line_hello;         /* that there is one of its new keeper */
    bool lease;              /* not over */
    unsigned phase : 4;
    unsigned attempt : 4;
    unsigned next : 4;       /* start that waits for the end of the attempt before */
    unsigned id : 1;         /* number of the part */
    bool released;
    bool finished;           /* the attempt's other ranks have ended well */
    unsigned done : 4;       /* attempt of the keeper that was released last */
    unsigned started : 4;    /* newest attempt whose ranks have lived here */
    unsigned writer : 3
};
host_ host[N];
#define live(n) (host[n].phase >= K_RUN && host[n].phase <= K_KILL_L)

unsigned epoch : 2 = NOBODY; /* EPOCH tells of that node's rank 0; NOBODY: of none that lives */
unsigned owner : 4;          /* attempt in OWNER; 0: given back */
unsigned lock : 2 = NOBODY;
#ifdef IN_ORDER
unsigned opened : 4;         /* newest attempt that has opened the directory */
#endif
bool renaming, overtaken;    /* a rename that its rank did not live to see; somebody has opened the directory since */

/* What is on its way is lost with its connection. */
chan to_ctl[N] = [CAP] of {mtype, byte, byte};   /* phase, attempt */
chan to_agent[N] = [CAP] of {mtype, byte, byte}; /* attempt, number of the part */
mtype late_type;                                 /* a message that comes again */
byte late_to, late_a, late_b;

unsigned crash_at : 3;       /* the controller crashes at that point of its step; 0: it does not */
byte q, i, was;              /* of one step; between two steps they are 0 */
bool complete, moved, news;

inline pick(ok0, ok1, ok2) { /* n: one of those of which it holds */
    if
    :: ok0 -> n = 0
    :: ok1 -> n = 1
    :: ok2 -> n = 2
    fi
}

inline flush(c) {
    do
    :: nempty(c) -> c?_,_,_
    :: empty(c) -> break
    od
}

/* --- controller ------------------------------------------------------------------------------------------------- */

/* What a step does after a crash has no effect: connections and store are out of reach, the memory is wiped when the
 * step ends. */
inline crash() {
    alive = false;
    for (i : 0 .. N - 1) {
        host[i].joined = false; host[i].accepted = false;
        host[i].bye = false; host[i].line_bye = false; host[i].line_hello = false
    }
    printf("the controller crashes\n")
}

inline crash_point() {
    if
    :: crash_at == 1 -> crash_at = 0; faults--; crash()
    :: crash_at > 1 -> crash_at--
    :: else
    fi
}

inline choose_crash() {
    if
    :: skip
    :: faults > 0 -> crash_at = 1
    :: faults > 0 -> crash_at = 2
    :: faults > 0 -> crash_at = 3
    :: faults > 0 -> crash_at = 4
    fi
}

inline wipe() {
    for (i : 0 .. N - 1) {
        pool[i].state = N_LOST; pool[i].used = 0; pool[i].quiet = 0;
        pool[i].silent = false; pool[i].stale = false; pool[i].line_lost = false;
        flush(to_ctl[i])
    }
    j.state = J_NONE; j.attempt = 0; j.node0 = NOBODY; j.node1 = NOBODY; j.spare = NOBODY;
    phase0 = P_UP; phase1 = P_UP; fatal = false
}

inline put() {
    if
    :: alive ->
        assert(j.attempt >= stored.attempt && (j.state == J_OVER || stored.state != J_OVER));
        stored.state = j.state; stored.attempt = j.attempt;
        stored.node0 = j.node0; stored.node1 = j.node1; stored.spare = j.spare
    :: else
    fi
}

inline send(to, msg, arg1, arg2) {
    if
    :: host[to].joined && host[to].dialled ->
        assert(nfull(to_agent[to]));
        to_agent[to]!msg,arg1,arg2;
        crash_point()
    :: else
    fi
}

#if PARTS == 2
#define all_gone (phase0 != P_UP && phase1 != P_UP)
#define all_ok (phase0 == P_OK && phase1 == P_OK)
#define in_use(n) (j.node0 == n || j.node1 == n)
#define part_of(n) (!works(j.state) -> PARTS : (j.node0 == n -> 0 : (j.node1 == n -> 1 : PARTS)))
#define phase_of(part) (part -> phase1 : phase0)
inline set_phase(part, value) {
    if
    :: part == 0 -> phase0 = value
    :: else -> phase1 = value
    fi
}
#else
#define all_gone (phase0 != P_UP)
#define all_ok (phase0 == P_OK)
#define in_use(n) (j.node0 == n)
#define part_of(n) (works(j.state) && j.node0 == n -> 0 : PARTS)
#define phase_of(part) phase0
inline set_phase(part, value) { phase0 = value }
#endif
#ifdef STALE_IGNORED
#define usable(n) (pool[n].state == N_UP)
#else
#define usable(n) (pool[n].state == N_UP && !pool[n].stale)
#endif
#define free_node(n) (usable(n) && pool[n].used == 0)
#define spare_serves (j.spare != NOBODY && usable(j.spare) && !in_use(j.spare))
#define other_serves(n) (free_node(n) && !in_use(n))

inline start_attempt() {
    j.attempt++;
    assert(j.attempt < 15);
    j.state = J_RUNNING;
    phase0 = P_UP; phase1 = P_UP; fatal = false;
    pool[0].line_lost = false; pool[1].line_lost = false; pool[2].line_lost = false;
#if PARTS == 2
    printf("the controller starts attempt %d on nodes %d and %d\n", j.attempt, j.node0, j.node1);
#else
    printf("the controller starts attempt %d on node %d\n", j.attempt, j.node0);
#endif
#ifndef ATTEMPT_NOT_STORED
    put();
    crash_point();
#endif
    send(j.node0, start, j.attempt, 0);
#if PARTS == 2
    send(j.node1, start, j.attempt, 1);
#endif
#ifdef ATTEMPT_NOT_STORED
    put()
#endif
}

inline leave(n) {
    pool[n].used--;
    pool[n].stale = host[n].joined;
    send(n, release, 0, 0)
}

/* One part of place_again. */
inline place_part(where) {
    was = where;
    if
    :: pool[was].state == N_UP
    :: pool[was].state == N_LOST && spare_serves ->
        leave(was);
        where = j.spare; /* and its slot with it */
#ifndef SPARE_TWICE
        j.spare = NOBODY;
#endif
        moved = true
    :: pool[was].state == N_LOST && !spare_serves && (other_serves(0) || other_serves(1) || other_serves(2)) ->
        q = (other_serves(0) -> 0 : (other_serves(1) -> 1 : 2));
        leave(was);
        where = q;
        pool[q].used++;
        moved = true
    :: else -> complete = false
    fi
}

inline place_again() {
    complete = true;
    moved = false;
    place_part(j.node0);
#if PARTS == 2
    place_part(j.node1);
#endif
    if
    :: complete -> start_attempt()
    :: else ->
        j.state = J_RETRY;
        if
        :: moved -> put(); crash_point()
        :: else
        fi
    fi
}

inline give_back(where) {
    if
    :: where != NOBODY -> pool[where].used--; where = NOBODY
    :: else
    fi
}

inline release_all() {
    send(j.node0, release, 0, 0);
#if PARTS == 2
    send(j.node1, release, 0, 0)
#endif
}

inline job_finish() {
    j.state = J_OVER;
#ifdef RELEASE_EARLY
    release_all();
#endif
    put();
    crash_point();
    release_all();
#ifdef SLOT_FREED_TWICE
    pool[j.node0].used--;
#endif
    give_back(j.node0);
    give_back(j.node1);
    give_back(j.spare);
    phase0 = P_UP; phase1 = P_UP; fatal = false;
    if
    :: alive -> printf("the job is over\n")
    :: else
    fi
}

inline decide() {
    if
    :: all_ok -> job_finish()
    :: else -> place_again()
    fi
}

#ifdef RESTART_BEFORE_GONE
#define may_decide (phase0 != P_UP || PARTS == 2 && phase1 != P_UP)
#else
#define may_decide all_gone
#endif

inline kill_parts() {
    fatal = true;
    if
    :: phase0 == P_UP -> send(j.node0, kill_, j.attempt, 0)
    :: else
    fi;
#if PARTS == 2
    if
    :: phase1 == P_UP -> send(j.node1, kill_, j.attempt, 0)
    :: else
    fi
#endif
}

#ifdef EPOCH_UNCHECKED
#define other_attempt(e) false
#else
#define other_attempt(e) (e != j.attempt)
#endif
#define says_failure(what) \
    (what == K_KILL_F || what == K_KILL_L || what == K_BAD_F || what == K_BAD_L || what == K_LOST)

inline job_report(n, what, e) {
    q = part_of(n);
    if
    :: q == PARTS ->
        pool[n].stale = true;
        send(n, release, 0, 0)
    :: else ->
        if
        :: e > j.attempt -> j.attempt = e; put() /* a predecessor could not store it */
        :: else
        fi;
        if
        :: other_attempt(e) ->
            if
            :: !gone(what) -> send(n, kill_, e, 0)
            :: else
            fi
        :: !other_attempt(e) && phase_of(q) != P_UP
        :: else ->
            pool[n].line_lost = false;
            if
            :: gone(what) -> set_phase(q, (what == K_OK -> P_OK : (what == K_LOST -> P_LOST : P_BAD))); news = true
            :: else
            fi;
            if
            :: !fatal && says_failure(what) -> kill_parts()
#ifndef KILLED_ONCE
            :: fatal && pool[n].state == N_JOINING && !gone(what) -> send(n, kill_, j.attempt, 0) /* kill_again */
#endif
            :: else
            fi
        fi
    fi
}

inline part_is_lost(n) {
    set_phase(part_of(n), P_LOST);
    if
    :: j.state == J_RUNNING -> kill_parts(); news = true
    :: else
    fi
}

inline node_joins(n, what, e) {
    printf("node %d joins\n", n);
    pool[n].state = N_JOINING;
    pool[n].silent = false;
    pool[n].stale = false;
    pool[n].quiet = 0;
    host[n].joined = true;
    host[n].bye = false;
    host[n].lease = true; /* the agent reckons it from when it sent the join: no later than now */
    if
    :: what != K_NONE -> job_report(n, what, e)
    :: else
    fi;
    pool[n].state = N_UP;
    q = part_of(n);
    if
#ifndef SILENCE_BELIEVED
    :: q != PARTS && !(what != K_NONE && e == j.attempt) && (j.state == J_RETRY || phase_of(q) == P_UP) ->
        part_is_lost(n) /* node_ready: what the agent has not told of is lost */
#endif
    :: else
    fi
}

inline node_down(n) {
    pool[n].state = N_AWAY;
    host[n].bye = false;
    if
    :: host[n].joined -> host[n].joined = false; host[n].accepted = false; flush(to_ctl[n])
    :: else
    fi
}

#define hears(n) (pool[n].state == N_UP && host[n].joined && pool[n].quiet == 0)
#define fallen(n) (pool[n].state == N_AWAY && pool[n].silent)
#define doubtful (!hears(0) && !hears(1) && !hears(2) && fallen(0) + fallen(1) + fallen(2) > 1)

/* The host does not answer, and its keeper was heard to die. */
#ifdef LINES_IGNORED
#define nothing_on(n) true
#else
#define nothing_on(n) (pool[n].line_lost)
#endif
#define probed(n) (pool[n].state == N_AWAY && !pool[n].silent && !(host[n].up && host[n].cut == 0) && \
    part_of(n) != PARTS && phase_of(part_of(n)) == P_UP && nothing_on(n))

inline declare(n) {
    printf("node %d is given up\n", n);
    pool[n].state = N_LOST;
    pool[n].quiet = 0;
    q = part_of(n);
    if
    :: q != PARTS && phase_of(q) == P_UP -> part_is_lost(n)
    :: else
    fi
}

inline place_spares() {
    moved = false;
    if
    :: works(j.state) && j.spare != NOBODY && pool[j.spare].state == N_LOST -> give_back(j.spare); moved = true
    :: else
    fi;
    if
    :: works(j.state) && j.spare == NOBODY && (other_serves(0) || other_serves(1) || other_serves(2)) ->
        q = (other_serves(0) -> 0 : (other_serves(1) -> 1 : 2));
        j.spare = q;
        pool[q].used++;
        moved = true
    :: else
    fi;
    if
    :: moved -> put()
    :: else
    fi
}

inline schedule() {
    place_spares();
    if
    :: j.state == J_QUEUED && free_node(0) + free_node(1) + free_node(2) > PARTS ->
        for (i : 0 .. N - 1) {
            if
            :: free_node(i) && j.node0 == NOBODY -> j.node0 = i; pool[i].used++
#if PARTS == 2
            :: free_node(i) && j.node0 != NOBODY && j.node1 == NOBODY -> j.node1 = i; pool[i].used++
            :: free_node(i) && j.node1 != NOBODY -> j.spare = i; pool[i].used++
#else
            :: free_node(i) && j.node0 != NOBODY && j.spare == NOBODY -> j.spare = i; pool[i].used++
#endif
            :: else
            fi
        }
        start_attempt()
    :: else
    fi
}

#define holders(n) ((j.node0 == n) + (j.node1 == n) + (j.spare == n) + (other == n))

inline after_step() { /* ends every step of the controller */
    if
    :: alive && news && may_decide -> decide()
    :: else
    fi;
    if
    :: alive -> schedule()
    :: else
    fi;
    if
    :: alive -> /* no slot is given twice, none is forgotten */
        assert(pool[0].used <= 1 && pool[1].used <= 1 && pool[2].used <= 1);
        assert(pool[0].used == holders(0) && pool[1].used == holders(1) && pool[2].used == holders(2))
    :: else -> wipe()
    fi;
    crash_at = 0; q = 0; i = 0; was = 0; complete = false; moved = false; news = false
}

inline load_node(where) {
    if
    :: where != NOBODY ->
        pool[where].used++;
        pool[where].state = N_AWAY;
#ifdef NO_GRACE
        pool[where].quiet = 2
#endif
    :: else
    fi
}

inline load() {
    printf("the controller starts\n");
    assert(!acked || stored.state != J_NONE); /* an acknowledged job is never lost */
    alive = true;
    j.state = stored.state; j.attempt = stored.attempt;
    if
    :: works(stored.state) ->
        j.node0 = stored.node0; j.node1 = stored.node1; j.spare = stored.spare;
        load_node(j.node0); load_node(j.node1); load_node(j.spare)
    :: else
    fi;
    if
    :: other != NOBODY -> pool[other].used++
    :: else
    fi
}

inline job_submit() {
    if
#ifndef TOKEN_IGNORED
    :: j.state != J_NONE /* known by its token: only the answer was lost */
#endif
    :: else ->
        j.state = J_QUEUED;
        rows++;
        assert(rows <= 1);
#ifdef ACK_BEFORE_COMMIT
        acked = true;
        crash_point();
#endif
        put();
        crash_point()
    fi;
#ifndef NEVER_ANSWERED
    acked = acked || alive
#endif
}

#if defined(REPLACED_EARLY)
#define LOST_AFTER 0
#elif defined(NO_MARGIN)
#define LOST_AFTER 1
#else
#define LOST_AFTER 2
#endif
#define reaches_ctl(n) (host[n].up && (host[n].cut == 0 || host[n].cut == 3))
#define reaches_agent(n) (host[n].up && (host[n].cut == 0 || host[n].cut == 2))
#define whole(n) (alive && host[n].joined && host[n].cut == 0)
/* MU_EV_NOCTL: the agent has read all there was, has no connection, and is refused another one. */
#ifdef REFUSED_EARLY
#define refused(n) (!alive && host[n].up && host[n].cut == 0)
#else
#define refused(n) (!alive && host[n].up && host[n].cut == 0 && (!host[n].dialled || len(to_agent[n]) == 0))
#endif
#define heard(n) (alive && reaches_ctl(n) && nempty(to_ctl[n]) && (host[n].accepted || pool[n].state == N_UP))

inline hang_up(n) {
    host[n].dialled = false; host[n].accepted = false; host[n].joined = false;
    flush(to_agent[n])
}

/* The agent finds that the controller has closed the connection, and makes another one. */
#define may_dial(n) (alive && host[n].up && host[n].cut == 0 && !host[n].accepted && host[n].phase != K_CLEAN)
inline dial(n) {
    hang_up(n);
    flush(to_ctl[n]);
    host[n].dialled = true;
    host[n].accepted = true;
    host[n].done = 0;
#ifdef KNOWN_EARLY
    host[n].lease = true;
#endif
    if
    :: late_type == start && late_to == n -> late_type = 0; late_to = 0; late_a = 0; late_b = 0
    :: else
    fi
}

#define comes_again(what, n) (LATES > 0 && late_type == what && late_to == n)
#define may_copy (LATES > 0 && lates > 0 && late_type == 0)
inline copy_late() {
    lates--; late_type = type; late_to = n; late_a = a; late_b = b;
    type = 0; a = 0; b = 0
}
inline take_late() {
    type = late_type; a = late_a; b = late_b;
    late_type = 0; late_to = 0; late_a = 0; late_b = 0
}

/* The controller, as far as one node is concerned. */
proctype link(byte n) {
    byte a, b;
    mtype type;
end:
    do
    :: atomic {
        if
        :: heard(n) -> to_ctl[n]?type,a,b
        :: alive && pool[n].state == N_UP && reaches_ctl(n) && comes_again(report_, n) -> d_step { take_late() }
#ifndef LATE_JOINS
        :: may_dial(n) -> d_step { dial(n); type = join; a = host[n].phase; b = host[n].attempt }
#endif
        :: alive && pool[n].state == N_UP && !host[n].joined && (host[n].bye || host[n].up && host[n].cut == 0) ->
            type = closed
        :: alive && pool[n].state == N_UP && pool[n].quiet > 0 -> type = quiet_
        :: alive && pool[n].state == N_AWAY && pool[n].quiet >= LOST_AFTER && !(pool[n].silent && doubtful) ->
            type = lost
        :: alive && probed(n) -> type = lost
        :: alive && host[n].line_bye -> type = line_down
        :: alive && host[n].line_hello && reaches_ctl(n) -> type = line
        fi;
        choose_crash();
        d_step {
            if
            :: type == join -> node_joins(n, a, b)
            :: type == report_ -> job_report(n, a, b)
            :: type == count_ -> pool[n].stale = false
            :: type == closed -> node_down(n); pool[n].quiet = 0
            :: type == quiet_ -> node_down(n); pool[n].silent = true; printf("node %d is silent\n", n)
            :: type == lost -> declare(n)
            :: type == line_down -> host[n].line_bye = false; pool[n].line_lost = part_of(n) != PARTS
            :: type == line -> host[n].line_hello = false; pool[n].line_lost = false
            fi;
            after_step();
            type = 0; a = 0; b = 0
        }
       }
    :: atomic { may_copy && to_ctl[n]?[report_,_,_] -> d_step { to_ctl[n]?<type,a,b>; copy_late() } }
    od
}

#define placeable(node) (node == NOBODY || pool[node].state == N_UP || \
    pool[node].state == N_LOST && (spare_serves || other_serves(0) || other_serves(1) || other_serves(2)))

proctype controller() {
    mtype type;
end:
    do
    :: atomic {
        if
        :: alive && !acked -> type = submit
        :: alive && j.state == J_RETRY && placeable(j.node0) && placeable(j.node1) -> type = retry
        :: !alive -> type = loaded
        fi;
        choose_crash();
        d_step {
            if
            :: type == submit -> job_submit()
            :: type == retry -> place_again()
            :: type == loaded -> load()
            fi;
            after_step();
            type = 0
        }
       }
    od
}

#ifdef ANOTHER
#define may_come(n) (alive && !other_came && works(j.state) && free_node(n))
proctype another() {
    byte n;
end:
    do
    :: atomic {
        pick(may_come(0), may_come(1), may_come(2));
        d_step {
            other_came = true;
            other = n;
            pool[n].used++;
            assert(!live(n) && host[n].phase != K_CLEAN); /* a slot that is free is free on the node, too */
            n = 0
        }
       }
    :: atomic { alive && other != NOBODY -> d_step { pool[other].used--; other = NOBODY } }
    od
}
#endif

/* --- agent and keeper ------------------------------------------------------------------------------------------- */

inline report(n) {
    if
    :: host[n].dialled -> assert(nfull(to_ctl[n])); to_ctl[n]!report_,host[n].phase,host[n].attempt
    :: else
    fi
}

inline count(n) { /* tell_count */
    if
    :: host[n].dialled -> assert(nfull(to_ctl[n])); to_ctl[n]!count_,0,0
    :: else
    fi
}

/* Its rank 0 is dead. A rename may still be with the file system, and LOCK with it. */
inline writer_dies(n) {
#ifdef CKPT
    if
    :: host[n].writer == W_FENCED -> renaming = true; overtaken = false
    :: else
    fi;
    if
    :: epoch == n -> epoch = NOBODY
    :: else
    fi;
    if
    :: host[n].phase == K_RUN && host[n].writer >= W_OPENED && owner == host[n].attempt -> owner = 0
    :: else
    fi;
    host[n].writer = W_NONE
#else
    skip
#endif
}

inline forget(n) { /* the entry of a job that is released */
    host[n].done = host[n].attempt;
    host[n].phase = K_NONE; host[n].attempt = 0; host[n].next = 0; host[n].id = 0; host[n].released = false;
    host[n].finished = false
}

#if PARTS > 1 && !defined(LEASE_IGNORED)
#define lease_over(n) (!host[n].lease)
#else
#define lease_over(n) false
#endif

inline begin(n, e) {
    host[n].line_hello = alive && (host[n].line_bye || pool[n].line_lost); /* its keeper is new; else it is no news */
    host[n].attempt = e;
    host[n].next = 0;
    host[n].released = false;
    host[n].finished = false;
    if
    :: lease_over(n) -> host[n].phase = K_BAD_L; report(n) /* a start that came late */
    :: else ->
        printf("node %d: ranks of attempt %d\n", n, host[n].attempt);
        host[n].phase = K_RUN;
        assert(stored.state != J_NONE && stored.attempt >= host[n].attempt);
#if LATES > 0
        assert(host[n].attempt > host[n].started); /* no attempt starts twice */
        host[n].started = host[n].attempt;
#endif
        assert(other != n);
#if PARTS > 1
        /* ranks of two attempts never live at once */
        assert(!live(0) || host[0].attempt == host[n].attempt);
        assert(!live(1) || host[1].attempt == host[n].attempt);
        assert(!live(2) || host[2].attempt == host[n].attempt)
#endif
    fi
}

#ifdef AGENT_FORGETS
#define newer(e, n) true
#else
#define newer(e, n) (e > host[n].attempt && e > host[n].next && e > host[n].done)
#endif

inline on_start(n, e, part) {
    if
    :: !newer(e, n) ->
        if
        :: host[n].phase != K_NONE -> report(n)
        :: else
        fi
    :: else ->
#ifdef CKPT
        host[n].id = part;
#endif
        if
        :: host[n].phase == K_NONE || gone(host[n].phase) && !host[n].released -> begin(n, e)
        :: else ->
            host[n].next = e;
            if
            :: host[n].phase == K_RUN -> host[n].phase = K_KILL
            :: else
            fi
        fi
    fi
}

inline on_kill(n, e) {
    if
    :: host[n].phase != K_NONE && e >= host[n].attempt && !(host[n].released && host[n].next) ->
        printf("node %d is told to kill attempt %d\n", n, e);
        if
        :: host[n].next <= e -> host[n].next = 0
        :: else
        fi;
        if
        :: host[n].phase == K_RUN -> host[n].phase = K_KILL
        :: else
        fi
    :: else
    fi
}

inline on_release(n) {
    /* a keeper lives until its job's end is stored, or it has no part of the job any more */
    assert(host[n].phase == K_NONE || stored.state == J_OVER || stored.node0 != n && stored.node1 != n);
    if
    :: host[n].phase == K_NONE -> count(n)
    :: gone(host[n].phase) -> forget(n); count(n)
    :: else ->
        host[n].released = true;
        host[n].next = 0;
        if
        :: host[n].phase == K_RUN -> host[n].phase = K_KILL
        :: else
        fi
    fi
}

/* Ranks end well when those of the other part do, or have; without them they wait for ever. */
#define runs_too(m, n) (m != n && host[m].phase == K_RUN && host[m].attempt == host[n].attempt)
#define ends_well(n) (host[n].phase == K_RUN && \
    (PARTS == 1 || host[n].finished || runs_too(0, n) || runs_too(1, n) || runs_too(2, n)))

/* The ranks are dead and cleaned away. */
inline all_ended(n) {
    writer_dies(n);
    if
    :: host[n].next > 0 -> q = host[n].next; begin(n, q)
    :: host[n].next == 0 && host[n].released -> forget(n); count(n)
    :: else ->
        for (i : 0 .. N - 1) { host[i].finished = host[i].finished || host[n].phase == K_RUN && runs_too(i, n) }
        host[n].finished = false;
        printf("node %d: nothing of attempt %d is left\n", n, host[n].attempt);
        host[n].phase = (host[n].phase == K_RUN -> K_OK : (host[n].phase == K_KILL -> K_BAD :
            (host[n].phase == K_KILL_F -> K_BAD_F : K_BAD_L)));
        report(n)
    fi
}

/* What a dead keeper has left is cleaned away. */
inline keeper_cleaned(n) {
    writer_dies(n);
    if
    :: host[n].released && host[n].next > 0 -> q = host[n].next; begin(n, q)
    :: host[n].released && host[n].next == 0 -> forget(n); count(n)
    :: else ->
        host[n].attempt = (host[n].next > 0 -> host[n].next : host[n].attempt);
        host[n].next = 0;
        host[n].phase = K_LOST;
        host[n].finished = false;
        report(n)
    fi
}

/* MUSTER_EEPOCH: the program ends. */
inline give_up(n) {
    printf("node %d: attempt %d is refused\n", n, host[n].attempt);
    host[n].writer = W_DONE;
    if
    :: host[n].phase == K_RUN -> host[n].phase = K_KILL_F; report(n)
    :: else
    fi
}

proctype agent(byte n) {
    byte a, b;
    mtype type;
end:
    do
#ifdef LATE_JOINS
    :: atomic { may_dial(n) -> d_step { dial(n); to_ctl[n]!join,host[n].phase,host[n].attempt } }
#endif
    :: atomic {
        if
        :: host[n].dialled && reaches_agent(n) && nempty(to_agent[n]) -> to_agent[n]?type,a,b
        :: host[n].dialled && reaches_agent(n) && comes_again(start, n) -> d_step { take_late() }
        fi;
        d_step {
            if
            :: type == start ->
                if
                :: whole(n) -> host[n].lease = true; pool[n].quiet = 0
                :: else
                fi;
                on_start(n, a, b)
            :: type == kill_ -> on_kill(n, a)
            :: type == release -> on_release(n)
            fi;
            type = 0; a = 0; b = 0
        }
       }
    :: atomic { may_copy && to_agent[n]?[start,_,_] -> d_step { to_agent[n]?<type,a,b>; copy_late() } }
    :: atomic { /* lease_is_over */
        host[n].phase == K_RUN && lease_over(n) ->
        d_step {
            printf("node %d: the lease is over\n", n);
            host[n].phase = K_KILL_L;
            host[n].next = 0;
            report(n)
        }
       }
    :: atomic {
        ends_well(n) || host[n].phase >= K_KILL && host[n].phase <= K_KILL_L ->
        d_step { all_ended(n); q = 0; i = 0 }
       }
    :: atomic { host[n].phase == K_CLEAN -> d_step { keeper_cleaned(n); q = 0 } }
#ifdef CKPT
    :: atomic { /* ckpt_take: OWNER is looked at */
        live(n) && host[n].id == 0 && host[n].writer == W_NONE ->
        d_step {
            if
            :: owner > host[n].attempt -> give_up(n) /* a newer attempt has it */
            :: else -> host[n].writer = W_TAKEN
            fi
        }
       }
    :: atomic { /* ckpt_open: OWNER is written; then, all of it under LOCK, EPOCH */
        live(n) && host[n].writer == W_TAKEN && lock == NOBODY ->
        d_step {
            printf("node %d: attempt %d opens the directory\n", n, host[n].attempt);
#ifdef IN_ORDER
            assert(host[n].attempt > opened);
            opened = host[n].attempt;
#endif
            owner = host[n].attempt;
            epoch = n;
            overtaken = renaming;
            host[n].writer = W_OPENED
        }
       }
    :: atomic { /* ckpt_fence: the generation is complete; LOCK, then a look at EPOCH */
        live(n) && host[n].writer == W_OPENED && lock == NOBODY ->
        d_step {
            if
#ifndef COMMIT_UNFENCED
            :: epoch != n -> give_up(n)
#endif
            :: else ->
                host[n].writer = W_FENCED;
#ifndef COMMIT_UNLOCKED
                lock = n
#endif
            fi
        }
       }
    :: atomic { /* ckpt_rename: it is visible; nobody has opened the directory since */
        live(n) && host[n].writer == W_FENCED ->
        d_step {
            printf("node %d: attempt %d commits\n", n, host[n].attempt);
            assert(epoch == n);
            host[n].writer = W_DONE;
            lock = NOBODY
        }
       }
#endif
    od
}

/* --- network, time, faults -------------------------------------------------------------------------------------- */

#define awaited(n) (alive && (pool[n].state == N_UP || pool[n].state == N_AWAY))
#define changes(n) (whole(n) && (!host[n].lease || pool[n].quiet > 0) || refused(n) && !host[n].lease || \
    !whole(n) && !refused(n) && (host[n].lease || awaited(n) && pool[n].quiet < 2))
#define urgent(n) (lease_over(n) && live(n))

proctype clock() {
end:
    do
    :: atomic { /* tick */
        !urgent(0) && !urgent(1) && !urgent(2) && (changes(0) || changes(1) || changes(2)) ->
        d_step {
            for (i : 0 .. N - 1) {
                if
                :: whole(i) -> host[i].lease = true; pool[i].quiet = 0
                :: refused(i) -> host[i].lease = true
                :: !whole(i) && awaited(i) && pool[i].quiet < 2 -> host[i].lease = false; pool[i].quiet++
                :: else -> host[i].lease = false
                fi
            }
            i = 0
        }
       }
    od
}

/* What ends by itself. */
#define loses(n) (host[n].cut > 0 && host[n].dialled)
proctype world() {
    byte n;
end:
    do
    :: atomic {
        pick(host[0].cut > 0, host[1].cut > 0, host[2].cut > 0);
        d_step { host[n].cut = 0; printf("node %d is reached again\n", n); n = 0 }
       }
    :: atomic {
        pick(loses(0), loses(1), loses(2));
        d_step { host[n].cut = 0; hang_up(n); printf("node %d is reached again, its connection is lost\n", n); n = 0 }
       }
    :: atomic {
        pick(!host[0].up, !host[1].up, !host[2].up);
        d_step { host[n].up = true; printf("host %d boots\n", n); n = 0 }
       }
#ifdef CKPT
    :: atomic { renaming -> d_step { assert(!overtaken); renaming = false; lock = NOBODY } }
    :: atomic { renaming -> d_step { renaming = false; overtaken = false; lock = NOBODY } } /* it never got there */
#endif
    od
}

/* When the job is over and nothing is left of it, faults are of no interest. */
#define matters \
    (stored.state != J_OVER || host[0].phase != K_NONE || host[1].phase != K_NONE || host[2].phase != K_NONE)
#define may_cut(n) (faults > 0 && matters && acked && host[n].up && host[n].cut == 0)
#define may_die(n) (faults > 0 && matters && acked && host[n].up)
#define may_leave(n) (faults > 0 && matters && acked && host[n].dialled)
#define may_kill(n) (faults > 0 && matters && live(n))
#define may_fail(n) (faults > 0 && matters && host[n].phase == K_RUN)

inline keeper_dies(n) {
    host[n].line_bye = (alive && host[n].cut == 0 && part_of(n) != PARTS);
    host[n].line_hello = false
}

proctype fault() {
    byte n;
end:
    do
    :: atomic { faults > 0 && matters && acked && alive -> d_step { faults--; crash(); wipe(); i = 0 } }
    :: atomic {
        pick(may_cut(0), may_cut(1), may_cut(2));
        faults--;
        printf("node %d is cut off\n", n);
        if
        :: host[n].cut = 1
#ifdef ONE_WAY
        :: host[n].cut = 2
        :: host[n].cut = 3
#endif
        fi;
        n = 0
       }
    :: atomic { /* it loses its power, or its processes are ended first */
        pick(may_die(0), may_die(1), may_die(2));
        faults--;
        if
        :: printf("host %d loses its power\n", n)
        :: live(n) ->
            d_step {
                printf("host %d shuts down\n", n);
                keeper_dies(n);
                host[n].bye = (alive && host[n].cut == 0)
            }
        fi;
        d_step {
            writer_dies(n);
            hang_up(n);
            flush(to_ctl[n]);
            forget(n);
            host[n].up = false; host[n].cut = 0; host[n].lease = false; host[n].line_hello = false;
            host[n].done = 0; host[n].started = 0;
            n = 0
        }
       }
    :: atomic {
        pick(may_kill(0), may_kill(1), may_kill(2));
        d_step {
            faults--;
            printf("the keeper on node %d dies\n", n);
            keeper_dies(n);
            host[n].phase = K_CLEAN;
            n = 0
        }
       }
    :: atomic {
        pick(may_leave(0), may_leave(1), may_leave(2));
        d_step {
            faults--;
            printf("the agent on node %d dies\n", n);
            hang_up(n);
            host[n].bye = (alive && host[n].cut == 0);
            n = 0
        }
       }
    :: atomic {
        pick(may_fail(0), may_fail(1), may_fail(2));
        d_step { faults--; host[n].phase = K_KILL_F; printf("a rank on node %d fails\n", n); report(n); n = 0 }
       }
    od
}

/* When nothing can happen any more. */
proctype rest() {
end:
    timeout ->
    assert(stored.state == J_OVER);
    assert(host[0].phase == K_NONE && host[1].phase == K_NONE && host[2].phase == K_NONE);
    assert(pool[0].used == 0 && pool[1].used == 0 && pool[2].used == 0);
    assert(!pool[0].stale && !pool[1].stale && !pool[2].stale)
}

ltl ends { <> (stored.state == J_OVER) }
ltl kept { [] (acked -> stored.state != J_NONE) }

init {
    byte n;
    atomic {
        stored.node0 = NOBODY; stored.node1 = NOBODY; stored.spare = NOBODY;
        j.node0 = NOBODY; j.node1 = NOBODY; j.spare = NOBODY;
        for (n : 0 .. N - 1) {
            pool[n].state = N_UP;
            host[n].up = true; host[n].dialled = true; host[n].accepted = true; host[n].joined = true;
            host[n].lease = true
        }
        n = 0;
        run link(0); run link(1); run link(2);
        run agent(0); run agent(1); run agent(2);
        run controller(); run world(); run clock(); run fault(); run rest();
#ifdef ANOTHER
        run another()
#endif
    }
}
