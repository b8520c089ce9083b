/* The commands of muster. To add one: write launcher/NAME.c with mu_cmd_NAME and its option table, declare it here, add
 * a row to the table in main.c, write docs/man/muster-NAME.1 (a test compares it with `muster NAME --help`).
 *
 * A command gets argv[0] = its name and returns the exit code: 0, MU_EXIT_FAILED, MU_EXIT_USAGE, or what its
 * job ended with. Commands are the only place of muster that prints. */
#ifndef MU_LAUNCHER_COMMANDS_H
#define MU_LAUNCHER_COMMANDS_H

#include "runtime/base/opt.h"

enum { MU_EXIT_FAILED = 1, MU_EXIT_USAGE = 2 };

int mu_cmd_run(int argc, char **argv);
int mu_cmd_submit(int argc, char **argv);
int mu_cmd_jobs(int argc, char **argv);
int mu_cmd_status(int argc, char **argv);
int mu_cmd_logs(int argc, char **argv);
int mu_cmd_cancel(int argc, char **argv);
int mu_cmd_hold(int argc, char **argv);
int mu_cmd_release(int argc, char **argv);
int mu_cmd_requeue(int argc, char **argv);
int mu_cmd_nodes(int argc, char **argv);
int mu_cmd_top(int argc, char **argv);
int mu_cmd_events(int argc, char **argv);
int mu_cmd_ckpt(int argc, char **argv);
int mu_cmd_bench(int argc, char **argv);
int mu_cmd_accept(int argc, char **argv);
int mu_cmd_topo(int argc, char **argv);
int mu_cmd_audit(int argc, char **argv);
int mu_cmd_inventory(int argc, char **argv);
int mu_cmd_store(int argc, char **argv);
int mu_cmd_doctor(int argc, char **argv);

/* Prints "muster NAME: text" and returns the exit code that fits the error: usage errors and what the user must mend
 * before trying again (a bad argument, a full disk, a corrupt or newer store) give 2, the rest 1. */
int mu_cmd_fail(const char *name, const struct mu_err *err);
/* Parses a command's options. Returns 0, or -1 with the exit code in *code when the command is done: help was printed,
 * or an error. min..max operands are allowed. */
int mu_cmd_options(const char *usage, const struct mu_opt *table, size_t n, int argc, char **argv, int min, int max,
                   void *opts, int *first, int *code);
/* A job's number. */
int mu_cmd_job(const char *text, uint64_t *job, struct mu_err *err);

#endif
