#include "runtime/base/path.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "tests/unit/tap.h"

static char top[64];
static struct mu_err err;

static const char *at(const char *fmt, const char *arg)
{
    static char buf[8][PATH_MAX];
    static int i;
    char *p = buf[i++ % 8];
    int n = snprintf(p, PATH_MAX, "%s/", top);

    snprintf(p + n, (size_t)(PATH_MAX - n), fmt, arg);
    return p;
}

static bool exists(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0;
}

static unsigned mode(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0 ? (unsigned)st.st_mode & 07777 : 0;
}

/* Temporary files that write_atomic has left in dir. */
static int temps(const char *dir)
{
    mu_auto_dir DIR *d = opendir(dir);
    struct dirent *e;
    int n = 0;

    while (d && (e = readdir(d)))
        n += strstr(e->d_name, ".tmp.") != NULL;
    return d ? n : -1;
}

static void files(void)
{
    mu_auto_buf struct mu_buf b = {0};

    TAP_OK(mu_path_mkdirs(at("a/b//c/", ""), 0700, &err) == 0 && mode(at("a/b/c", "")) == 0700, "mkdirs makes all");
    TAP_OK(mu_path_mkdirs(at("a/b/c", ""), 0700, &err) == 0, "mkdirs of what is there");
    TAP_OK(mu_path_mkdirs("", 0700, &err) == MUSTER_EARG, "mkdirs of nothing");
    int e = mkdir("/sys/muster-test", 0700) ? errno : 0; /* EACCES, EPERM, EROFS: whoever asks */
    TAP_OK(e && mu_path_mkdirs("/sys/muster-test/x", 0700, &err) && strstr(err.text, strerror(e)),
           "mkdirs says why: %s", strrchr(err.text, ':'));
    TAP_OK(mu_path_write_atomic(at("a/f", ""), "hello", 5, 0640, &err) == 0 && mode(at("a/f", "")) == 0640,
           "write_atomic creates with its mode");
    TAP_OK(mu_path_mkdirs(at("a/f/x", ""), 0700, &err) < 0 && strstr(err.text, "cannot create directory"),
           "mkdirs below a file: %s", strrchr(err.text, ':'));
    TAP_OK(mu_path_mkdirs(at("a/f", ""), 0700, &err) == MUSTER_EARG && strstr(err.text, "is not a directory"),
           "mkdirs on a file");
    TAP_OK(mu_path_write_atomic(at("a/f", ""), "bye", 3, 0600, &err) == 0, "write_atomic replaces");
    TAP_OK(mu_path_read(at("a/f", ""), 3, &b, &err) == 0 && !strcmp(mu_buf_str(&b), "bye"), "read, exactly the bound");
    TAP_OK(mu_path_read(at("a/f", ""), 2, &b, &err) == MUSTER_EARG && !strcmp(mu_buf_str(&b), "bye"),
           "read over the bound leaves the buffer as it was");
    TAP_OK(mu_path_read(at("a/none", ""), 9, &b, &err) < 0 && errno == ENOENT, "read of nothing keeps errno");
    TAP_OK(mu_path_read(at("a", ""), 9, &b, &err) < 0 && !strcmp(mu_buf_str(&b), "bye"), "read of a directory");
    mu_buf_clear(&b);
    TAP_OK(mu_path_read_regular(at("a/f", ""), 3, &b, &err) == 0 && !strcmp(mu_buf_str(&b), "bye"), "a regular file");
    TAP_OK(mkfifo(at("a/fifo", ""), 0600) == 0 && mu_path_read_regular(at("a/fifo", ""), 9, &b, &err) == MUSTER_EARG &&
               strstr(err.text, "is a pipe"),
           "a pipe is not: %s", strrchr(err.text, '/'));
    TAP_OK(mu_path_read_regular("/dev/zero", 9, &b, &err) == MUSTER_EARG && strstr(err.text, "is a device"),
           "nor is a device: %s", err.text);
    TAP_OK(mu_path_read_regular(at("a", ""), 9, &b, &err) < 0 && errno == EISDIR && strstr(err.text, "Is a directory"),
           "nor a directory");
    TAP_OK(mu_path_read_regular(at("a/none", ""), 9, &b, &err) < 0 && errno == ENOENT, "nor what is not there");
    TAP_OK(mu_path_read_regular("", 9, &b, &err) == MUSTER_EARG && strstr(err.text, "is empty"),
           "nor what has no name");
    FILE *f = NULL;
    TAP_OK(mu_path_create(at("a/fifo", ""), &f, &err) == MUSTER_EARG && !f &&
               strstr(err.text, "a pipe that nobody reads"),
           "a pipe that nobody reads is not written: %s", strrchr(err.text, '/'));
    TAP_OK(mu_path_create("", &f, &err) == MUSTER_EARG && mu_path_create(at("a", ""), &f, &err) == MUSTER_EIO && !f &&
               strstr(err.text, "Is a directory"),
           "nor what has no name, nor a directory");
    TAP_OK(mu_path_create(at("a/g", ""), &f, &err) == 0 && fputs("\xef\xbb\xbfyes", f) > 0 && fclose(f) == 0,
           "a file is");
    char link_to[PATH_MAX];
    snprintf(link_to, sizeof link_to, "%s", at("a/link", ""));
    TAP_OK(!symlink("g", link_to) && mu_path_same_file(link_to, at("a/g", "")) &&
               !mu_path_same_file(link_to, at("a/fifo", "")) && !mu_path_same_file("", "") && !unlink(link_to),
           "one file by two names");
    struct stat st = {0};
    int fd = mu_path_open_regular(at("a/g", ""), O_NOFOLLOW, &st, &err);
    TAP_OK(fd >= 0 && st.st_size == 6 && close(fd) == 0, "a regular file is opened, and looked at");
    TAP_OK(!symlink("g", link_to) && mu_path_open_regular(link_to, O_NOFOLLOW, &st, NULL) < 0 && errno == ELOOP &&
               (fd = mu_path_open_regular(link_to, 0, NULL, NULL)) >= 0 && !close(fd) && !unlink(link_to),
           "by a link only where that may be");
    TAP_OK(mu_path_open_regular(at("a/fifo", ""), 0, &st, &err) == MUSTER_EARG && errno == EINVAL &&
               mu_path_open_regular("", 0, NULL, NULL) == MUSTER_EARG && errno == EINVAL &&
               mu_path_open_regular(at("a/none", ""), 0, NULL, NULL) < 0 && errno == ENOENT,
           "and what is none is told from what is not there");
    TAP_OK(!strcmp(mu_buf_str(&b), "bye") && !unlink(at("a/fifo", "")), "the buffer is as it was then");
    mu_buf_clear(&b);
    TAP_OK(mu_path_read_text(at("a/g", ""), 9, &b, &err) == 0 && b.len == 3 && !strcmp(mu_buf_str(&b), "yes"),
           "text has no byte-order mark");
    mu_buf_clear(&b);
    TAP_OK(mu_path_write_atomic(at("a/g", ""), "y\0s", 3, 0600, &err) == 0 &&
               mu_path_read_text(at("a/g", ""), 9, &b, &err) == MUSTER_EARG && strstr(err.text, "is not text"),
           "nor zero bytes");
    TAP_OK(mu_path_write_atomic(at("none/f", ""), "x", 1, 0600, &err) < 0, "write_atomic without a directory");
    TAP_OK(mu_path_write_atomic(at("a/b", ""), "x", 1, 0600, &err) < 0 && temps(at("a", "")) == 0,
           "write_atomic onto a directory");
    mu_buf_clear(&b);
    TAP_OK(mu_path_read("/proc/self/stat", 8192, &b, &err) == 0 && b.len > 20, "read of a /proc file");
}

static void removal(void)
{
    TAP_OK(mu_path_mkdirs(at("outside/keep", ""), 0700, &err) == 0 &&
               mu_path_mkdirs(at("t/x/y", ""), 0700, &err) == 0 &&
               symlink(at("outside", ""), at("t/x/link", "")) == 0 && symlink("nowhere", at("t/dangling", "")) == 0 &&
               mkfifo(at("t/fifo", ""), 0600) == 0,
           "a tree with links in it");
    TAP_OK(mu_path_remove_tree(at("t", ""), &err) == 0 && !exists(at("t", "")), "remove_tree removes it");
    TAP_OK(exists(at("outside/keep", "")), "but not what a link points to");
    TAP_OK(symlink(at("outside", ""), at("l", "")) == 0 && mu_path_remove_tree(at("l", ""), &err) == 0 &&
               !exists(at("l", "")) && exists(at("outside/keep", "")),
           "a link itself is removed, not followed");
    TAP_OK(mu_path_remove_tree(at("t", ""), &err) == 0, "what is not there is no error");
    char deep[1024];
    snprintf(deep, sizeof deep, "%s/deep", top);
    for (int i = 0; i < 70; i++)
        strcat(deep, "/d");
    TAP_OK(mu_path_mkdirs(deep, 0700, &err) == 0 && mu_path_remove_tree(at("deep", ""), &err) == MUSTER_EARG &&
               strstr(err.text, "levels"),
           "remove_tree refuses to go deeper than 64 levels");
    char *cut = deep + strlen(top) + 5 + 2 * 30;
    *cut = 0;
    TAP_OK(mu_path_remove_tree(deep, &err) == 0 && mu_path_remove_tree(at("deep", ""), &err) == 0,
           "in two goes it works");
    TAP_OK(mu_path_remove_tree("/proc/self", &err) < 0, "what cannot be removed is an error");
}

static void sockets(void)
{
    char dir[PATH_MAX];
    struct sockaddr_un sa;
    socklen_t len;
    int dirfd = 99;

    TAP_OK(mu_path_sockaddr(top, "s", &sa, &len, &dirfd, &err) == 0 && dirfd == -1 && !strncmp(sa.sun_path, top, 10),
           "a short path is taken as it is");
    snprintf(dir, sizeof dir, "%s/", top);
    memset(dir + strlen(dir), 'l', 150);
    dir[strlen(top) + 1 + 150] = 0;
    TAP_OK(mu_path_mkdirs(dir, 0700, &err) == 0, "a directory with a long name");
    int rc = mu_path_sockaddr(dir, "sock", &sa, &len, &dirfd, &err);
    TAP_OK(rc == 0 && dirfd >= 0 && (fcntl(dirfd, F_GETFD) & FD_CLOEXEC), "a long path goes through a descriptor");
    mu_auto_fd int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    TAP_OK(bind(s, (struct sockaddr *)&sa, len) == 0 && listen(s, 1) == 0, "bind");
    close(dirfd);
    struct stat st;
    char sock[PATH_MAX + 8];
    snprintf(sock, sizeof sock, "%s/sock", dir);
    TAP_OK(stat(sock, &st) == 0 && S_ISSOCK(st.st_mode), "the socket is where it belongs");
    mu_auto_fd int c = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    rc = mu_path_sockaddr(dir, "sock", &sa, &len, &dirfd, &err);
    TAP_OK(rc == 0 && connect(c, (struct sockaddr *)&sa, len) == 0, "connect");
    close(dirfd);
    dirfd = 99;
    TAP_OK(mu_path_sockaddr(dir, "a/b", &sa, &len, &dirfd, &err) == MUSTER_EARG &&
               mu_path_sockaddr(dir, "", &sa, &len, &dirfd, &err) == MUSTER_EARG && dirfd == 99,
           "names only");
    strcat(dir, "x");
    TAP_OK(mu_path_sockaddr(dir, "s", &sa, &len, &dirfd, &err) < 0 && dirfd == 99,
           "a long directory that is not there");
    for (len = 0; len < 120; len++)
        sock[len] = 'n';
    sock[len] = 0;
    TAP_OK(mu_path_sockaddr(top, sock, &sa, &len, &dirfd, &err) == MUSTER_EARG && dirfd == 99,
           "a name that never fits");
}

static void locks(void)
{
    const char *path = at("lock", "");
    int ready[2], go[2];
    char c;

    if (pipe2(ready, O_CLOEXEC) < 0 || pipe2(go, O_CLOEXEC) < 0)
        return;
    pid_t pid = fork();
    if (pid == 0) {
        close(go[1]);
        int fd = mu_path_lock(path, 0, NULL);
        c = fd >= 0;
        if (write(ready[1], &c, 1) == 1 && read(go[0], &c, 1) >= 0 && fd >= 0)
            unlink(path);
        _exit(0); /* the lock goes with the process */
    }
    TAP_OK(read(ready[0], &c, 1) == 1 && c == 1, "a child takes the lock");
    char want[64];
    snprintf(want, sizeof want, "is held by process %ld", (long)pid);
    uint64_t t = mu_now();
    TAP_OK(mu_path_lock(path, 0, &err) == MUSTER_ETIMEOUT && strstr(err.text, want), "we cannot, and hear who has it");
    TAP_OK(mu_path_lock(path, 60, &err) == MUSTER_ETIMEOUT && mu_now() - t >= 60 * MU_MS, "waiting is bounded");
    close(go[1]);
    int fd = mu_path_lock(path, 5000, &err);
    TAP_OK(fd >= 0 && (fcntl(fd, F_GETFD) & FD_CLOEXEC), "we get it when the child has ended");
    struct stat a, b;
    TAP_OK(fstat(fd, &a) == 0 && stat(path, &b) == 0 && a.st_ino == b.st_ino,
           "and it is the file that others see, though the holder removed its own");
    waitpid(pid, NULL, 0);
    close(fd);
    fd = mu_path_lock(path, 0, &err);
    TAP_OK(fd >= 0, "free again after close");
    close(fd);
    TAP_OK(symlink("lock", at("locklink", "")) == 0 && mu_path_lock(at("locklink", ""), 0, &err) < 0,
           "a lock is no symbolic link");
    close(ready[0]);
    close(ready[1]);
    close(go[0]);
}

/* A fresh MUSTER_HOME and MUSTER_RUN_ROOT; returns the result of mu_paths_init. */
static int init(struct mu_paths *p)
{
    memset(p, 0, sizeof *p);
    memset(&err, 0, sizeof err);
    return mu_paths_init(p, &err);
}

static bool same(const struct mu_paths *a, const struct mu_paths *b)
{
    return !strcmp(a->home, b->home) && !strcmp(a->state, b->state) && !strcmp(a->run, b->run) &&
           !strcmp(a->host, b->host) && a->pool_hash == b->pool_hash;
}

static void pool(void)
{
    struct mu_paths p, q, f;
    char host[65], saved[PATH_MAX];

    mu_path_host(host);
    setenv("MUSTER_HOME", at("home//", ""), 1);
    setenv("MUSTER_RUN_ROOT", at("run", ""), 1);
    TAP_OK(mu_paths_find(&f, &err) == 0 && !exists(at("home", "")) && !exists(at("run", "")),
           "what only looks for the directories makes none");
    setenv("MUSTER_HOME", at("home", ""), 1);
    TAP_OK(init(&p) == 0 && !strcmp(p.host, host) && !strcmp(p.state, at("home/%s", host)) && mode(p.state) == 0700,
           "the state directory is MUSTER_HOME/HOST, made 0700");
    TAP_OK(!strcmp(p.home, at("home", "")), "MUSTER_HOME itself is what hosts share");
    snprintf(saved, sizeof saved, "%s/run/%s/%08x", top, host, p.pool_hash);
    TAP_OK(!strcmp(p.run, saved) && mode(p.run) == 0700 && mode(at("run/%s", host)) == 0700 &&
               mode(at("run", "")) == 0700,
           "the run directory is ROOT/HOST/HASH, 0700 at every level");
    TAP_OK(same(&f, &p), "and has said where they would be");
    TAP_OK(init(&q) == 0 && !strcmp(p.run, q.run) && p.pool_hash == q.pool_hash, "the same again");
    TAP_OK(mu_paths_find(&f, &err) == 0 && same(&f, &p), "and where they are");
    symlink(at("home", ""), at("alias", ""));
    setenv("MUSTER_HOME", at("alias", ""), 1);
    TAP_OK(init(&q) == 0 && !strcmp(p.state, q.state) && p.pool_hash == q.pool_hash && !strcmp(p.home, q.home),
           "by another path the same pool");
    setenv(MU_PATHS_JOINED, "0011aabb", 1);
    TAP_OK(init(&q) == 0 && !strcmp(q.state, at("home/%s/joined-0011aabb", host)) && !strcmp(q.home, p.home) &&
               q.pool_hash != p.pool_hash && strcmp(p.run, q.run) && mode(q.state) == 0700,
           "an agent of another host's pool does not meet this host's");
    mu_path_rundir_cleanup(&q, &err);
    setenv(MU_PATHS_JOINED, "../x", 1);
    TAP_OK(init(&q) == MUSTER_EARG && strstr(err.text, MU_PATHS_JOINED), "what is no such name is refused");
    unsetenv(MU_PATHS_JOINED);
    setenv("MUSTER_HOME", at("home2", ""), 1);
    TAP_OK(init(&q) == 0 && p.pool_hash != q.pool_hash && strcmp(p.run, q.run), "another home is another pool");

    TAP_OK(mu_path_write_atomic(at("run/x", ""), "", 0, 0600, &err) == 0 && mu_path_rundir_cleanup(&q, &err) == 0 &&
               !exists(q.run) && exists(p.run),
           "clean-up removes one pool's run directory and leaves the other's");
    TAP_OK(mu_path_rundir_cleanup(&p, &err) == 0 && !exists(at("run/%s", host)) && exists(at("run", "")),
           "then the empty parent, but not MUSTER_RUN_ROOT");
    TAP_OK(mu_path_rundir_cleanup(&p, &err) == 0, "clean-up twice");

    setenv("MUSTER_HOME", at("home", ""), 1);
    mkdir(at("elsewhere", ""), 0700);
    symlink(at("elsewhere", ""), at("run/%s", host));
    TAP_OK(init(&q) == MUSTER_EIO && strstr(err.text, "is a symbolic link") && !q.state[0],
           "a symbolic link in the way is refused: nothing is set");
    unlink(at("run/%s", host));
    mkdir(at("run/%s", host), 0700);
    chmod(at("run/%s", host), 0770);
    TAP_OK(init(&q) == MUSTER_EIO && strstr(err.text, "can be written by others (mode 0770)"),
           "a group-writable level");
    chmod(at("run/%s", host), 01777);
    TAP_OK(init(&q) == MUSTER_EIO && strstr(err.text, "mode 1777"), "a world-writable level");
    rmdir(at("run/%s", host));
    mu_path_write_atomic(at("run/%s", host), "", 0, 0600, &err);
    TAP_OK(init(&q) == MUSTER_EIO && strstr(err.text, "is not a directory"), "a file in the way");
    TAP_OK(mu_paths_find(&q, &err) == MUSTER_EIO && strstr(err.text, "is not a directory"), "found there, too");
    unlink(at("run/%s", host));
    if (geteuid() == 0) {
        mkdir(at("run/%s", host), 0700);
        if (chown(at("run/%s", host), 12345, 12345) == 0)
            TAP_OK(init(&q) == MUSTER_EIO && strstr(err.text, "belongs to user 12345"), "somebody else's level");
        rmdir(at("run/%s", host));
        chown(at("home/%s", host), 12345, 12345);
        TAP_OK(init(&q) == MUSTER_EIO && strstr(err.text, "set MUSTER_HOME"), "somebody else's state");
        chown(at("home/%s", host), 0, 0);
    } else {
        TAP_SKIP("needs root to plant another user's directory");
        rmdir(at("home/%s", host));
        chmod(at("home", ""), 0500);
        TAP_OK(init(&q) < 0 && strstr(err.text, "state directory"), "a home that cannot be written");
        chmod(at("home", ""), 0700);
        mkdir(at("home/%s", host), 0700);
    }
    chmod(at("home/%s", host), 0777);
    TAP_OK(init(&q) == MUSTER_EIO && strstr(err.text, "state directory: "), "a state that others can write");
    TAP_OK(mu_paths_find(&q, &err) == MUSTER_EIO && strstr(err.text, "state directory: "), "also for who only looks");
    chmod(at("home/%s", host), 0700);

    setenv("MUSTER_RUN_ROOT", "relative", 1);
    TAP_OK(init(&q) == MUSTER_EARG && strstr(err.text, "absolute"), "a relative run root");
    setenv("MUSTER_RUN_ROOT", at("no/such", ""), 1);
    TAP_OK(init(&q) < 0 && strstr(err.text, "cannot create directory"), "a run root without a parent");
    setenv("MUSTER_RUN_ROOT", at("run", ""), 1);

    unsetenv("MUSTER_HOME");
    setenv("XDG_STATE_HOME", at("xdg", ""), 1);
    TAP_OK(init(&q) == 0 && !strcmp(q.state, at("xdg/muster/%s", host)), "XDG_STATE_HOME");
    unsetenv("XDG_STATE_HOME");
    setenv("HOME", at("user", ""), 1);
    TAP_OK(init(&q) == 0 && !strcmp(q.state, at("user/.local/state/muster/%s", host)), "HOME, made as needed");
}

/* Many processes start at once while others clean up. */
static void races(void)
{
    int bad = 0;
    pid_t pids[6];

    setenv("MUSTER_HOME", at("race", ""), 1);
    setenv("MUSTER_RUN_ROOT", at("racerun", ""), 1);
    mkdir(at("racerun", ""), 0700);
    for (size_t i = 0; i < MU_COUNT(pids); i++)
        if ((pids[i] = fork()) == 0) {
            struct mu_paths p;
            int failed = 0;
            for (int k = 0; k < 100; k++)
                failed |= mu_paths_init(&p, NULL) < 0 || mu_path_rundir_cleanup(&p, NULL) < 0;
            _exit(failed);
        }
    for (size_t i = 0; i < MU_COUNT(pids); i++) {
        int status = 1;
        waitpid(pids[i], &status, 0);
        bad += status != 0;
    }
    TAP_OK(bad == 0, "starting and cleaning up at once never fails");
}

int main(void)
{
    char exe[PATH_MAX];

    const char *tmp = getenv("TMPDIR");
    snprintf(top, sizeof top, "%s/base-path-XXXXXX", tmp && strlen(tmp) < 40 ? tmp : "/tmp");
    if (!mkdtemp(top))
        return 1;
    umask(022);
    TAP_OK(mu_path_exe(exe, sizeof exe, &err) == 0 && strstr(exe, "/base_path"), "our own binary");
    TAP_OK(mu_path_exe(exe, 3, &err) == MUSTER_EARG, "into a buffer that is too small");
    TAP_OK(mu_path_join(exe, sizeof exe, "/a", "b", &err) == 0 && !strcmp(exe, "/a/b"), "join");
    TAP_OK(mu_path_join(exe, 4, "/a", "b", &err) == MUSTER_EARG, "join that does not fit");
    files();
    removal();
    sockets();
    locks();
    pool();
    races();
    TAP_OK(mu_path_remove_tree(top, &err) == 0 && !exists(top), "all gone");
    return tap_done();
}
