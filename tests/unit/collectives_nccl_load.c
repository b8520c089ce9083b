/* What is said of NVIDIA's libraries that are missing, wrong, too old or good, each in a process of its own. */
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "collectives/nccl/api.h"
#include "collectives/nccl/backend.h"
#include "runtime/base/nvlib.h"
#include "tests/unit/tap.h"

static char doubles[4096];

struct said {
    int code, version;
    bool alltoall;
    char text[500];
};

/* lib: below the doubles; NULL: a name that exists nowhere, looked for as the usual one is. */
static struct said ask(const char *variable, const char *lib, bool cuda)
{
    struct said s = {.code = 99};
    char path[4200];
    int fds[2];

    snprintf(path, sizeof path, "%s/%s", doubles, lib ? lib : "");
    if (pipe(fds))
        return s;
    fflush(stdout);
    if (fork() == 0) {
        const struct mu_nccl_api *n = NULL;
        const struct mu_cuda_api *c = NULL;
        struct mu_err err = {0};

        if (lib)
            setenv(variable, path, 1);
        s.code = cuda ? mu_cuda_load(&c, &err) : mu_nccl_load(&n, &err);
        snprintf(s.text, sizeof s.text, "%s", s.code ? err.text : n ? n->text : c->path);
        s.version = n ? n->version : c ? c->version : 0;
        s.alltoall = n && n->ncclAlltoAll;
        if (s.code != (cuda ? mu_cuda_load(&c, &err) : mu_nccl_load(&n, &err)))
            s.code = 98; /* the second answer differs */
        _exit(write(fds[1], &s, sizeof s) != sizeof s);
    }
    close(fds[1]);
    if (read(fds[0], &s, sizeof s) != sizeof s)
        s.code = 97;
    close(fds[0]);
    wait(NULL);
    return s;
}

static bool one_line(const char *text)
{
    return !strchr(text, '\n') && strlen(text) > 10;
}

/* Both what there is in a fresh environment and what the user has set. */
static void environment(void)
{
    struct mu_err err = {0};

    unsetenv("NCCL_ALGO");
    TAP_OK(mu_gpu_environment(&err) == 0 && !getenv("NCCL_ALGO"), "nothing is set that nobody asked for");
    setenv("MUSTER_NCCL_DETERMINISTIC", "yes", 1);
    TAP_OK(mu_gpu_environment(&err) == MUSTER_EARG && one_line(err.text), "%s", err.text);
    setenv("MUSTER_NCCL_DETERMINISTIC", "1", 1);
    setenv("NCCL_PROTO", "LL128", 1);
    TAP_OK(mu_gpu_environment(&err) == MUSTER_EARG && strstr(err.text, "needs NCCL_PROTO=Simple") &&
               strstr(err.text, "LL128") && !strcmp(getenv("NCCL_PROTO"), "LL128"),
           "the user wins: %s", err.text);
    setenv("NCCL_PROTO", "simple", 1);
    TAP_OK(mu_gpu_environment(&err) == 0 && !strcmp(getenv("NCCL_ALGO"), "Ring") &&
               !strcmp(getenv("NCCL_NVLS_ENABLE"), "0") && !strcmp(getenv("NCCL_PROTO"), "simple"),
           "one algorithm and protocol");
}

int main(int argc, char **argv)
{
    char text[16];
    struct mu_err err;
    void *handle = NULL;
    struct said s;

    (void)argc;
    snprintf(doubles, sizeof doubles, "%s", argv[0]);
    *strrchr(doubles, '/') = 0;
    snprintf(strrchr(doubles, '/'), 20, "/doubles");

    s = ask("MUSTER_NCCL_LIB", "libnccl.so.2", false);
    TAP_OK(s.code == 0 && s.version == 22809 && !strcmp(s.text, "2.28.9") && s.alltoall, "2.28 with all-to-all: %s",
           s.text);
    s = ask("MUSTER_NCCL_LIB", "libnccl-2.18.so", false);
    TAP_OK(s.code == 0 && !strcmp(s.text, "2.18.5") && !s.alltoall, "2.18 without: %s", s.text);
    s = ask("MUSTER_NCCL_LIB", "libnccl-plain.so", false);
    TAP_OK(s.code == 0 && !strcmp(s.text, "2.28.9") && !s.alltoall, "2.28 that was built without: %s", s.text);
    s = ask("MUSTER_NCCL_LIB", "libnccl-2.17.so", false);
    TAP_OK(s.code == MUSTER_ENODE && !strncmp(s.text, "NCCL: 2.17.1 is too old, 2.18 or later is needed (/", 50) &&
               one_line(s.text),
           "too old: %s", s.text);
    s = ask("MUSTER_NCCL_LIB", "libcuda.so.1", false);
    TAP_OK(s.code == MUSTER_ENODE && strstr(s.text, "has no ncclGetVersion") && one_line(s.text), "wrong: %s", s.text);
    s = ask("MUSTER_NCCL_LIB", "nothing.so", false);
    TAP_OK(s.code == MUSTER_ENODE && strstr(s.text, "MUSTER_NCCL_LIB") && strstr(s.text, "nothing.so") &&
               one_line(s.text),
           "asked for and not there: %s", s.text);
    s = ask("MUSTER_NCCL_LIB", "../collectives_nccl_load.o", false);
    TAP_OK(s.code == MUSTER_ENODE && one_line(s.text), "no library: %s", s.text);
    s = ask("MUSTER_CUDA_LIB", "libcuda.so.1", true);
    TAP_OK(s.code == 0 && s.version == 13000, "the driver: %s", s.text);
    s = ask("MUSTER_CUDA_LIB", "libnvidia-ml.so.1", true);
    TAP_OK(s.code == MUSTER_ENODE && strstr(s.text, "CUDA driver: ") && strstr(s.text, "has no cu"), "wrong: %s",
           s.text);
    s = ask(NULL, NULL, true);
    if (s.code == 0)
        TAP_SKIP("needs a machine without GPUs");
    else
        TAP_OK(s.code == MUSTER_ENOSYS && !strncmp(s.text, "CUDA driver: not found (libcuda.so.1", 36), "%s", s.text);
    TAP_OK(mu_nvlib_nccl_version(2804, "x", text, sizeof text, &err) == MUSTER_ENODE && !strcmp(text, "2.8.4"),
           "the old encoding: %s", err.text);
    TAP_OK(mu_nvlib_open(MU_NVLIB_KERNELS, &handle, &err) == MUSTER_ENOSYS &&
               !strncmp(err.text, "GPU kernels: not found (/", 25) && strstr(err.text, "/libmuster_cuda.so: ") &&
               one_line(err.text),
           "our own kernels are looked for beside the library: %s", err.text);
    environment();
    return tap_done();
}
