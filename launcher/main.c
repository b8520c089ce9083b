/* muster: the command line's entry. One table, one row a command; see commands.h for how to add one. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "launcher/commands.h"
#include "launcher/controller.h"
#include "runtime/agent/agent.h"
#include "runtime/agent/check.h"
#include "runtime/base/clean.h"
#include "runtime/base/str.h"
#include "runtime/keeper/keeper.h"
#include "runtime/keeper/ram.h"
#include "runtime/wire/daemon.h"
#include "runtime/wire/msg.h"

#define STACK_NEEDED (512u << 10) /* paths and messages lie there */

enum { HIDDEN = 1 };

static const struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
    unsigned flags;
    int unwritten; /* exit code where standard output cannot be written, whatever else; 0: the command's own, or 1 */
} commands[] = {
    {"run", mu_cmd_run, "run a job and wait for it", 0},
    {"submit", mu_cmd_submit, "hand in a job and print its number", 0},
    {"jobs", mu_cmd_jobs, "list the jobs", 0},
    {"status", mu_cmd_status, "show one job in full", 0},
    {"logs", mu_cmd_logs, "print what the ranks of a job have written", 0},
    {"events", mu_cmd_events, "list what has happened to a job", 0},
    {"cancel", mu_cmd_cancel, "end jobs", 0},
    {"hold", mu_cmd_hold, "keep jobs that wait from starting", 0},
    {"release", mu_cmd_release, "let held jobs start", 0},
    {"requeue", mu_cmd_requeue, "let jobs that run end and wait again", 0},
    {"nodes", mu_cmd_nodes, "list the nodes of the pool", 0},
    {"inventory", mu_cmd_inventory, "approve what nodes are made of, or withdraw that", 0},
    {"audit", mu_cmd_audit, "list who has changed what", 0},
    {"store", mu_cmd_store, "copies of the job store, and restoring it", 0},
    {"top", mu_cmd_top, "watch nodes and jobs", 0},
    {"ckpt", mu_cmd_ckpt, "look at checkpoints, and tend them", 0},
    {"bench", mu_cmd_bench, "measure nodes, links and collectives", 0},
    {"accept", mu_cmd_accept, "say which node or link is bad, with evidence", 0, MU_EXIT_USAGE},
    {"topo", mu_cmd_topo, "show this machine and where ranks would go", 0},
    {"doctor", mu_cmd_doctor, "check what muster needs on this machine", 0},
    {"controller", mu_controller_main, "the pool's daemon", HIDDEN},
    {"agent", mu_agent_main, "the node's daemon", HIDDEN},
    {"keeper", mu_keeper_main, "the daemon of one job on one node", HIDDEN},
    {"check", mu_check_main, "what makes the health checks of a node", HIDDEN},
    {"drain", mu_drain_main, "what writes a job's checkpoints on one node", HIDDEN},
};

static void help(FILE *f)
{
    fputs("usage: muster COMMAND [OPTIONS] [ARGUMENTS]\n\n", f);
    for (size_t i = 0; i < MU_COUNT(commands); i++)
        if (!(commands[i].flags & HIDDEN))
            fprintf(f, "  %-10s %s\n", commands[i].name, commands[i].summary);
    fputs("\n`muster COMMAND --help` lists a command's options; `man muster` and `man muster-COMMAND` explain them.\n"
          "For a start: muster run -n 2 hostname\n",
          f);
}

static int unknown(const char *word)
{
    const char *best = NULL;
    unsigned least = UINT_MAX;
    char shown[80];

    for (size_t i = 0; i < MU_COUNT(commands); i++) {
        unsigned d = mu_str_distance(word, commands[i].name);
        if (!(commands[i].flags & HIDDEN) && d < least && d <= 1 + strlen(word) / 4) {
            least = d;
            best = commands[i].name;
        }
    }
    fprintf(stderr, "muster: unknown %s '%s'; ", word[0] == '-' ? "option" : "command",
            mu_str_show(shown, sizeof shown, word));
    if (best)
        fprintf(stderr, "did you mean '%s'?\n", best);
    else
        fputs("`muster --help` lists the commands\n", stderr);
    return MU_EXIT_USAGE;
}

/* A socket that became descriptor 1 would get the program's output. Only for reading, so that writing to what the
 * caller has closed is the error that it is. */
static void fill_standard_fds(void)
{
    int fd;

    do
        fd = open("/dev/null", O_RDONLY);
    while (fd >= 0 && fd <= 2);
    if (fd > 2)
        close(fd);
}

/* What stdio could not write must not end in success. Its error flag has no errno: one that was met on the way shows
 * itself again. */
static int flushed(int code, int unwritten)
{
    int e = fflush(stdout) == 0 ? 0 : errno;

    if (!e && !ferror(stdout))
        return code;
    if (!e && write(1, "\n", 1) < 0)
        e = errno;
    fprintf(stderr, "muster: cannot write standard output: %s\n", strerror(e ? e : EIO));
    return unwritten ? unwritten : code ? code : MU_EXIT_FAILED;
}

int main(int argc, char **argv)
{
    char dashed[] = "--help";

    fill_standard_fds();
    /* A relay's thread may still use OpenSSL while the process ends: nothing of it is taken down. */
    OPENSSL_init_crypto(OPENSSL_INIT_NO_ATEXIT, NULL);
    if (argc < 2) {
        help(stderr);
        return MU_EXIT_USAGE;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || (!strcmp(argv[1], "help") && argc == 2)) {
        help(stdout);
        return flushed(0, 0);
    }
    if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "version")) {
        printf("muster %s, protocol %u\n", MUSTER_VERSION, MU_WIRE_VERSION);
        return flushed(0, 0);
    }
    if (!strcmp(argv[1], "help")) { /* muster help run = muster run --help */
        argv[1] = argv[2];
        argv[2] = dashed;
        argc = 3;
    }
    /* `muster jobs | head` ends as any other program does; run and the daemons see to it themselves. */
    signal(SIGPIPE, SIG_DFL);
    /* Who has started us may ignore it; then nobody learns how a child ended. */
    signal(SIGCHLD, SIG_DFL);
    signal(SIGXFSZ, SIG_IGN); /* a limit of files' sizes is an error of writing, which is told */
    uint64_t stack = mu_daemon_stack();
    if (stack < STACK_NEEDED) {
        fprintf(stderr,
                "muster: the limit of the stack is %llu KiB, %u are needed: raise the hard limit (ulimit -Hs)\n",
                (unsigned long long)stack >> 10, STACK_NEEDED >> 10);
        return MU_EXIT_USAGE;
    }
    for (size_t i = 0; i < MU_COUNT(commands); i++)
        if (!strcmp(argv[1], commands[i].name))
            return flushed(commands[i].run(argc - 1, argv + 1), commands[i].unwritten);
    return unknown(argv[1]);
}
