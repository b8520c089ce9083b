/* The keeper's looks at ranks: real processes and slots, and a clock of the test's own. */
#include "runtime/keeper/watch.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "runtime/base/procstate.h"
#include "tests/unit/tap.h"

#define H (2 * MU_SEC)

static struct mu_slots *slots;
static struct mu_slot_head *head;
static struct mu_watch *watch;
static pid_t pids[2], inner;
static uint64_t now = 1000 * MU_SEC;
static struct mu_m_hang told;

static pid_t sleeper(pid_t group)
{
    pid_t pid = fork();

    if (pid == 0) {
        setpgid(0, group);
        for (;;)
            pause();
    }
    setpgid(pid, group ? group : pid);
    return pid;
}

static void becomes(pid_t pid, char letter)
{
    struct mu_proc_state st;

    for (int i = 0; i < 1000 && (mu_proc_state(pid, &st) || st.letter != letter); i++)
        usleep(1000);
}

/* Looks every 100 ms for so long; what it would tell last. */
static bool goes_by(uint64_t ns)
{
    bool any = false;

    for (uint64_t end = now + ns; now < end;) {
        now += 100 * MU_MS;
        for (uint32_t i = 0; i < 2; i++) {
            mu_slot_at(head, i)->beat++;
            mu_watch_rank(watch, slots, i, pids[i], now);
        }
        any |= mu_watch_judge(watch, now, &told) && told.level == MU_HANG_LEVEL_OVER;
    }
    return any;
}

static void anew(void)
{
    mu_watch_free(watch);
    watch = mu_watch_new(2, 4, H);
    memset((void *)mu_slot_at(head, 0), 0, 2 * sizeof(struct mu_slot));
    mu_slot_at(head, 0)->state = mu_slot_at(head, 1)->state = MU_RANK_READY;
    goes_by(300 * MU_MS);
    told = (struct mu_m_hang){0};
}

static void wait_for_other(void)
{
    mu_slot_wait(mu_slot_at(head, 0),
                 &(struct mu_slot_op){.kind = MU_OP_KIND_BARRIER, .peer = 5, .since = now, .ctx = 1, .number = 3});
}

int main(void)
{
    struct mu_err err;

    if (mu_slots_new(2, 1, 6, 0, &slots, &err))
        return 99;
    int fd = open(mu_slots_path(slots), O_RDWR);
    head = mmap(NULL, mu_slot_bytes(2), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    pids[0] = sleeper(0);
    pids[1] = sleeper(0);
    inner = sleeper(pids[1]);

    anew();
    TAP_OK(!goes_by(20 * MU_SEC), "nobody waits, nobody hangs");
    wait_for_other();
    TAP_OK(!goes_by(1900 * MU_MS), "one waits");
    TAP_OK(goes_by(300 * MU_MS) && told.what == MU_HANG_ABSENT && told.rank == 5 && told.from == 4 && told.nwait == 1 &&
               told.number == 3,
           "for the deadline");
    TAP_OK(goes_by(5 * MU_SEC), "which is said again");

    anew();
    wait_for_other();
    goes_by(1500 * MU_MS);
    now += 60 * MU_SEC; /* the whole host stood still, say */
    TAP_OK(!goes_by(1900 * MU_MS) && goes_by(400 * MU_MS), "time in which we did not look counts against nobody");

    anew();
    kill(pids[1], SIGSTOP);
    becomes(pids[1], 'T');
    TAP_OK(!goes_by(1900 * MU_MS), "one is stopped");
    TAP_OK(goes_by(400 * MU_MS) && told.what == MU_HANG_STOPPED && told.rank == 5 && told.process == 'T',
           "for the deadline");
    struct mu_m_hang m;
    mu_hang_answer(mu_watch_view(watch, now), 5, &m);
    TAP_OK(m.what == MU_HANG_STOPPED && m.asked_plus1 == 6, "asked, it is said, too");
    now += 60 * MU_SEC;
    TAP_OK(!goes_by(1900 * MU_MS) && goes_by(400 * MU_MS), "also of stopped ones");
    kill(pids[1], SIGCONT);
    becomes(pids[1], 'S');
    TAP_OK(!goes_by(10 * MU_SEC), "it goes on");

    anew();
    wait_for_other();
    mu_watch_signal(watch, SIGUSR1, now);
    mu_watch_signal(watch, SIGTSTP, now);
    kill(pids[1], SIGSTOP);
    becomes(pids[1], 'T');
    TAP_OK(!goes_by(60 * MU_SEC), "a job that was stopped on purpose does not hang");
    kill(pids[1], SIGCONT);
    becomes(pids[1], 'S');
    mu_watch_signal(watch, SIGCONT, now);
    TAP_OK(!goes_by(1900 * MU_MS) && goes_by(400 * MU_MS), "its time begins anew when it goes on");

    anew();
    mu_slot_at(head, 1)->pid = (uint32_t)inner;
    kill(inner, SIGSTOP);
    becomes(inner, 'T');
    TAP_OK(goes_by(2400 * MU_MS) && told.what == MU_HANG_STOPPED && told.rank == 5,
           "a program in a shell is looked at");
    anew();
    mu_slot_at(head, 0)->pid = (uint32_t)inner;
    TAP_OK(!goes_by(2400 * MU_MS), "but not a process that is another rank's");

    anew();
    wait_for_other();
    for (int i = 0; i < 40; i++) {
        TAP_OK(!goes_by(1 * MU_SEC), "a wait that moves, %d", i);
        wait_for_other();
        i += 9;
    }
    mu_slot_at(head, 1)->late_kind = MU_OP_KIND_BARRIER;
    mu_slot_at(head, 1)->late_seq = 7;
    mu_slot_at(head, 1)->op_seq = 8;
    struct mu_hang_rank r = {0};
    mu_slots_wait(slots, 1, &r);
    TAP_OK(!r.late_kind, "what was given up before the newest operation is of the past");
    mu_slot_at(head, 1)->op_seq = 7;
    mu_slots_wait(slots, 1, &r);
    TAP_OK(r.late_kind == MU_OP_KIND_BARRIER, "what was given up in it is not");

    watch = (mu_watch_free(watch), mu_watch_new(2, 4, 0));
    TAP_OK(!mu_watch_due(watch, now + 900 * MU_SEC), "without a deadline nobody looks");
    mu_watch_free(watch);
    kill(pids[0], SIGKILL);
    kill(-pids[1], SIGKILL);
    kill(inner, SIGKILL);
    while (wait(NULL) > 0)
        ;
    munmap(head, mu_slot_bytes(2));
    close(fd);
    mu_slots_free(slots);
    return tap_done();
}
