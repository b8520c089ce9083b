/* The pool's fabric: read, read again when its file changes, broken and gone; adapters that agents tell of. */
#include "launcher/cabling.h"

#include <event2/event.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/path.h"
#include "runtime/base/str.h"
#include "runtime/wire/daemon.h"
#include "tests/unit/tap.h"

static struct event_base *base;
static char dir[] = "/tmp/muster-test-cabling-XXXXXX", file[200], guids_file[200];
static unsigned calls;
static char trouble[700], source[300];
static const struct mu_place *place;
static bool reading;

static int knows(void *arg, const char *node)
{
    (void)arg;
    return !strcmp(node, "left") ? 0 : !strcmp(node, "away") ? 1 : 2;
}

static void changed(void *arg, const struct mu_fabric_state *s)
{
    (void)arg;
    calls += !s->reading;
    reading = s->reading;
    place = s->place;
    snprintf(trouble, sizeof trouble, "%s", s->trouble ? s->trouble : "");
    snprintf(source, sizeof source, "%s", s->source);
}

static void spin_until(unsigned n)
{
    for (uint64_t end = mu_now() + 20 * MU_SEC; calls < n && mu_now() < end;) {
        struct timeval slice = {.tv_usec = 5000};
        event_base_loopexit(base, &slice);
        event_base_loop(base, EVLOOP_ONCE);
    }
}

static void put(const char *path, const char *text)
{
    if (mu_path_write_atomic(path, text, strlen(text), 0600, NULL))
        exit(99);
}

static bool has(const char *host)
{
    return place && mu_fabric_find_host(mu_place_fabric(place), host) >= 0;
}

static void says(struct mu_cabling *c, const char *node, char *guid)
{
    char *v[] = {guid, NULL};

    mu_cabling_agent(c, &(struct mu_m_agent){.node = (char *)(uintptr_t)node, .guids = guid ? v : NULL});
}

/* Three hosts on a switch; what the third one's adapter is called says nothing. */
static const char text[] =
    "switchguid=0xa0(a0)\nSwitch 4 \"S-00000000000000a0\" # \"leaf\" enhanced port 0 lid 1 lmc 0\n"
    "[1] \"H-0000000000000001\"[1](1)\n[2] \"H-0000000000000002\"[1](2)\n"
    "[3] \"H-0000000000000003\"[1](3)\n\n"
    "caguid=0x1\nCa 1 \"H-0000000000000001\" # \"n1 mlx5_0\"\n[1](1) \"S-00000000000000a0\"[1]\n\n"
    "caguid=0x2\nCa 1 \"H-0000000000000002\" # \"n2 mlx5_0\"\n[1](2) \"S-00000000000000a0\"[2]\n\n"
    "caguid=0x3\nCa 1 \"H-0000000000000003\" # \"MT4123\"\n[1](3) \"S-00000000000000a0\"[3]\n";

static void test_where(void)
{
    char cwd[PATH_MAX], want[2 * PATH_MAX], *out = NULL;
    struct mu_err err = {0};

    if (!getcwd(cwd, sizeof cwd))
        exit(99);
    snprintf(want, sizeof want, "/a/b:%s/c", cwd);
    TAP_OK(!mu_cabling_where("/a/b:c", &out, &err) && !strcmp(out, want), "names of files become absolute");
    free(out);
    TAP_OK(!mu_cabling_where("live:mlx5_0", &out, &err) && !strcmp(out, "live:mlx5_0"), "the running fabric");
    free(out);
    TAP_OK(mu_cabling_where("a::b", &out, &err) == MUSTER_EARG && strstr(err.text, "empty name"), "%s", err.text);
}

static void test_file(void)
{
    struct mu_cabling_config cfg = {.where = file, .guids = guids_file, .knows = knows, .changed = changed};
    struct mu_cabling *c = NULL;
    struct mu_err err = {0};
    char g1[] = "0000000000000001", g3[] = "0000000000000003";

    TAP_OK(!mu_cabling_new(base, &cfg, &c, &err), "a file that is not there yet");
    TAP_OK(reading && !place && !*trouble && !strcmp(source, file), "is being read");
    spin_until(1);
    TAP_OK(calls == 1 && !reading && !place && strstr(trouble, file) && strstr(trouble, "No such file") &&
               strstr(trouble, "placed without it"),
           "is told of: %s", trouble);
    put(guids_file, "0x2 other\n");
    put(file, text);
    spin_until(2);
    TAP_OK(place && !*trouble && has("n1") && has("other") && !has("n2"), "it is read when it is there; %s", trouble);
    TAP_OK(!strcmp(source, file), "under its name");

    says(c, "n3", g3);
    spin_until(3);
    TAP_OK(has("n3") && has("n1"), "an agent tells whose an adapter is");
    says(c, "n3", g3);
    says(c, "empty", NULL);
    says(c, "left", g3);
    spin_until(4);
    TAP_OK(has("n3") && !*trouble, "a node that has left the pool counts no more");
    says(c, "away", g3);
    spin_until(5);
    TAP_OK(has("n3") && !*trouble, "one that is there counts before one that is away");
    says(c, "n4", g3);
    spin_until(6);
    TAP_OK(!has("n3") && !has("n4") && has("n1") &&
               !strcmp(trouble,
                       "adapter 0x0000000000000003 is said to be in n3 and in n4; what the fabric calls it counts"),
           "two that have one: %s", trouble);
    says(c, "n3", g1);
    spin_until(7);
    TAP_OK(has("n4") && has("n3") && !has("n1") && !*trouble, "until one of them says otherwise");

    put(file, "Switch 4 \"S-00");
    spin_until(8);
    TAP_OK(has("n4") && strstr(trouble, "is truncated") && strstr(trouble, "used as it was read last"),
           "a broken file leaves the last one: %s", trouble);
    unlink(file);
    spin_until(9);
    TAP_OK(has("n4") && strstr(trouble, "No such file"), "so does one that is gone: %s", trouble);
    if (mkfifo(file, 0600))
        exit(99);
    spin_until(10);
    TAP_OK(has("n4") && strstr(trouble, "is a pipe"), "and a pipe that nobody writes into: %s", trouble);
    unlink(file);
    put(file, text);
    spin_until(11);
    TAP_OK(has("n4") && !*trouble, "it is well again; %s", trouble);
    mu_cabling_free(c);

    TAP_OK(!mu_cabling_new(base, &cfg, &c, &err), "another one");
    mu_cabling_free(c);
    TAP_OK(calls == 11, "is let go of while it reads");
}

/* A reading that takes long is told of before it ends; one that failed is begun again though nothing has changed. */
static void test_late(void)
{
    struct mu_cabling_config cfg = {
        .where = file, .knows = knows, .changed = changed, .late_ns = 1, .again_ns = 100 * MU_MS};
    struct mu_cabling *c = NULL;
    struct mu_err err = {0};
    struct rlimit files, none;
    char g3[] = "0000000000000003";

    calls = 0;
    TAP_OK(!mu_cabling_new(base, &cfg, &c, &err), "a file that is read for long");
    TAP_OK(calls == 1 && strstr(trouble, "reading /") && strstr(trouble, "takes more than"), "is told of: %s", trouble);
    spin_until(2);
    TAP_OK(has("n1") && !*trouble, "and taken when it is read");
    mu_cabling_free(c);

    cfg.late_ns = 0;
    calls = 0;
    TAP_OK(!mu_cabling_new(base, &cfg, &c, &err), "a file");
    spin_until(1);
    if (getrlimit(RLIMIT_NOFILE, &files))
        exit(99);
    none = (struct rlimit){0, files.rlim_max};
    setrlimit(RLIMIT_NOFILE, &none);
    says(c, "n3", g3);
    spin_until(2);
    setrlimit(RLIMIT_NOFILE, &files);
    TAP_OK(calls == 2 && has("n1") && strstr(trouble, "Too many open files"), "that cannot be read: %s", trouble);
    spin_until(3);
    TAP_OK(calls == 3 && has("n3") && !*trouble, "is read again after a while");
    mu_cabling_free(c);
}

/* Without the library, an adapter or a subnet: whatever this machine lacks is said. */
static void test_live(void)
{
    struct mu_cabling_config cfg = {.where = "live:none_0", .knows = knows, .changed = changed};
    struct mu_cabling *c = NULL;
    struct mu_err err = {0};
    char g1[] = "0000000000000001";

    calls = 0;
    TAP_OK(!mu_cabling_new(base, &cfg, &c, &err), "the running fabric");
    spin_until(1);
    TAP_OK(calls == 1 && !place &&
               (strstr(trouble, "no InfiniBand subnet can be discovered through adapter none_0") ||
                strstr(trouble, "libibnetdisc")) &&
               strstr(trouble, "without it"),
           "cannot be had: %s", trouble);
    says(c, "n1", g1);
    uint64_t end = mu_now() + 500 * MU_MS;
    while (mu_now() < end)
        event_base_loop(base, EVLOOP_NONBLOCK);
    TAP_OK(calls == 1, "it is not asked for again at once");
    mu_cabling_free(c);
}

int main(void)
{
    base = mu_loop_new();
    if (!base || !mkdtemp(dir))
        return 99;
    snprintf(file, sizeof file, "%s/fabric.txt", dir);
    snprintf(guids_file, sizeof guids_file, "%s/guids", dir);
    put(guids_file, "");
    test_where();
    test_file();
    test_late();
    test_live();
    event_base_free(base);
    mu_path_remove_tree(dir, NULL);
    return tap_done();
}
