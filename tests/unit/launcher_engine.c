/* Engines: what the ssh engine says, what it makes of the answers, and whole starts by a fake ssh that fails in every
 * way. This program is also the `muster` that the fake hosts run. */
#include "launcher/engine.h"

#include <dirent.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "launcher/engine_ssh.h"
#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/str.h"
#include "runtime/wire/daemon.h"
#include "tests/unit/tap.h"

static struct event_base *base;
static struct mu_starter *starter;
static struct mu_paths paths;
static struct mu_key key;
static char top[] = "/tmp/muster-test-engine-XXXXXX", fake[PATH_MAX];
static int listening_rc;

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
    for (uint64_t end_ = mu_now() + 60 * MU_SEC; !(cond) && mu_now() < end_;)                                          \
    spin(2)

/* --- the muster on the other side ----------------------------------------------------------------------------------
 */

/* Writes down what it was given. */
static int be_agent(int argc, char **argv)
{
    const char *dir = getenv("FAKE_DIR"), *node = "?";
    char path[PATH_MAX], line[200] = "";
    ssize_t n = read(0, line, sizeof line - 1);

    for (int i = 1; i + 1 < argc; i++)
        if (!strcmp(argv[i], "--node"))
            node = argv[i + 1];
    snprintf(path, sizeof path, "%s/%s", dir ? dir : "/nowhere", node);
    mu_auto_file FILE *f = fopen(path, "w");
    if (!f)
        return 3;
    fprintf(f, "exe %s\nargs", argv[0]);
    for (int i = 1; i < argc; i++)
        fprintf(f, " %s", argv[i]);
    fprintf(f, "\nMUSTER_HOME=%s\nSSH_AUTH_SOCK=%s\nkey %.*s", getenv("MUSTER_HOME") ? getenv("MUSTER_HOME") : "",
            getenv("SSH_AUTH_SOCK") ? getenv("SSH_AUTH_SOCK") : "", (int)(n > 0 ? n : 0), line);
    return 0;
}

/* --- words -------------------------------------------------------------------------------------------------------- */

static void joined(char *const *v, char *out, size_t n)
{
    out[0] = 0;
    for (; v && *v; v++)
        snprintf(out + strlen(out), n - strlen(out), "[%s]", *v);
}

static void words(void)
{
    static const struct {
        const char *in, *out;
    } rows[] = {
        {"ssh", "[ssh]"},
        {"  ssh  -p 22\t", "[ssh][-p][22]"},
        {"'a b' \"c d\"e\\ f", "[a b][c de f]"},
        {"a''b \"\" ''", "[ab][][]"},
        {"\"a\\\"b\\n\" 'c\\d'", "[a\"b\\n][c\\d]"},
        {"$HOME ~ *", "[$HOME][~][*]"},
        {"'open", NULL},
        {"\"open", NULL},
        {"back\\", NULL},
        {"", NULL},
        {" \t", NULL},
    };
    char text[200];

    for (size_t i = 0; i < MU_COUNT(rows); i++) {
        struct mu_err err = {0};
        char **v = NULL;
        int rc = mu_str_words(rows[i].in, &v, &err);
        joined(v, text, sizeof text);
        TAP_OK(rows[i].out ? !rc && !strcmp(text, rows[i].out) : rc == MUSTER_EARG && err.text[0] && !v,
               "words of <%s>: %s", rows[i].in, rc ? err.text : text);
        mu_strv_free(v);
    }
}

static void commands(void)
{
    struct mu_err err = {0};
    char text[400], **v = NULL;
    char *env[] = {(char[]){"MUSTER_HOME=/a b"}, NULL}, *args[] = {(char[]){"agent"}, (char[]){"it's"}, NULL};
    struct mu_buf b = {0};

    mu_ssh_argv("/usr/bin/ssh -F 'my file'", "user@h1", "CMD", &v, &err);
    joined(v, text, sizeof text);
    TAP_OK(!strcmp(text, "[/usr/bin/ssh][-F][my file][-x][-o][BatchMode=yes][-o][ConnectTimeout=10][user@h1][CMD]"),
           "ssh does not ask and does not wait: %s", text);
    mu_strv_free(v);
    mu_ssh_argv("rsh -n", "h1", "CMD", &v, &err);
    joined(v, text, sizeof text);
    TAP_OK(!strcmp(text, "[rsh][-n][h1][CMD]"), "another command gets no options: %s", text);
    mu_strv_free(v);
    TAP_OK(mu_ssh_argv("'x", "h", "c", &v, &err) == MUSTER_EARG && strstr(err.text, "--ssh"), "%s", err.text);

    mu_ssh_remote_start(&b, "/x y/muster", "1-abc", env, args);
    mu_buf_puts(&b, "; exit 7");
    static const char *const shells[] = {"sh", "bash", "dash", "csh", "tcsh", "fish", "zsh", "ksh"};
    unsigned tried = 0, good = 0;
    for (size_t i = 0; i < MU_COUNT(shells); i++) {
        char *argv[] = {(char *)(uintptr_t)shells[i], (char[]){"-c"}, b.data, NULL};
        pid_t pid = fork();
        if (!pid) {
            setenv("HOME", "/nonexistent", 1);
            unsetenv("XDG_CACHE_HOME");
            execvp(shells[i], argv);
            _exit(111);
        }
        int status = 0;
        waitpid(pid, &status, 0);
        if (WIFEXITED(status) && WEXITSTATUS(status) == 111)
            continue;
        tried++;
        good += WIFEXITED(status) && WEXITSTATUS(status) == MU_SSH_NO_BINARY;
    }
    TAP_OK(tried && tried == good, "%u login shells run the command as meant", tried);
    mu_buf_free(&b);
}

static void explanations(void)
{
    static const struct {
        int status;
        const char *said, *text;
    } rows[] = {
        {255 << 8, "ssh: Could not resolve hostname h9: Name or service not known\r\n",
         "host h9: ssh: Could not resolve hostname h9: Name or service not known; check -H or ~/.ssh/config"},
        {255 << 8, "*** no entry ***\nroot@h9: Permission denied (publickey,password).\n",
         "host h9: root@h9: Permission denied (publickey,password); ssh must get in without asking: ssh-copy-id h9, "
         "or "
         "start ssh-agent"},
        {255 << 8, "ssh: connect to host h9 port 22: Connection refused\n",
         "host h9: ssh: connect to host h9 port 22: Connection refused; no sshd answers there: start it, or give its "
         "Port in ~/.ssh/config"},
        {255 << 8, "ssh: connect to host h9 port 22: No route to host\n",
         "host h9: ssh: connect to host h9 port 22: No route to host; is the host up?"},
        {255 << 8, "No ED25519 host key is known for h9\nHost key verification failed.\n",
         "host h9: Host key verification failed; accept its key once: ssh h9 true"},
        {255 << 8, "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.\n",
         "host h9: its key is another one than known_hosts has; if the host was set up anew: ssh-keygen -R h9"},
        {255 << 8, "Connection closed by 10.0.0.9 port 22\n\n",
         "host h9: Connection closed by 10.0.0.9 port 22; see what happens by hand: ssh h9 true"},
        {255 << 8, "", "host h9: ssh ended with exit code 255 and said nothing; see what happens by hand: ssh h9 true"},
        {127 << 8, "/x/muster: error while loading shared libraries: libhwloc.so.15: cannot open shared object file\n",
         "host h9: /x/muster: error while loading shared libraries: libhwloc.so.15: cannot open shared object file; "
         "install the package of that library there"},
        {126 << 8, "env: '/x/muster': Exec format error\n",
         "host h9: env: '/x/muster': Exec format error; that host is of another kind: build muster there, and have it "
         "in "
         "the same place"},
        {126 << 8, "env: '/x/muster': Permission denied\n",
         "host h9: muster cannot be run there: env: '/x/muster': Permission denied; install it in the same place as "
         "here"},
        {MU_SSH_NO_COPY << 8, "mkdir: cannot create directory '/ro': Read-only file system\n",
         "host h9: muster cannot be copied there: mkdir: cannot create directory '/ro': Read-only file system; install "
         "it in the same place as here"},
        {1 << 8, "muster agent: cannot connect to 10.0.0.1:4711: Connection refused\n",
         "host h9: cannot connect to 10.0.0.1:4711: Connection refused; that host must get through to the controller's "
         "port: see MUSTER_LISTEN"},
        {2 << 8, "muster agent: this host is in the pool already, as h8: name it once\n",
         "host h9: this host is in the pool already, as h8: name it once"},
        {9, "", "host h9: ssh was killed by signal 9"},
        {255 << 8, "\x1b[31mred\n", "host h9: \\x1b[31mred; see what happens by hand: ssh h9 true"},
    };

    for (size_t i = 0; i < MU_COUNT(rows); i++) {
        mu_auto_buf struct mu_buf b = {0};
        mu_ssh_explain(&b, "ssh", "h9", &(struct mu_child_end){.status = rows[i].status, .said = rows[i].said}, 30);
        TAP_OK(!strcmp(mu_buf_str(&b), rows[i].text), "%s", mu_buf_str(&b));
    }
    mu_auto_buf struct mu_buf b = {0};
    char line[MU_KEY_TEXT], said[400];
    mu_key_format(&key, line);
    snprintf(said, sizeof said, "%.30s%s twice %s", line + 20, line, line);
    mu_ssh_hide(said, line);
    bool hidden = true;
    for (size_t i = 0; i + 16 <= strlen(line); i++)
        hidden = hidden && !memmem(said, strlen(said), line + i, 16);
    TAP_OK(hidden && strstr(said, " twice *"), "no part of the key stays in what ssh said: %s", said);
    mu_ssh_explain(&b, "ssh", "h9", &(struct mu_child_end){.status = 9, .late = true, .said = ""}, 30);
    TAP_OK(strstr(mu_buf_str(&b), "host h9: no answer within 30 s"), "%s", mu_buf_str(&b));
}

/* --- whole starts --------------------------------------------------------------------------------------------------
 */

static const char script[] =
    "#!/bin/sh\n"
    "dest=$1 HOME=$FAKE_DIR/home-$1 XDG_CACHE_HOME=; export HOME XDG_CACHE_HOME; mkdir -p $HOME\n"
    "case $dest in\n"
    "unknown) echo \"ssh: Could not resolve hostname unknown: Name or service not known\" >&2; exit 255;;\n"
    "refused) echo \"ssh: connect to host refused port 22: Connection refused\" >&2; exit 255;;\n"
    "nokey) echo banner >&2; echo \"nokey: Permission denied (publickey).\" >&2; exit 255;;\n"
    "changed) echo \"REMOTE HOST IDENTIFICATION HAS CHANGED\" >&2; echo Host key verification failed. >&2; exit 255;;\n"
    "hang) echo $$ >$FAKE_DIR/hang; sleep 1000 & echo $! >$FAKE_DIR/hang.own; wait;;\n"
    "deaf) exec 0<&-; sleep 0.2; echo \"muster agent: no pool key came: the input ended\" >&2; exit 2;;\n"
    "nodisk) sh -c \"$(echo \"$2\" | sed s,$FAKE_EXE,/nonexistent,; HOME=/dev/null/x)\";;\n"
    "full) case $2 in *wc*) echo 'cat: write error: No space left on device' >&2; exit 91;; *) exit 90;; esac;;\n"
    "bare*) sh -c \"$(echo \"$2\" | sed s,$FAKE_EXE,/nonexistent,)\";;\n"
    "many*) touch $FAKE_DIR/at.$dest; ls $FAKE_DIR | grep -c '^at' >>$FAKE_DIR/count; sleep 0.05; rm "
    "$FAKE_DIR/at.$dest;;\n"
    "again) if mkdir $FAKE_DIR/first 2>/dev/null; then sleep 0.5; echo timed out >&2; exit 255; fi; sleep 1; sh -c "
    "\"$2\";;\n"
    "chatty) head -c 100000 /dev/zero | tr '\\0' 'x' >&2; echo >&2; echo the end >&2; exit 255;;\n"
    "*) sh -c \"$2\";;\n"
    "esac\n";

static struct {
    char node[64], text[400];
    int status;
} ends[600];
static unsigned nends;
static bool joins = true; /* the agents that are started */

static void on_done(void *arg, const char *node, int status, const char *text)
{
    (void)arg;
    snprintf(ends[nends].node, sizeof ends[nends].node, "%s", node);
    snprintf(ends[nends].text, sizeof ends[nends].text, "%s", text);
    ends[nends++].status = status;
}

static int on_listening(void *arg, const char **join, const struct mu_key **k, struct mu_err *err)
{
    (void)arg;
    *join = "10.0.0.1,[fd00::1]:4711";
    *k = &key;
    return listening_rc ? mu_err_set(err, listening_rc, "no port is free") : 0;
}

static void on_sigchld(evutil_socket_t fd, short what, void *arg)
{
    int status;
    pid_t pid;

    (void)fd, (void)what, (void)arg;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        if (starter)
            mu_starter_reaped(starter, pid, status);
}

static void begin(const char *node, const char *dest, const char *ssh, const char *engine)
{
    char sock[] = "SSH_AUTH_SOCK=/the/agent", *env[] = {sock, NULL};

    mu_starter_start(starter, &(struct mu_start_request){
                                  .node = node, .dest = dest, .ssh = ssh, .engine = engine, .env = env, .job = 7});
}

/* Its text; one start at a time. */
static const char *start(const char *dest, int *status)
{
    unsigned was = nends;

    begin(dest, dest, fake, NULL);
    SPIN_UNTIL((joins ? mu_starter_joined(starter, dest) : (void)0, nends > was));
    *status = nends > was ? ends[was].status : 99;
    return nends > was ? ends[was].text : "nothing";
}

static const char *slurp(const char *name)
{
    static struct mu_buf b;
    char path[PATH_MAX];

    mu_buf_clear(&b);
    snprintf(path, sizeof path, "%s/%s", top, name);
    mu_path_read(path, 1 << 20, &b, NULL);
    return mu_buf_str(&b);
}

static void new_starter(unsigned fan_out, uint64_t limit)
{
    struct mu_starter_config cfg = {
        .paths = &paths, .fan_out = fan_out, .limit_ns = limit, .listening = on_listening, .done = on_done};

    starter = mu_starter_new(base, &cfg);
}

static void starts(void)
{
    char want[400], line[MU_KEY_TEXT];
    const char *text;
    int status;

    new_starter(64, 20 * MU_SEC);
    text = start("user@h1", &status);
    TAP_OK(!status, "an agent is started%s", text);
    text = slurp("user@h1");
    snprintf(want, sizeof want,
             "args agent --join 10.0.0.1,[fd00::1]:4711 --pool %08x --owner 7 --node user@h1 --key-fd 0 --detach\n",
             paths.pool_hash);
    TAP_OK(strstr(text, want), "it is told how to join and what it is called");
    snprintf(want, sizeof want, "MUSTER_HOME=%s\n", top);
    TAP_OK(strstr(text, want), "and where its home is");
    mu_key_format(&key, line);
    snprintf(want, sizeof want, "key %s", line);
    TAP_OK(strstr(text, want), "the key comes through its standard input");
    TAP_OK(strstr(text, "SSH_AUTH_SOCK=/the/agent\n"), "ssh has the submitter's agent");

    static const struct {
        const char *dest, *want;
    } rows[] = {
        {"unknown", "host unknown: ssh: Could not resolve hostname unknown: Name or service not known; check -H"},
        {"refused", "host refused: ssh: connect to host refused port 22: Connection refused; no sshd answers"},
        {"nokey", "host nokey: nokey: Permission denied (publickey); ssh must get in without asking"},
        {"changed", "host changed: its key is another one than known_hosts has; if"},
        {"deaf", "host deaf: no pool key came: the input ended"},
        {"full", "host full: cat: write error: No space left on device; make room there"},
        {"chatty", "host chatty: the end; see what happens by hand"},
    };
    for (size_t i = 0; i < MU_COUNT(rows); i++) {
        text = start(rows[i].dest, &status);
        TAP_OK(status && !strncmp(text, rows[i].want, strlen(rows[i].want)), "%s", text);
    }

    text = start("bare", &status);
    TAP_OK(!status, "a host without muster gets a copy%s", text);
    text = slurp("bare");
    snprintf(want, sizeof want, "exe %s/home-bare/.cache/muster/" MUSTER_VERSION "-", top);
    TAP_OK(!strncmp(text, want, strlen(want)), "which is what runs there: %.*s", (int)strcspn(text, "\n"), text);
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%.*s", (int)strcspn(text + 4, "\n"), text + 4);
    struct stat a, b;
    TAP_OK(!stat(path, &a) && !stat("/proc/self/exe", &b) && a.st_size == b.st_size && (a.st_mode & 0777) == 0700,
           "it is whole, and ours alone");
    *strrchr(path, '/') = 0;
    unsigned entries = 0;
    mu_auto_dir DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));)
        entries += e->d_name[0] != '.';
    TAP_OK(entries == 1, "nothing else is left there");
    uint64_t inode = a.st_ino;
    strcat(path, "/muster");
    start("bare", &status);
    TAP_OK(!status && !stat(path, &a) && a.st_ino == inode, "the next time it is found");

    unsigned before = nends;
    begin("again", "again", fake, NULL);
    spin(200);
    text = start("again", &status);
    TAP_OK(!status && nends == before + 1, "a host asked for again is not lost with what was tried before: %s", text);

    begin("n", "n", "/no/such/ssh", NULL);
    begin("q", "q", "'x", NULL);
    unsigned was = nends;
    SPIN_UNTIL(nends == was + 2);
    TAP_OK(strstr(ends[was].text, "host n: cannot run /no/such/ssh: No such file or directory"), "%s", ends[was].text);
    TAP_OK(strstr(ends[was + 1].text, "host q: --ssh (MUSTER_SSH): a quote is not closed: 'x") &&
               !strstr(ends[was + 1].text, "OpenSSH"),
           "%s", ends[was + 1].text);
    listening_rc = MUSTER_EIO;
    text = start("h2", &status);
    TAP_OK(status && strstr(text, "no port is free"), "%s", text);
    listening_rc = 0;
    begin("h3", "h3", NULL, "hand");
    was = nends;
    SPIN_UNTIL(nends > was);
    TAP_OK(ends[was].status && strstr(ends[was].text, "muster agent --join 10.0.0.1,[fd00::1]:4711 --node h3"), "%s",
           ends[was].text);
    begin("h4", "h4", NULL, "local");
    was = nends;
    SPIN_UNTIL(nends > was);
    TAP_OK(!ends[was].status, "this host has its agent anyhow");
    mu_starter_free(starter);
}

static bool dead(const char *pid)
{
    char path[64];
    struct stat st;

    snprintf(path, sizeof path, "/proc/%.*s", (int)strcspn(pid, "\n"), pid);
    return stat(path, &st) != 0;
}

static void all_join(int n)
{
    for (int i = 0; i < n; i++) {
        char node[16];
        snprintf(node, sizeof node, "many%d", i);
        mu_starter_joined(starter, node);
    }
}

static void limits(void)
{
    const char *text;
    int status;

    new_starter(4, MU_SEC);
    uint64_t t0 = mu_now();
    text = start("hang", &status);
    TAP_OK(status && strstr(text, "host hang: no answer within 1 s") && mu_now() - t0 < 20 * MU_SEC, "%s", text);
    TAP_OK(*slurp("hang") && dead(slurp("hang")), "what hangs is killed");
    joins = false;
    text = start("h8", &status);
    TAP_OK(status && strstr(text, "host h8: ") && strstr(text, "ended well, but no agent has come"), "%s", text);
    joins = true;
    mu_starter_free(starter);

    new_starter(4, 20 * MU_SEC);
    unsigned was = nends;
    for (int i = 0; i < 40; i++) {
        char node[16];
        snprintf(node, sizeof node, "many%d", i);
        begin(node, node, fake, NULL);
    }
    SPIN_UNTIL((all_join(40), nends == was + 40));
    unsigned most = 0, bad = 0;
    for (const char *p = slurp("count"); *p; p += strcspn(p, "\n") + 1) {
        unsigned n = (unsigned)strtoul(p, NULL, 10);
        most = n > most ? n : most;
    }
    for (unsigned i = was; i < nends; i++)
        bad += ends[i].status != 0;
    TAP_OK(nends == was + 40 && !bad && most > 1 && most <= 4, "40 hosts are started, 4 at a time (%u seen)", most);
    begin("hang", "hang", fake, NULL);
    begin("many0", "many0", fake, NULL);
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/hang", top);
    unlink(path);
    SPIN_UNTIL(*slurp("hang"));
    mu_starter_free(MU_STEAL(starter, NULL));
    SPIN_UNTIL(dead(slurp("hang")));
    TAP_OK(dead(slurp("hang")), "a controller that ends takes its ssh with it");
}

static unsigned marks(void)
{
    mu_auto_dir DIR *d = opendir(paths.run);
    unsigned n = 0;

    for (struct dirent *e; d && (e = readdir(d));)
        n += !strncmp(e->d_name, "child.", 6);
    return n;
}

static void killed(void)
{
    char path[PATH_MAX];

    TAP_OK(!marks(), "no process that has ended is still written down");
    snprintf(path, sizeof path, "%s/hang.own", top);
    unlink(path);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    pid_t pid = fork();
    if (!pid) {
        base = mu_loop_new();
        new_starter(4, 100 * MU_SEC);
        begin("hang", "hang", fake, NULL);
        spin(100000);
        _exit(0);
    }
    SPIN_UNTIL(*slurp("hang.own") && marks() == 1);
    kill(pid, SIGKILL);
    SPIN_UNTIL(dead(slurp("hang")));
    TAP_OK(dead(slurp("hang")), "a controller that is killed takes its ssh with it");
    new_starter(4, MU_SEC);
    SPIN_UNTIL(dead(slurp("hang.own")));
    TAP_OK(dead(slurp("hang.own")) && !marks(), "and the next one ends what that had started");
    mu_starter_free(MU_STEAL(starter, NULL));

    /* a number that is somebody else's by now, which the start time tells */
    pid = fork();
    if (!pid) {
        setsid();
        pause();
        _exit(0);
    }
    snprintf(path, sizeof path, "%.4000s/child.%d", paths.run, (int)pid);
    mu_path_write_atomic(path, "17\n", 3, 0600, NULL);
    spin(50);
    new_starter(4, MU_SEC);
    spin(50);
    TAP_OK(!kill(pid, 0) && !marks(), "whoever has the number now is left alone");
    mu_starter_free(MU_STEAL(starter, NULL));
    kill(pid, SIGKILL);
    prctl(PR_SET_CHILD_SUBREAPER, 0);
}

static void table(void)
{
    const struct mu_engine *e;
    struct mu_err err = {0};
    char *env[] = {(char[]){"A=1"}, (char[]){"SSH_AUTH_SOCK=/s"}, (char[]){"SSH_AUTH_SOCKS=/t"}, NULL}, **v = NULL;
    char text[100];

    for (unsigned i = 0; i < mu_engine_count; i++)
        TAP_OK(mu_engines[i].name && mu_engines[i].doc && mu_engines[i].env && mu_engines[i].start &&
                   !mu_engine_find(mu_engines[i].name, &e, &err) && e == &mu_engines[i],
               "engine %s: %s", mu_engines[i].name, mu_engines[i].doc);
    TAP_OK(!mu_engine_find(NULL, &e, &err) && !strcmp(e->name, "ssh") && !mu_engine_find("", &e, &err),
           "ssh by default");
    TAP_OK(mu_engine_find("teleport", &e, &err) == MUSTER_EARG, "%s", err.text);
    mu_engine_env(&mu_engines[0], env, &v);
    joined(v, text, sizeof text);
    TAP_OK(!strcmp(text, "[SSH_AUTH_SOCK=/s]"), "an engine gets what it needs and no more: %s", text);
    mu_strv_free(v);
}

int main(int argc, char **argv)
{
    struct mu_err err;

    if (argc > 1 && !strcmp(argv[1], "agent"))
        return be_agent(argc, argv);
    char exe[PATH_MAX];
    if (!mkdtemp(top) || mu_path_exe(exe, sizeof exe, &err))
        return 99;
    signal(SIGPIPE, SIG_IGN);
    setenv("MUSTER_HOME", top, 1);
    setenv("MUSTER_RUN_ROOT", top, 1);
    setenv("FAKE_DIR", top, 1);
    setenv("FAKE_EXE", exe, 1);
    unsetenv("MUSTER_SSH");
    memset(key.bytes, 3, sizeof key.bytes);
    snprintf(fake, sizeof fake, "%s/fake", top);
    base = mu_loop_new();
    struct event *chld = evsignal_new(base, SIGCHLD, on_sigchld, NULL);
    if (mu_paths_init(&paths, &err) || mu_path_write_atomic(fake, script, strlen(script), 0700, &err) ||
        event_add(chld, NULL)) {
        printf("Bail out! %s\n", err.text);
        return 99;
    }
    words();
    table();
    commands();
    explanations();
    starts();
    limits();
    killed();
    event_free(chld);
    event_base_free(base);
    mu_path_remove_tree(top, NULL);
    return tap_done();
}
