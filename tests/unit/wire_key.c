#include "runtime/wire/key.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/path.h"
#include "runtime/wire/addr.h"
#include "runtime/wire/ident.h"
#include "tests/unit/tap.h"

static char top[] = "/tmp/muster-test-key-XXXXXX";
static struct mu_err err;

static const char *at(const char *name)
{
    static char path[PATH_MAX];

    snprintf(path, sizeof path, "%s/%s", top, name);
    return path;
}

static bool same(const struct mu_key *a, const struct mu_key *b)
{
    return !memcmp(a, b, sizeof *a);
}

/* Written by hand from the description in docs/formats.md. */
#define ZERO64 "0000000000000000000000000000000000000000000000000000000000000000"
#define ZERO_PRINT "5caf3a8981ae383f"

static void text(void)
{
    static const struct {
        const char *text, *what;
        int code;
    } rows[] = {
        {"muster-pool-key 1 " ZERO64 " " ZERO_PRINT "\n", "as it is written", 0},
        {"muster-pool-key 1 " ZERO64 " " ZERO_PRINT, "without its newline", 0},
        {"muster-pool-key 1 " ZERO64 " " ZERO_PRINT "\n\n", "with two", MUSTER_EARG},
        {"muster-pool-key 1 " ZERO64 " " ZERO_PRINT "\r\n", "with a carriage return", MUSTER_EARG},
        {"muster-pool-key 1 " ZERO64 " " ZERO_PRINT " x\n", "with more", MUSTER_EARG},
        {"muster-pool-key 1 " ZERO64 "0" ZERO_PRINT "\n", "without a blank", MUSTER_EARG},
        {"muster-pool-key 1 " ZERO64 " 5caf3a8981ae383e\n", "with another fingerprint", MUSTER_EARG},
        {"muster-pool-key 1 1" ZERO64 " " ZERO_PRINT "\n", "too long", MUSTER_EARG},
        {"muster-pool-key 1 " ZERO64 "\n", "without fingerprint", MUSTER_EARG},
        {"muster-pool-key 1 G00000000000000000000000000000000000000000000000000000000000000 " ZERO_PRINT "\n",
         "not hexadecimal", MUSTER_EARG},
        {"muster-pool-key 2 whatever comes\n", "version 2", MUSTER_EVERSION},
        {"muster-pool-key 11 x\n", "version 11", MUSTER_EVERSION},
        {"muster-pool-key x " ZERO64 "\n", "no version", MUSTER_EARG},
        {"muster-pool-key 1\n", "nothing behind the version", MUSTER_EARG},
        {"muster-pool-key \n", "nothing behind the word", MUSTER_EARG},
        {"-----BEGIN PRIVATE KEY-----\n", "another kind of key", MUSTER_EARG},
        {"", "nothing", MUSTER_EARG},
        {"\n", "an empty line", MUSTER_EARG},
    };
    struct mu_key zero = {0}, k, untouched;
    char line[MU_KEY_TEXT], print[MU_KEY_PRINT];

    size_t n = mu_key_format(&zero, line);
    mu_key_fingerprint(&zero, print);
    TAP_OK(n == strlen(line) && n < MU_KEY_TEXT && !strcmp(line, rows[0].text), "the line: %s", print);
    memset(&untouched, 7, sizeof untouched);
    for (size_t i = 0; i < MU_COUNT(rows); i++) {
        memset(&k, 7, sizeof k);
        int rc = mu_key_parse(rows[i].text, strlen(rows[i].text), &k, &err);
        TAP_OK(rc == rows[i].code && same(&k, rc ? &untouched : &zero), "%s: %s", rows[i].what,
               rc ? err.text : "taken");
    }
    unsigned bad = 0;
    for (size_t i = 0; i < n - 1; i++) {
        char c = line[i];
        line[i] = (char)(c == '0' ? '1' : '0');
        bad += !mu_key_parse(line, n, &k, NULL);
        line[i] = c;
    }
    TAP_OK(!bad, "no changed character is missed");
}

static void derived(void)
{
    struct mu_key a = {.bytes = "a"}, b = {.bytes = "b"};
    uint8_t out[4][MU_KEY_BYTES];
    char pa[MU_KEY_PRINT], pb[MU_KEY_PRINT];

    TAP_OK(!mu_key_derive(&a, "x", out[0], &err) && !mu_key_derive(&a, "x", out[1], &err) &&
               !mu_key_derive(&a, "y", out[2], &err) && !mu_key_derive(&b, "x", out[3], &err),
           "keys for a purpose");
    TAP_OK(!memcmp(out[0], out[1], 32) && memcmp(out[0], out[2], 32) != 0 && memcmp(out[0], out[3], 32) != 0 &&
               memcmp(out[0], a.bytes, 32) != 0,
           "the same for the same key and purpose only");
    mu_key_fingerprint(&a, pa);
    mu_key_fingerprint(&b, pb);
    TAP_OK(strlen(pa) == 16 && strcmp(pa, pb) != 0, "fingerprints: %s, %s", pa, pb);
    mu_key_wipe(&a);
    TAP_OK(!a.bytes[0], "wiped");
}

static void put(const char *path, const char *content, size_t n, unsigned mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    if (fd < 0 || write(fd, content, n) != (ssize_t)n || fchmod(fd, mode) || close(fd))
        exit(99);
}

static unsigned entries(void)
{
    mu_auto_dir DIR *d = opendir(top);
    unsigned n = 0;

    for (struct dirent *e; d && (e = readdir(d));)
        n += e->d_name[0] != '.';
    return n;
}

static void file(void)
{
    struct mu_key k = {0}, again = {0};
    char path[PATH_MAX], line[MU_KEY_TEXT], big[1000];
    struct stat st;

    snprintf(path, sizeof path, "%s", at("pool.key"));
    TAP_OK(mu_key_load(path, &k, &err) == MUSTER_EARG && strstr(err.text, path), "there is none: %s", err.text);
    TAP_OK(!mu_key_create(path, &k, &err) && !stat(path, &st) && (st.st_mode & 07777) == 0600 && st.st_nlink == 1,
           "made, mode 0600");
    TAP_OK(entries() == 1, "and nothing beside it");
    TAP_OK(!mu_key_load(path, &again, &err) && same(&k, &again), "loaded: the same");
    TAP_OK(!mu_key_create(path, &again, &err) && same(&k, &again), "not made anew");
    umask(0777);
    TAP_OK(!mu_key_create(at("masked"), &again, &err) && !same(&k, &again), "whatever the umask; another key");
    umask(022);
    unlink(at("masked"));

    static const unsigned modes[] = {0640, 0604, 0660, 0602, 0610, 0777, 0644};
    size_t n = mu_key_format(&k, line);
    for (size_t i = 0; i < MU_COUNT(modes); i++) {
        put(path, line, n, modes[i]);
        TAP_OK(mu_key_load(path, &again, &err) == MUSTER_EARG && strstr(err.text, path) &&
                   strstr(err.text, "chmod 600"),
               "refused: %s", err.text);
    }
    TAP_OK(mu_key_create(path, &again, &err) == MUSTER_EARG && !stat(path, &st) && (st.st_mode & 07777) == 0644,
           "by create, too, which leaves it alone");
    put(path, line, n, 0400);
    TAP_OK(!mu_key_load(path, &again, &err) && same(&k, &again), "read only is fine");

    put(path, line, n / 2, 0600);
    TAP_OK(mu_key_load(path, &again, &err) == MUSTER_EARG && strstr(err.text, path), "cut: %s", err.text);
    put(path, line, 0, 0600);
    TAP_OK(mu_key_create(path, &again, &err) == MUSTER_EARG && !stat(path, &st) && !st.st_size, "empty: %s", err.text);
    memset(big, ' ', sizeof big);
    memcpy(big, line, n - 1);
    put(path, big, sizeof big, 0600);
    TAP_OK(mu_key_load(path, &again, &err) == MUSTER_EARG, "long: %s", err.text);
    put(path, "muster-pool-key 3 new things\n", 29, 0600);
    TAP_OK(mu_key_load(path, &again, &err) == MUSTER_EVERSION, "newer: %s", err.text);
    unlink(path);

    mkdir(path, 0700);
    TAP_OK(mu_key_create(path, &again, &err) == MUSTER_EARG && strstr(err.text, "not a file"), "%s", err.text);
    rmdir(path);
    mkfifo(path, 0600);
    TAP_OK(mu_key_load(path, &again, &err) == MUSTER_EARG && strstr(err.text, "not a file"),
           "a pipe is not waited for");
    unlink(path);
    TAP_OK(mu_key_create("/nonexistent/pool.key", &again, &err) < 0, "%s", err.text);

    if (geteuid() == 0) {
        put(path, line, n, 0600);
        if (!chown(path, 12345, 12345))
            TAP_OK(mu_key_load(path, &again, &err) == MUSTER_EARG && strstr(err.text, "user 12345"), "%s", err.text);
        unlink(path);
    } else {
        TAP_SKIP("needs root to plant another user's file");
    }
}

/* Many processes make it at once: all have the same. */
static void race(void)
{
    unsigned bad = 0;

    for (int round = 0; round < 20; round++) {
        char path[PATH_MAX];
        int gate[2], answers[2];
        struct mu_key first = {0}, k;

        snprintf(path, sizeof path, "%s", at("raced.key"));
        if (pipe(gate) || pipe(answers))
            exit(99);
        for (int i = 0; i < 8; i++) {
            if (fork())
                continue;
            char c;
            close(gate[1]);
            if (read(gate[0], &c, 1) < 0 || mu_key_create(path, &k, &err))
                memset(&k, 0xee, sizeof k);
            _exit(write(answers[1], &k, sizeof k) != sizeof k);
        }
        close(gate[0]);
        close(gate[1]);
        close(answers[1]);
        for (int i = 0; i < 8; i++) {
            bad += read(answers[0], i ? &k : &first, sizeof k) != sizeof k;
            bad += i && !same(&k, &first);
        }
        bad += mu_key_load(path, &k, &err) || !same(&k, &first);
        while (wait(NULL) > 0)
            ;
        close(answers[0]);
        bad += entries() != 1;
        unlink(path);
    }
    TAP_OK(!bad, "eight at once agree, twenty times, and leave nothing else");
}

static void descriptor(void)
{
    struct mu_key k = {.bytes = "over a pipe"}, got = {0};
    char rest[8] = "";
    int fds[2];

    if (pipe(fds))
        exit(99);
    TAP_OK(!mu_key_write(fds[1], &k, &err) && write(fds[1], "rest", 4) == 4 && !mu_key_read(fds[0], 1000, &got, &err) &&
               same(&k, &got),
           "through a pipe");
    TAP_OK(read(fds[0], rest, sizeof rest) == 4 && !strcmp(rest, "rest"), "what follows the line is left there");
    uint64_t since = mu_now();
    TAP_OK(mu_key_read(fds[0], 50, &got, &err) == MUSTER_ETIMEOUT && mu_now() - since < 5 * MU_SEC, "%s", err.text);
    TAP_OK(write(fds[1], "muster-pool-key 1 ", 18) == 18 && mu_key_read(fds[0], 50, &got, &err) == MUSTER_ETIMEOUT,
           "half a line: the deadline too");
    close(fds[1]);
    TAP_OK(mu_key_read(fds[0], 1000, &got, &err) == MUSTER_EARG, "%s", err.text);
    close(fds[0]);
    if (pipe(fds))
        exit(99);
    char garbage[4096];
    memset(garbage, 'x', sizeof garbage);
    TAP_OK(write(fds[1], garbage, sizeof garbage) == sizeof garbage &&
               mu_key_read(fds[0], 1000, &got, &err) == MUSTER_EARG,
           "a line without end: %s", err.text);
    close(fds[0]);
    TAP_OK(mu_key_write(fds[1], &k, &err) < 0, "%s", err.text);
    close(fds[1]);

    struct mu_paths paths = {.home = "/h"};
    char path[PATH_MAX];
    TAP_OK(!mu_key_path(&paths, path, &err) && !strcmp(path, "/h/pool.key"), "its place is the shared home");
}

static void identities(void)
{
    static const struct {
        const char *text;
        int code;
        unsigned version;
    } rows[] = {
        {"muster:7:0123456789abcdef:00000000deadbeef", 0, 7},
        {"muster:8:0123456789abcdef:00000000deadbeef", MUSTER_EVERSION, 8},
        {"muster:8:", MUSTER_EVERSION, 8},
        {"muster:4294967295:x", MUSTER_EVERSION, 4294967295u},
        {"muster:4294967296:x", MUSTER_EARG, 0},
        {"muster:0:x", MUSTER_EARG, 0},
        {"muster:+7:x", MUSTER_EARG, 0},
        {"muster:7", MUSTER_EARG, 0},
        {"muster:7:0123456789abcdef", MUSTER_EARG, 0},
        {"muster:7:0123456789abcdeF:00000000deadbeef", MUSTER_EARG, 0},
        {"muster:7:0123456789abcdef:00000000deadbeef0", MUSTER_EARG, 0},
        {"muster:7:0123456789abcdef0:0000000deadbeef", MUSTER_EARG, 0},
        {"muster:7:0123456789abcdef:00000000deadbee:", MUSTER_EARG, 0},
        {"Client_identity", MUSTER_EARG, 0},
        {"", MUSTER_EARG, 0},
    };
    struct mu_ident id;
    char textbuf[MU_IDENT_MAX], big[5000];

    for (size_t i = 0; i < MU_COUNT(rows); i++) {
        id = (struct mu_ident){0};
        int rc = mu_ident_parse(rows[i].text, strlen(rows[i].text), 7, &id);
        TAP_OK(rc == rows[i].code && id.version == rows[i].version && (rc || id.mark == 0xdeadbeef),
               "identity '%s': %d", rows[i].text, rc);
        if (!rc)
            TAP_OK(mu_ident_format(&id, textbuf) == strlen(rows[i].text) && !strcmp(textbuf, rows[i].text), "and back");
    }
    memset(big, 'a', sizeof big);
    memcpy(big, "muster:8:", 9);
    TAP_OK(mu_ident_parse(big, sizeof big, 7, &id) == MUSTER_EARG, "a long one");
    TAP_OK(mu_ident_parse("muster:7:0123456789abcdef:00000000deadbeef\0", 43, 7, &id) == MUSTER_EARG, "a zero byte");
}

static void addresses(void)
{
    static const struct {
        const char *text, *host;
        uint16_t given, port;
    } rows[] = {
        {"node7:4711", "node7", 0, 4711},
        {"node7:4711", "node7", 9, 4711},
        {"node7", "node7", 9, 9},
        {"node7", NULL, 0, 0},
        {"muster://node7.example.org:4711", "node7.example.org", 0, 4711},
        {"muster://node7:4711/", "node7", 0, 4711},
        {"muster://node7:4711/x", NULL, 0, 0},
        {"10.0.0.7:1", "10.0.0.7", 0, 1},
        {"[fe80::1%eth0]:65535", "fe80::1%eth0", 0, 65535},
        {"[::1]", "::1", 5, 5},
        {"::1", "::1", 5, 5},
        {"muster://[::1]:22", "::1", 0, 22},
        {"node7:0", NULL, 0, 0},
        {"node7:65536", NULL, 0, 0},
        {"node7:", NULL, 9, 0},
        {"node7:12x", NULL, 0, 0},
        {"node7:123456789", NULL, 0, 0},
        {":4711", NULL, 0, 0},
        {"[]:4711", NULL, 0, 0},
        {"[::1:4711", NULL, 0, 0},
        {"[::1]4711", NULL, 0, 0},
        {"me@node7:4711", NULL, 0, 0},
        {"node 7:4711", NULL, 0, 0},
        {"http://node7:4711", NULL, 0, 0},
        {"", NULL, 9, 0},
        {"muster://", NULL, 9, 0},
    };
    char host[MU_ADDR_HOST], longname[400], shown[MU_ADDR_TEXT];
    struct mu_addr a;
    uint16_t port;

    for (size_t i = 0; i < MU_COUNT(rows); i++) {
        int rc = mu_addr_split(rows[i].text, rows[i].given, host, &port, &err);
        TAP_OK(rows[i].host ? !rc && !strcmp(host, rows[i].host) && port == rows[i].port : rc == MUSTER_EARG,
               "'%s': %s", rows[i].text, rc ? err.text : host);
    }
    memset(longname, 'n', sizeof longname - 1);
    longname[sizeof longname - 1] = 0;
    TAP_OK(mu_addr_split(longname, 9, host, &port, &err) == MUSTER_EARG, "a name of 399 letters");
    longname[253] = 0;
    TAP_OK(!mu_addr_split(longname, 9, host, &port, &err), "one of 253 is fine");

    TAP_OK(!mu_addr_numeric("10.0.0.7", 4711, &a, &err) && mu_addr_port(&a) == 4711, "IPv4");
    mu_addr_text(&a, shown);
    TAP_OK(!strcmp(shown, "10.0.0.7:4711"), "shown: %s", shown);
    TAP_OK(!mu_addr_numeric("fe80::1%lo", 4711, &a, &err) && a.in6.sin6_scope_id == 1, "IPv6 with its interface");
    mu_addr_text(&a, shown);
    TAP_OK(!strcmp(shown, "[fe80::1%lo]:4711"), "shown: %s", shown);
    TAP_OK(!mu_addr_numeric("::ffff:10.0.0.7", 1, &a, &err), "IPv4 in IPv6");
    mu_addr_text(&a, shown);
    TAP_OK(!strcmp(shown, "10.0.0.7:1"), "shown: %s", shown);
    TAP_OK(mu_addr_numeric("fe80::1%nowhere", 1, &a, &err) == MUSTER_EARG, "%s", err.text);
    TAP_OK(mu_addr_numeric("node7", 1, &a, &err) == MUSTER_EARG, "%s", err.text);
    TAP_OK(mu_addr_numeric("", 1, &a, &err) == MUSTER_EARG, "%s", err.text);
}

int main(void)
{
    if (!mkdtemp(top))
        return 99;
    signal(SIGPIPE, SIG_IGN);
    text();
    derived();
    file();
    race();
    descriptor();
    identities();
    addresses();
    mu_path_remove_tree(top, NULL);
    return tap_done();
}
