/* Keepers as processes, and what they leave. The test plays the keeper when it is started as one. */
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "runtime/agent/keepers.h"
#include "runtime/agent/plan.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/proc.h"
#include "runtime/base/str.h"
#include "runtime/wire/core.h"
#include "runtime/wire/daemon.h"
#include "tests/unit/tap.h"
#include "topo/topo.h"

static struct mu_paths paths;
static struct event_base *base;
static uint64_t dead_job, found_dead;
static unsigned deaths, founds;
static pid_t dead_pid, found_pid;

static void on_dead(void *arg, uint64_t job, pid_t pid)
{
    (void)arg;
    deaths++;
    dead_job = job;
    dead_pid = pid;
}
static void on_found(void *arg, uint64_t job, pid_t pid)
{
    (void)arg;
    if (!pid) {
        found_dead = job;
        return;
    }
    founds++;
    found_pid = pid;
}

static void spin(uint64_t ms)
{
    uint64_t until = mu_now() + ms * MU_MS;

    do {
        struct timeval slice = {.tv_usec = 2000};
        event_base_loopexit(base, &slice);
        event_base_loop(base, EVLOOP_ONCE);
    } while (mu_now() < until);
}
#define SPIN_UNTIL(cond)                                                                                               \
    for (uint64_t end_ = mu_now() + 5 * MU_SEC; !(cond) && mu_now() < end_;)                                           \
    spin(2)

/* `muster keeper --job N --node NAME`: takes its lock and waits to be killed; its environment is told in a file. */
static int play_keeper(int argc, char **argv)
{
    char name[64], path[PATH_MAX];
    struct mu_err err;

    if (argc != 8 || strcmp(argv[2], "--job") || strcmp(argv[4], "--node") || strcmp(argv[6], "--lock-fd") ||
        mu_paths_init(&paths, &err))
        return 9;
    snprintf(name, sizeof name, "keeper.%s.lock", argv[3]);
    mu_path_join(path, sizeof path, paths.run, name, NULL);
    if (getenv("SLOW"))
        usleep(300000);
    if (mu_path_lock_sign(atoi(argv[7]), path, &err) < 0)
        return 8;
    bool clean = !getenv("MUSTER_TAG") && !getenv("PMIX_RANK") && fcntl(7, F_GETFD) < 0 && getsid(0) == getpid() &&
                 !strcmp(argv[5], paths.host);
    snprintf(name, sizeof name, "played.%s", argv[3]);
    mu_path_join(path, sizeof path, paths.run, name, NULL);
    mu_path_write_atomic(path, clean ? "clean" : "dirty", 5, 0600, NULL);
    for (int i = 0; i < 60; i++)
        sleep(1);
    return 7;
}

static bool exists(const char *name)
{
    char path[PATH_MAX + 64];

    return !mu_path_join(path, sizeof path, *name == '/' ? "/" : paths.run, *name == '/' ? name + 1 : name, NULL) &&
           access(path, F_OK) == 0;
}

static void touch_dir(const char *name)
{
    char path[PATH_MAX + 64];

    snprintf(path, sizeof path, "%s%s%s", *name == '/' ? "" : paths.run, *name == '/' ? "" : "/", name);
    mkdir(path, 0700);
    strcat(path, "/file");
    close(open(path, O_CREAT | O_WRONLY, 0600));
}

/* A process of the job as a rank would be, in a session of its own. */
static pid_t orphan(uint64_t job, uint32_t attempt)
{
    pid_t pid = fork();

    if (!pid) {
        char tag[MU_PROC_TAG_SIZE], prog[] = "sleep", time[] = "60";
        char *argv[] = {prog, time, NULL}, *env[] = {tag, NULL};
        mu_proc_tag_format(tag, &(struct mu_proc_tag){.pool = paths.pool_hash, .job = job, .attempt = attempt});
        setsid();
        execve("/bin/sleep", argv, env);
        execve("/usr/bin/sleep", argv, env);
        _exit(1);
    }
    spin(50);
    return pid;
}

static void life(void)
{
    struct mu_keepers *k = mu_keepers_new(base, &paths, paths.host, on_dead, NULL);
    char path[PATH_MAX + 64];
    struct mu_err err = {0};
    pid_t pid = 0;

    setenv("MUSTER_TAG", "00000000.1.1", 1);
    setenv("PMIX_RANK", "0", 1);
    dup2(1, 7);
    TAP_OK(!mu_keepers_spawn(k, 5, &pid, &err) && pid > 0, "a keeper is started");
    unsetenv("MUSTER_TAG");
    unsetenv("PMIX_RANK");
    close(7);
    SPIN_UNTIL(exists("played.5"));
    mu_auto_buf struct mu_buf text = {0};
    mu_path_join(path, sizeof path, paths.run, "played.5", NULL);
    mu_path_read(path, 100, &text, NULL);
    TAP_OK(!strcmp(mu_buf_str(&text), "clean"), "in a session of its own, without our descriptors and job variables");
    pid_t locked = 0;
    TAP_OK(mu_daemon_locked(paths.run, "keeper.5.lock", &locked) && locked == pid, "it has its lock");

    /* The next agent: finds it, and removes what others left. */
    pid_t alien = orphan(6, 1), own = orphan(5, 1);
    char shm5[300], shm6[300], shm_other[300];
    snprintf(shm5, sizeof shm5, "/dev/shm/muster-%ld-%08x-%s-j5.a1", (long)geteuid(), paths.pool_hash, paths.host);
    snprintf(shm6, sizeof shm6, "/dev/shm/muster-%ld-%08x-%s-j6.a2", (long)geteuid(), paths.pool_hash, paths.host);
    snprintf(shm_other, sizeof shm_other, "/dev/shm/muster-%ld-%08x-%s-j6.a2", (long)geteuid(), ~paths.pool_hash,
             paths.host);
    const char *left[] = {"j5.a1", "j6.a1", "j6.a12", "k6", "pin.6", shm5, shm6, shm_other};
    for (size_t i = 0; i < MU_COUNT(left); i++)
        touch_dir(left[i]);
    snprintf(path, sizeof path, "%s/keeper.6.lock", paths.run); /* of one that was never executed */
    close(open(path, O_CREAT | O_WRONLY, 0600));
    snprintf(path, sizeof path, "%s/keeper.7.lock", paths.run);
    mu_path_write_atomic(path, "99\n", 3, 0600, NULL);
    struct mu_keepers *next = mu_keepers_new(base, &paths, paths.host, on_dead, NULL);
    mu_keepers_adopt(next, on_found, NULL);
    TAP_OK(founds == 1 && found_pid == pid, "the next agent finds it");
    TAP_OK(found_dead == 7 && exists("keeper.7.lock"), "and the mark of one that is dead");
    mu_keepers_forget(next, 7);
    TAP_OK(!exists("keeper.7.lock"), "until that is let go of");
    TAP_OK(!exists("j6.a1") && !exists("j6.a12") && !exists("k6") && !exists("pin.6") && !exists(shm6) &&
               !exists("keeper.6.lock"),
           "and removes what a dead one left");
    TAP_OK(exists("j5.a1") && exists(shm5) && exists(shm_other), "but nothing of the living one, nor of another pool");
    TAP_OK(waitpid(alien, NULL, 0) == alien && !kill(own, 0), "processes likewise");

    kill(pid, SIGKILL);
    SPIN_UNTIL(deaths == 2);
    TAP_OK(deaths == 2 && dead_job == 5 && dead_pid == pid, "its death is seen by both who watch it");
    TAP_OK(!mu_keepers_clean(next, 5, &err) && waitpid(own, NULL, 0) == own, "its ranks are killed");
    TAP_OK(!exists("j5.a1") && !exists(shm5) && exists("keeper.5.lock") && exists(shm_other),
           "its files are removed, all but its mark");
    TAP_OK(!mu_keepers_clean(next, 5, &err), "twice does no harm");
    mu_keepers_forget(next, 5);
    TAP_OK(!exists("keeper.5.lock"), "which goes when nobody will ask again");
    mu_path_remove_tree(shm_other, NULL);

    /* One that hangs. */
    deaths = 0;
    TAP_OK(!mu_keepers_spawn(k, 8, &pid, &err), "another one");
    SPIN_UNTIL(exists("played.8"));
    kill(pid, SIGSTOP);
    int rc = mu_keepers_clean(k, 8, &err);
    for (int i = 0; i < 20 && rc; i++) {
        spin(20);
        rc = mu_keepers_clean(k, 8, &err);
    }
    SPIN_UNTIL(deaths);
    TAP_OK(!rc && deaths == 1 && dead_job == 8, "that hangs is killed with what it has");
    deaths = 0;
    mu_keepers_watch(k, 9, pid); /* long dead */
    SPIN_UNTIL(deaths);
    TAP_OK(deaths == 1 && dead_job == 9, "watching a dead one tells its death");

    /* Found from its first moment on, whoever dies meanwhile. */
    setenv("SLOW", "1", 1);
    TAP_OK(!mu_keepers_spawn(k, 10, &pid, &err), "one that takes its time");
    unsetenv("SLOW");
    touch_dir("k10");
    founds = 0;
    mu_keepers_adopt(next, on_found, NULL);
    TAP_OK(founds == 1 && found_pid == pid && exists("k10"), "is found although it has not said its number yet");
    SPIN_UNTIL(exists("played.10"));
    pid_t second = 0;
    TAP_OK(!mu_keepers_spawn(next, 10, &second, &err) && second != pid, "another one of its job");
    SPIN_UNTIL(mu_daemon_locked(paths.run, "keeper.10.lock", &locked) && locked == second);
    TAP_OK(locked == second && (waitpid(pid, NULL, WNOHANG) == pid || kill(pid, 0)), "takes its place");
    if (second > 1)
        kill(second, SIGKILL);
    mu_keepers_free(k);
    mu_keepers_free(next);
}

static void plans(void)
{
    struct mu_plan *p = mu_plan_new(paths.run);
    struct mu_plan_node node;
    uint32_t one = 1, ranks = 1;
    char prog[] = "true", wdir[] = "/", *argv[] = {prog, NULL}, *wdirs[] = {wdir, NULL};
    struct mu_m_spec spec = {.ranks = 1,
                             .app_ranks = {.v = &one, .n = 1},
                             .app_argc = {.v = &one, .n = 1},
                             .argv = argv,
                             .app_wdir = wdirs,
                             .bind = MU_BIND_CORE};
    struct mu_m_start start = {.job = 1, .attempt = 1, .node_ranks = {.v = &ranks, .n = 1}};
    struct mu_bytes bound = {0}, unbound = {0};
    struct mu_cpuset all = {0}, a;

    mu_plan_node(p, &node);
    TAP_OK(node.slots >= 1 && node.pus >= node.slots && node.numa >= 1, "%u slots, %u hardware threads", node.slots,
           node.pus);
    mu_msg_pack(&bound, MU_MSG_spec, &spec);
    spec.bind = MU_BIND_NONE;
    mu_msg_pack(&unbound, MU_MSG_spec, &spec);

    /* A job a core until no core is left. */
    bool disjoint = true, fits = true;
    for (uint32_t i = 0; i < node.slots; i++) {
        start.job = 100 + i;
        start.spec = bound;
        mu_plan_start(p, &start);
        fits = fits && mu_strv_len(start.cpusets) == 1 && !mu_cpuset_parse(start.cpusets[0], &a, NULL) && !start.note;
        disjoint = disjoint && fits && !mu_cpuset_intersects(&all, &a) && !mu_cpuset_empty(&a);
        if (fits)
            mu_cpuset_or(&all, &a);
    }
    TAP_OK(fits && disjoint, "jobs get cores of their own");
    start.job = 999;
    mu_plan_start(p, &start);
    TAP_OK(!start.cpusets && start.note && *start.note, "one too many is not bound: %s", start.note ? start.note : "");
    start.job = 100;
    mu_plan_start(p, &start);
    mu_auto_free char *first = start.cpusets ? strdup(start.cpusets[0]) : strdup("?");
    start.attempt = 2;
    mu_plan_start(p, &start);
    TAP_OK(start.cpusets && !strcmp(first, start.cpusets[0]) && !start.note, "the next attempt gets the same");
    mu_plan_release(p, 101 < 100 + node.slots ? 101 : 100);
    start.job = 999;
    mu_plan_start(p, &start);
    TAP_OK(start.cpusets && !start.note, "what is released is given again");

    /* An agent that is restarted knows what running jobs hold. */
    struct mu_plan *next = mu_plan_new(paths.run);
    for (uint32_t i = 0; i < node.slots; i++)
        mu_plan_adopt(next, 100 + i);
    mu_plan_adopt(next, 999);
    mu_plan_adopt(next, 12345);
    start.job = 1000;
    mu_plan_start(next, &start);
    TAP_OK(!start.cpusets && start.note, "the next agent gives no core twice");
    start.spec = unbound;
    mu_plan_start(next, &start);
    TAP_OK(!start.cpusets && !start.note, "--bind none needs none and has no note");
    start.spec = (struct mu_bytes){0};
    mu_plan_start(next, &start);
    TAP_OK(!start.cpusets, "a spec that cannot be read is the keeper's to refuse");
    start.node_id = 5;
    mu_plan_start(next, &start);
    TAP_OK(!start.cpusets, "so is a node that is not there");
    mu_strv_free(start.cpusets);
    mu_strv_free(start.nodesets);
    mu_strv_free(start.rank_env);
    free(start.note);
    free(bound.data);
    free(unbound.data);
    mu_plan_free(p);
    mu_plan_free(next);
    mu_plan_free(NULL);
}

/* CPUs, NUMA nodes, variables and note of the first rank. */
static const char *told(struct mu_plan *p, struct mu_m_start *s, char got[400])
{
    mu_plan_start(p, s);
    snprintf(got, 400, "%s|%s|%s|%s", s->cpusets ? s->cpusets[0] : "", s->nodesets ? s->nodesets[0] : "",
             s->rank_env ? s->rank_env[0] : "", s->note ? s->note : "");
    for (char *c = got; (c = strchr(c, '\n'));)
        *c = '/';
    return got;
}

/* GPUs of a node that is none: jobs get different ones, later attempts and agents the same. */
static void gpus(void)
{
    uint32_t one = 1, ranks = 1;
    char prog[] = "true", wdir[] = "/", *argv[] = {prog, NULL}, *wdirs[] = {wdir, NULL}, slot[] = "1:0";
    char *slots[] = {slot, NULL}, by_gpu[] = "gpu";
    struct mu_m_spec spec = {.ranks = 1,
                             .app_ranks = {.v = &one, .n = 1},
                             .app_argc = {.v = &one, .n = 1},
                             .argv = argv,
                             .app_wdir = wdirs,
                             .bind = MU_BIND_GPU};
    struct mu_m_start start = {.job = 500, .attempt = 1, .node_ranks = {.v = &ranks, .n = 1}};
    struct mu_topo *t[3];
    char got[400];

    for (int i = 0; i < 3; i++)
        if (mu_topo_load(MU_TOPO_XML, "tests/data/node-4gpu.xml", MU_TOPO_IO, &t[i], NULL))
            exit(1);
    struct mu_plan *p = mu_plan_of(paths.run, t[0]);
    struct mu_plan_node node;
    mu_plan_node(p, &node);
    TAP_OK(node.gpus == 4, "the node has four GPUs");
    mu_msg_pack(&start.spec, MU_MSG_spec, &spec);
    TAP_OK(!strcmp(told(p, &start, got),
                   "0-2|0|CUDA_VISIBLE_DEVICES=GPU-00000000-1111-2222-3333-444444444444/UCX_NET_DEVICES=mlx5_0:1|"),
           "the first GPU: %s", got);
    start.job = 501;
    TAP_OK(!strcmp(told(p, &start, got),
                   "3-5|0|UCX_NET_DEVICES=mlx5_0:1|the UUID of GPU 0000:05:00.0 is not known: its ranks see all GPUs"),
           "the next job gets the next: %s", got);
    start.job = 500;
    start.attempt = 2;
    TAP_OK(!strncmp(told(p, &start, got), "0-2|0|CUDA_VISIBLE_DEVICES=GPU-0", 32), "the next attempt the same");
    struct mu_plan *next = mu_plan_of(paths.run, t[1]);
    mu_plan_adopt(next, 500);
    mu_plan_adopt(next, 501);
    TAP_OK(!strcmp(told(next, &start, got),
                   "0-2|0|CUDA_VISIBLE_DEVICES=GPU-00000000-1111-2222-3333-444444444444/UCX_NET_DEVICES=mlx5_0:1|"),
           "from the next agent, too: %s", got);
    start.job = 502;
    TAP_OK(
        !strcmp(told(next, &start, got), "12-14|4|ROCR_VISIBLE_DEVICES=GPU-0f62596172e6212b/UCX_NET_DEVICES=mlx5_1:2|"),
        "which gives no GPU twice: %s", got);
    free(start.spec.data);
    spec.bind = MU_BIND_NONE;
    spec.map = by_gpu;
    mu_msg_pack(&start.spec, MU_MSG_spec, &spec);
    start.job = 503;
    TAP_OK(!strcmp(told(next, &start, got),
                   "||UCX_NET_DEVICES=mlx5_1:2|the UUID of GPU 0000:a1:00.0 is not known: its ranks see all GPUs"),
           "a GPU without a binding: %s", got);
    free(start.spec.data);
    spec.bind = 0;
    spec.map = NULL;
    mu_msg_pack(&start.spec, MU_MSG_spec, &spec);
    start.job = 506;
    TAP_OK(!strcmp(told(next, &start, got), "15|||"), "memory is not bound by default: %s", got);
    mu_plan_release(next, 506);
    free(start.spec.data);
    spec.slots = slots;
    mu_msg_pack(&start.spec, MU_MSG_spec, &spec);
    struct mu_plan *third = mu_plan_of(paths.run, t[2]);
    start.job = 504;
    TAP_OK(!strcmp(told(third, &start, got), "12|4||") && !start.refusal, "a rank file: %s", got);
    free(start.spec.data);
    slot[0] = '7';
    mu_msg_pack(&start.spec, MU_MSG_spec, &spec);
    start.job = 505;
    TAP_OK(!strcmp(told(third, &start, got), "|||") && start.refusal &&
               !strcmp(start.refusal, "rank file: slot=7:0: this node has no package 7 with core 0"),
           "what it has not is refused: %s", start.refusal);
    for (uint64_t job = 500; job < 505; job++)
        mu_plan_release(next, job);
    free(start.spec.data);
    mu_strv_free(start.cpusets);
    mu_strv_free(start.nodesets);
    mu_strv_free(start.rank_env);
    free(start.note);
    free(start.refusal);
    mu_plan_free(p);
    mu_plan_free(next);
    mu_plan_free(third);
}

int main(int argc, char **argv)
{
    char dir[] = "/tmp/muster-test-keepers-XXXXXX", home[64], run[64];
    struct mu_err err;

    if (argc > 1 && !strcmp(argv[1], "keeper"))
        return play_keeper(argc, argv);
    if (!mkdtemp(dir))
        return 99;
    snprintf(home, sizeof home, "%s/home", dir);
    snprintf(run, sizeof run, "%s/run", dir);
    setenv("MUSTER_HOME", home, 1);
    setenv("MUSTER_RUN_ROOT", run, 1);
    mkdir(run, 0700);
    if (mu_paths_init(&paths, &err)) {
        printf("Bail out! %s\n", err.text);
        return 99;
    }
    base = mu_loop_new();
    life();
    plans();
    gpus();
    event_base_free(base);
    mu_path_remove_tree(dir, NULL);
    return tap_done();
}
