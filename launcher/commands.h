/* Entry points of the commands: argv[0] is the command's name, the result is the exit code. */
#ifndef MU_LAUNCHER_COMMANDS_H
#define MU_LAUNCHER_COMMANDS_H

int mu_cmd_topo(int argc, char **argv);
int mu_cmd_doctor(int argc, char **argv);

#endif
