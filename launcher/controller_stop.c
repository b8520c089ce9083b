/* `muster controller --stop`. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "launcher/client.h"
#include "launcher/connect.h"
#include "launcher/controller.h"
#include "runtime/base/clock.h"
#include "runtime/base/path.h"
#include "runtime/wire/daemon.h"

#define STOP_WAIT (30 * MU_SEC)
#define ENDING_NS (5 * MU_SEC)

int mu_controller_stop(bool force)
{
    MU_AUTO_MSG struct mu_msg reply = {0};
    struct mu_client client;
    struct mu_paths paths;
    struct mu_err err = {0};
    const char *far = getenv("MUSTER_POOL");
    pid_t pid = 0;
    int fd;

    if (mu_paths_find(&paths, &err)) {
        fprintf(stderr, "muster controller: %s\n", err.text);
        return 2;
    }
    int rc = mu_controller_connect(&paths, false, &fd, &err);
    if (rc && far && *far) {
        fprintf(stderr, "muster controller: %s\n", err.text);
        return rc == MUSTER_EARG || rc == MUSTER_EVERSION ? 2 : 1;
    }
    /* it may just begin or end */
    for (uint64_t until = mu_now() + ENDING_NS; rc && mu_daemon_locked(paths.run, "ctl.lock", &pid);) {
        if (mu_now() > until) {
            fprintf(stderr,
                    "muster controller: process %ld is the controller, and cannot be asked to end: %s; kill it\n",
                    (long)pid, err.text);
            return 1;
        }
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
        rc = mu_controller_connect(&paths, false, &fd, &err);
    }
    if (rc) {
        if (access(paths.run, F_OK) == 0)
            mu_daemon_leave(&paths, &(int){-1});
        return 0; /* none runs */
    }
    close(fd);
    rc = mu_client_look(&client, &err);
    if (rc == MU_CLIENT_NO_POOL)
        return 0;
    if (rc) {
        fprintf(stderr, "muster controller: %s\n", err.text);
        return 1;
    }
    rc = mu_client_call(&client, MU_MSG_stop, &(struct mu_m_stop){.force = force}, MU_MSG_bye, &reply, STOP_WAIT, &err);
    bool gone = rc == MUSTER_EPEER;
    mu_client_close(&client);
    for (uint64_t until = mu_now() + ENDING_NS; gone && mu_daemon_locked(paths.run, "ctl.lock", NULL);) {
        if (mu_now() > until)
            break; /* it has said goodbye; what it still does concerns nobody */
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL); /* its port is free for the next one then */
    }
    if (gone)
        return 0;
    fprintf(stderr, "muster controller: %s%s\n", err.text, rc == MUSTER_EJOB ? ", or add --force" : "");
    return rc == MUSTER_EPERM ? 2 : 1;
}
