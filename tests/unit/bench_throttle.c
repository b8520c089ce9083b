/* How long a quota has held back: both versions of control groups, nested ones, and files that say nothing of it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/throttle.h"
#include "tests/unit/tap.h"

static char dir[100];

static void put(const char *path, const char *text)
{
    char at[300];

    snprintf(at, sizeof at, "%s/%s", dir, path);
    for (char *p = at + strlen(dir) + 1; (p = strchr(p, '/')); p++) {
        *p = 0;
        mkdir(at, 0700);
        *p = '/';
    }
    FILE *f = fopen(at, "we");
    if (!f || fputs(text, f) < 0 || fclose(f))
        exit(99);
}

static uint64_t of(const char *groups)
{
    char at[300];

    put("groups", groups);
    snprintf(at, sizeof at, "%s/groups", dir);
    return mu_throttled(at, dir);
}

int main(void)
{
    const char *tmp = getenv("TMPDIR");
    char command[200];

    snprintf(dir, sizeof dir, "%s/throttle.XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(dir))
        exit(99);
    put("cpu.stat", "usage_usec 17\n");
    put("job/cpu.stat", "usage_usec 17\nnr_throttled 2\nthrottled_usec 30\n");
    put("job/step/cpu.stat", "usage_usec 9\nthrottled_usec 4\n");
    put("cpu,cpuacct/one/cpu.stat", "nr_periods 5\nnr_throttled 3\nthrottled_time 700\n");
    put("cpuset/one/cpu.stat", "throttled_time 9000000\n");
    put("broken/cpu.stat", "throttled_usec many\n");
    TAP_OK(of("0::/job\n") == 30000, "one group");
    TAP_OK(of("0::/job/step\n") == 34000, "one that is in another: both hold it back");
    TAP_OK(of("0::/\n") == 0, "none");
    TAP_OK(of("3:cpuset:/one\n2:cpu,cpuacct:/one\n1:name=systemd:/job\n") == 700, "the older version: that of cpu");
    TAP_OK(of("0::/gone\n") == 0 && of("") == 0 && of("0::\nx\n:::\n0::gone\n") == 0,
           "what is not there, or no line of it");
    TAP_OK(of("0::/broken\n") == 0, "no number");
    TAP_OK(mu_throttled("/nowhere/groups", dir) == 0, "no file");
    snprintf(command, sizeof command, "rm -r '%s'", dir);
    TAP_OK(!system(command), "nothing is left");
    return tap_done();
}
