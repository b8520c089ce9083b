/* From the command line to the spec: what is understood, what is refused and how, which variables are handed on; exit
 * codes and the report of an end. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "launcher/run.h"
#include "runtime/base/clean.h"
#include "runtime/base/str.h"
#include "tests/unit/tap.h"

static char *words[32];

static int plan(struct mu_run_plan *p, const char *line, struct mu_err *err)
{
    static char copy[1000];
    int n = 0;
    size_t rows;
    const struct mu_opt *table = mu_run_options(&rows);

    snprintf(copy, sizeof copy, "run %s", line);
    for (char *w = strtok(copy, " "); w && n < 31; w = strtok(NULL, " "))
        words[n++] = w;
    words[n] = NULL;
    memset(err, 0, sizeof *err);
    return mu_run_plan_make(p, table, rows, n, words, err);
}

static void refused(void)
{
    static const struct {
        const char *line, *says;
    } rows[] = {
        {"", "no program is given"},
        {"-n 2", "no program is given"},
        {"-n 0 true", "-n takes a number from 1 to 1000000, not '0'"},
        {"-np -3 true", "-np takes a number from 1"},
        {"-n 2x true", "-n takes a number"},
        {"-n", "-n needs a value"},
        {"nosuchprogram", "nosuchprogram is not in PATH"},
        {"./nosuch/prog", "./nosuch/prog: no such program seen from"},
        {"/nosuch", "/nosuch: no such program"},
        {"/", "/ is a directory"},
        {"/etc/passwd", "/etc/passwd is not executable; chmod +x"},
        {"--wdir /nosuch true", "--wdir /nosuch: No such file"},
        {"-wdir /etc/passwd true", "--wdir /etc/passwd: not a directory"},
        {"--bind-to socket true", "--bind-to takes one of none|core|numa|gpu, not 'socket'"},
        {"--map-by core:pe=2 true", "takes slot, node, numa, gpu or ppr:N:node"},
        {"--map-by ppr:x:node true", "takes slot, node, numa, gpu or ppr:N:node"},
        {"-x 1A=2 true", "-x 1A=2: a variable's name"},
        {"-x =2 true", "-x =2: a variable's name"},
        {"-x RANK=2 true", "-x RANK: muster sets this variable itself"},
        {"--restarts -1 true", "--restarts takes a number from 0"},
        {"-n 2 --min-ranks 3 true", "--min-ranks 3 is more than the job's 2 ranks"},
        {"--min-ranks 0 true", "--min-ranks takes a number from 1"},
        {"-N 2 --ppn 2 -n 5 true", "5 ranks do not fit 2 nodes with --ppn 2"},
        {"-H localhost:1 /nosuch", "/nosuch: no such program"},
        {"-n 1 -H localhost:1,a:1 /nosuch", "/nosuch: no such program"},
        {"-H localhost,a:* -n 1 /nosuch", "/nosuch: no such program"},
        {"-H localhost:1,a:1 -n 1 true : -n 1 true : -n 1 true", "the hosts given have 2 slots"},
        {"-H a:1,localhost:1 -n 1 /nosuch1 : -n 1 /nosuch2", "/nosuch2: no such program"},
        {"-H a:1,localhost:1 -n 1 true : -n 1 --wdir /nosuch true", "--wdir /nosuch: No such file"},
        {"-n 3 -H localhost:2 true", "the hosts given have 2 slots: say HOST:SLOTS"},
        {"-n 5 -H a:2,b:2 true", "the hosts given have 4 slots: say HOST:SLOTS"},
        {"-H a:x true", "-H: host list: host a: slots must be a number"},
        {"-H -oProxyCommand=x true", "'-oProxyCommand=x' is not a host name"},
        {"-H a:* true", "how many ranks? The slots of host a are known only once"},
        {"-N 3 -H a:2,b:2 true", "3 nodes asked for, 2 hosts are given"},
        {"-n 2 -H a:2 --spares 1 true", "--spares 1 needs hosts beyond those of the ranks, and there is only one"},
        {"-n 2 -H a:2,b:2 --spares 2 true", "all that are named would be spares"},
        {"-n 4 -H a:2,b:2 --spares 1 true", "the hosts given have 2 slots besides the spare ones"},
        {"-N 2 -n 4 -H a:3,b:1 true", "4 ranks do not fit the hosts given"},
        {"-n 2 --ppn 1 -H a:2,b:2,c:2 --spares 2 true", "2 spare nodes asked for"},
        {"-H a:2 --ssh 'ssh true", "--ssh: a quote is not closed"},
        {"-H a:2 --engine beam true", "--engine: there is no engine 'beam': ssh, slurm, hand"},
        {"--hostfile /nosuch true", "/nosuch"},
        {"--output /proc/nosuch/x true", "--output: "},
        {"--output /etc/passwd true", "--output /etc/passwd: not a directory"},
        {"--ckpt color=red true", "--ckpt: unknown key \"color\"; the keys are dir, interval, mtbf, keep, every, "
                                  "protect, wire, store, endpoint, credentials, "
                                  "key, full and rate"},
        {"--ckpt protect=raid5 true", "--ckpt: protect=raid5 is not valid; protect takes none, mirror"},
        {"--ckpt interval=foo true", "--ckpt: interval=foo is not valid; interval takes a time such as 30"},
        {"--ckpt interval=5 --ckpt keep=1 true", "--ckpt: keep=1 is not valid; keep takes how many"},
        {"--ckpt keep true", "--ckpt: keep= is not valid"},
        {"--ckpt-dir /proc/nosuch/x true", "--ckpt-dir: cannot create directory /proc/nosuch: No such file"},
        {"--ckpt-dir /etc/passwd true", "--ckpt-dir /etc/passwd: not a directory"},
        {"--timeout never true", "--timeout takes a time"},
        {"--on-failure ignore true", "--on-failure takes one of kill|keep"},
        {"--stdin all true", "--stdin: takes 0 (rank 0 reads it) or none"},
        {"--mca", "--mca needs a value"},
        {"--mca btl", "--mca btl needs a value"},
        {"--mca b!l self true", "--mca"},
        {"-n 1 true :", "no program behind ':'"},
        {": true", "no program before ':'"},
        {"-n 1 true : true", "program 2 has none"},
        {"true : -n 1 true", "program 1 has none"},
        {"-n 999999 true : -n 2 true", "a job has at most 1000000"},
        {"--nosuch true", "unknown option --nosuch"},
        {"--tag-outptu true", "did you mean --tag-output?"},
    };

    for (size_t i = 0; i < MU_COUNT(rows); i++) {
        struct mu_run_plan p;
        struct mu_err err;
        int rc = plan(&p, rows[i].line, &err);
        TAP_OK(rc == MUSTER_EARG && strstr(err.text, rows[i].says) && !strchr(err.text, '\n'), "run %s: %s",
               rows[i].line, err.text);
        mu_run_plan_free(&p);
    }
}

/* A rank file's hosts are the job's. */
static void rank_files(void)
{
    static const struct {
        const char *text, *options, *hosts; /* hosts: as in the spec, or after '!' what the error says */
    } rows[] = {
        {"rank 0=a slot=0\nrank 1=a slot=1\nrank 2=b slot=0\n", "", "a:2,b:1"},
        {"rank 0=+n1 slot=0\nrank 1=+n0 slot=1\n", "-H a:4,b:4", "b:1,a:1"},
        {"rank 0=me@a slot=0\n", "", "me@a:1"},
        {"rank 0=a slot=0\nrank 1=b slot=0\nrank 2=a slot=1\n", "",
         "!:3: the ranks of host a do not follow one another: rank 1 is on b between them"},
        {"rank 0=c slot=0\n", "-H a:4,b:4", "!:1: host 'c' is none of the job's hosts"},
        {"rank 0=+n2 slot=0\n", "-H a:4,b:4", "!:1: '+n2': the job has 2 hosts, counted from +n0"},
        {"rank 0=+n0 slot=0\n", "", "!:1: '+n0' counts the job's hosts"},
        {"rank 0=+x slot=0\n", "-H a:4", "!:1: '+x': a host of the job's list is written +n0"},
        {"rank 0=-oProxyCommand=x slot=0\n", "", "!:1: "},
        {"rank 0=a slot=0\n", "-n 2", "!2 ranks asked for, "},
        {"rank 0=a slot=0\n", "--bind core", "!leave --bind out"},
        {"rank 0=a slot=0\n", "--map-by numa", "!leave --map out"},
        {"rank 0=a slot=0\n", "-N 1", "!leave -N out"},
        {"rank 0=a slot=0\nrank 1=a slot=0\nrank 2=a slot=1\n", "--ppn 2", "!leave --ppn out"},
        {"rank 0=a slut=0\n", "", "!:1: 'rank 0=a slut=0': expected"},
    };

    for (size_t i = 0; i < MU_COUNT(rows); i++) {
        char path[] = "/tmp/muster-ranks-XXXXXX", line[200];
        struct mu_run_plan p;
        struct mu_err err = {0};
        int fd = mkstemp(path);
        if (fd < 0 || write(fd, rows[i].text, strlen(rows[i].text)) < 0 || close(fd))
            exit(1);
        snprintf(line, sizeof line, "--rankfile %s %s true", path, rows[i].options);
        int rc = plan(&p, line, &err);
        mu_auto_free char *hosts = rc ? NULL : mu_run_hosts_text(&p.hosts);
        if (rows[i].hosts[0] == '!')
            TAP_OK(rc == MUSTER_EARG && strstr(err.text, rows[i].hosts + 1) && !strchr(err.text, '\n'), "refused: %s",
                   err.text);
        else
            TAP_OK(!rc && !strcmp(hosts, rows[i].hosts) && mu_strv_len(p.slots) == p.ranks, "rank file: %s",
                   rc ? err.text : hosts);
        mu_run_plan_free(&p);
        unlink(path);
    }
}

static void understood(void)
{
    struct mu_run_plan p;
    struct mu_err err;
    struct mu_bytes blob = {0};
    struct mu_m_spec spec = {0};

    int rc = plan(&p,
                  "-np 2 -x A=1 --mca btl self,vader --map-by node:OVERSUBSCRIBE sh -c -n : -n 3 -wdir / -x B=2 "
                  "--bind-to none -timeout 90 --restarts 0 true --not ours",
                  &err);
    TAP_OK(rc == 0 && p.napps == 2 && p.ranks == 5, "two programs of one job (%s)", err.text);
    TAP_OK(mu_run_spec(&p, true, true, &blob, &err) == 0 && mu_msg_unpack(&blob, MU_MSG_spec, &spec, &err) == 0,
           "the spec is packed and read back");
    TAP_OK(spec.ranks == 5 && spec.app_ranks.n == 2 && spec.app_ranks.v[0] == 2 && spec.app_ranks.v[1] == 3, "ranks");
    TAP_OK(spec.app_argc.v[0] == 3 && !strcmp(spec.argv[2], "-n") && spec.app_argc.v[1] == 3 &&
               !strcmp(spec.argv[5], "ours"),
           "the programs' own options are theirs");
    TAP_OK(spec.app_envc.v[0] == 3 && !strcmp(spec.app_env[1], "OMPI_MCA_btl=self,vader") &&
               !strcmp(spec.app_env[2], "A=1"),
           "-x and --mca belong to their program");
    TAP_OK(spec.app_envc.v[1] == 2 && !strcmp(spec.app_env[3], "PWD=/") && !strcmp(spec.app_env[4], "B=2") &&
               !strcmp(spec.app_wdir[1], "/"),
           "and so does --wdir, with PWD");
    TAP_OK(spec.bind == MU_BIND_NONE && spec.oversubscribe && !strcmp(spec.map, "node") &&
               spec.timeout_ns == 90000000000ull && spec.restarts_plus1 == 1 && spec.foreground && spec.input,
           "the rest is the job's, wherever it stands");
    TAP_OK(!strcmp(spec.name, "sh") && spec.user && *spec.user && spec.umask_plus1, "name, account, umask");
    mu_msg_free_body(MU_MSG_spec, &spec);
    free(blob.data);
    mu_run_plan_free(&p);

    rc = plan(&p, "-n 1 -- echo : -n 2 true", &err);
    TAP_OK(rc == 0 && p.napps == 1 && p.apps[0].argc == 5 && !strcmp(p.apps[0].argv[1], ":"),
           "behind -- a ':' is an argument");
    mu_run_plan_free(&p);
    rc = plan(&p, "-n 1 echo -- : -n 2 true", &err);
    TAP_OK(rc == 0 && p.napps == 2 && p.apps[0].argc == 2, "a -- of the program's own is no such thing");
    mu_run_plan_free(&p);
    rc = plan(&p, "true", &err);
    TAP_OK(rc == 0 && p.ranks == 0 && mu_run_plan_slots(&p, 6, 1, &err) == 0 && p.ranks == 6 && p.apps[0].ranks == 6,
           "without -n there are as many ranks as slots");
    mu_run_plan_free(&p);
    rc = plan(&p, "--ppn 2 true", &err);
    TAP_OK(rc == 0 && mu_run_plan_slots(&p, 12, 3, &err) == 0 && p.ranks == 6, "or --ppn on each node");
    mu_run_plan_free(&p);
    rc = plan(&p, "-N 2 --map-by ppr:3:node true", &err);
    TAP_OK(rc == 0 && p.ranks == 6, "or nodes times --ppn");
    mu_run_plan_free(&p);
    rc = plan(&p, "-host localhost:3 true", &err);
    TAP_OK(rc == 0 && p.ranks == 3 && !p.opts.oversubscribe, "or what the hosts say, whose slots count");
    mu_run_plan_free(&p);
    rc = plan(&p, "-n 9 --host localhost:* true", &err);
    TAP_OK(rc == 0 && p.ranks == 9 && !p.opts.oversubscribe, "a host with * is as large as it is");
    mu_run_plan_free(&p);
    unsetenv("MUSTER_TEST_ABSENT");
    rc = plan(&p, "-n 1 -x MUSTER_TEST_ABSENT true", &err);
    TAP_OK(rc == 0 && strstr(p.note, "MUSTER_TEST_ABSENT"), "a variable to hand on that is not there is mentioned");
    mu_run_plan_free(&p);
    rc =
        plan(&p, "-n 1 --allow-run-as-root --dry-run --ckpt interval=5,keep=2 --ckpt dir=x --ckpt-dir here true", &err);
    TAP_OK(rc == 0 && !strcmp(p.ckpt, "interval=5,keep=2,dir=x") && p.ckpt_dir[0] == '/', "checkpoint options");
    mu_run_plan_free(&p);
    rc = plan(&p, "-n 1 -H elsewhere --ckpt-dir /proc/nosuch/x true", &err);
    TAP_OK(rc == 0, "a directory of other hosts is not looked at here");
    mu_run_plan_free(&p);
    TAP_OK(plan(&p, "--help", &err) == 1, "help is asked for");
    mu_run_plan_free(&p);
}

/* hosts of the spec, and the engine. */
static void hosts(void)
{
    static const struct {
        const char *line, *hosts; /* HERE: this machine's node name */
        unsigned ranks;
    } rows[] = {
        {"-H a:4,b:4 true", "a:4,b:4", 8},
        {"-H a,b true", "a:1,b:1", 2},
        {"-H a -H b:3 -H a true", "a:2,b:3", 5},
        {"-H user@a:2 true", "user@a:2", 2},
        {"-n 3 -H a:*,b true", "a:*,b:1", 3},
        {"-H localhost:2,a:2,127.0.0.1:1 true", "HERE:3,a:2", 5},
        {"-n 2 -H [fe80::1]:2 true", "[fe80::1]:2", 2},
        {"-H a:2,b:2,c:2 --spares 1 true", "a:2,b:2,c:2", 4},
        {"-N 2 -H a:2,b:2,c:2 --ppn 1 true", "a:2,b:2,c:2", 2},
        {"-H a:*,b:* --ppn 2 true", "a:*,b:*", 4},
        {"-n 5 -H a:2,b:2 --oversubscribe true", "a:2,b:2", 5},
        {"true", "", 0},
    };
    struct mu_run_plan p;
    struct mu_m_spec spec;
    struct mu_bytes blob;
    struct mu_err err;
    char want[200], here[65];

    mu_path_host(here);
    for (size_t i = 0; i < MU_COUNT(rows); i++) {
        int rc = plan(&p, rows[i].line, &err);
        const char *at = strstr(rows[i].hosts, "HERE");
        if (at)
            snprintf(want, sizeof want, "%.*s%s%s", (int)(at - rows[i].hosts), rows[i].hosts, here, at + 4);
        else
            snprintf(want, sizeof want, "%s", rows[i].hosts);
        rc = rc ? rc : mu_run_spec(&p, true, false, &blob, &err);
        rc = rc ? rc : mu_msg_unpack(&blob, MU_MSG_spec, &spec, &err);
        TAP_OK(!rc && p.ranks == rows[i].ranks && !strcmp(spec.hosts ? spec.hosts : "", want) &&
                   !strcmp(spec.engine ? spec.engine : "", *want ? "ssh" : ""),
               "%s: %s, %u ranks %s", rows[i].line,
               rc           ? "refused"
               : spec.hosts ? spec.hosts
                            : "no hosts",
               p.ranks, rc ? err.text : "");
        if (!rc) {
            mu_msg_free_body(MU_MSG_spec, &spec);
            free(blob.data);
        }
        mu_run_plan_free(&p);
    }

    setenv("SSH_AUTH_SOCK", "/s", 1);
    setenv("MUSTER_SSH", "from env", 1);
    int rc = plan(&p, "-H a true", &err);
    TAP_OK(!rc && !strcmp(p.opts.ssh, "from env") && p.engine_env && !strcmp(p.engine_env[0], "SSH_AUTH_SOCK=/s"),
           "MUSTER_SSH, and the agent of ssh");
    mu_run_plan_free(&p);
    rc = plan(&p, "--ssh mine -H a true", &err);
    TAP_OK(!rc && !strcmp(p.opts.ssh, "mine"), "--ssh wins");
    mu_run_plan_free(&p);
    unsetenv("MUSTER_SSH");

    setenv("SLURM_JOB_ID", "3", 1);
    setenv("SLURM_JOB_NODELIST", "n[1-3]", 1);
    setenv("SLURM_TASKS_PER_NODE", "2(x2),1", 1);
    rc = plan(&p, "true", &err);
    mu_auto_free char *text = mu_run_hosts_text(&p.hosts);
    TAP_OK(!rc && p.ranks == 5 && !strcmp(text, "n1:2,n2:2,n3:1") && !strcmp(p.engine, "slurm") && p.engine_env &&
               !strcmp(p.engine_env[0], "SLURM_JOB_ID=3"),
           "inside an allocation its nodes are the hosts: %s", text);
    mu_run_plan_free(&p);
    rc = plan(&p, "-n 6 true", &err);
    TAP_OK(rc == MUSTER_EARG && strstr(err.text, "the hosts of this allocation have 5 slots: allocate more tasks"),
           "%s", err.text);
    mu_run_plan_free(&p);
    rc = plan(&p, "-H a:2 --engine ssh true", &err);
    TAP_OK(!rc && p.hosts.n == 1 && p.ranks == 2 && !strcmp(p.engine, "ssh"), "unless others are named");
    mu_run_plan_free(&p);
    setenv("MUSTER_POOL", "x:1", 1);
    rc = plan(&p, "true", &err);
    TAP_OK(!rc && !p.hosts.n, "or another pool");
    mu_run_plan_free(&p);
    unsetenv("MUSTER_POOL");
    unsetenv("SLURM_JOB_ID");
}

static void tables(void)
{
    struct mu_err err = {0};
    size_t n;
    const struct mu_opt *table = mu_run_options(&n);

    TAP_OK(mu_opt_check(table, n, &err) == 0, "run's options are sound %s", err.text);
    table = mu_submit_options(&n);
    TAP_OK(mu_opt_check(table, n, &err) == 0, "submit's options are sound %s", err.text);
}

static void environment(void)
{
    static const struct {
        const char *entry;
        bool passes;
    } rows[] = {
        {"LD_LIBRARY_PATH=/x", true},
        {"PATH=/bin", true},
        {"OMPI_MCA_btl=self", true},
        {"OMPI_MCA_ess=env", false},
        {"OMPI_COMM_WORLD_RANK=0", false},
        {"PMIX_RANK=0", false},
        {"SLURM_JOB_ID=1", false},
        {"SLURMX=1", true},
        {"MUSTER_HOME=/x", true},
        {"MUSTER_TAG=1", false},
        {"RANK=0", false},
        {"RANKS=0", true},
        {"PWD=/", false},
        {"_=x", false},
        {"DISPLAY=:0", true},
        {"MAKEFLAGS=j", false},
        {"OMP_NUM_THREADS=4", true},
        {"noequals", false},
        {"=x", false},
        {"EMPTY=", true},
    };
    char *one[] = {(char[]){"A=1"}, (char[]){"B=2"}, NULL}, *two[] = {(char[]){"B=3"}, NULL};

    for (size_t i = 0; i < MU_COUNT(rows); i++)
        TAP_OK(mu_run_env_passes(rows[i].entry) == rows[i].passes, "%s is %s", rows[i].entry,
               rows[i].passes ? "handed on" : "kept back");
    TAP_OK(!strcmp(mu_run_env_get(one, two, "B"), "3") && !strcmp(mu_run_env_get(one, two, "A"), "1") &&
               !mu_run_env_get(one, NULL, "C"),
           "the last one wins");
}

static void endings(void)
{
    struct mu_m_jobrow row = {.id = 7, .state = MU_JOB_FAILED, .exit_code = 3};
    struct mu_run_sight sight = {0};
    struct mu_buf out = {0};

    TAP_OK(mu_run_exit_code(&row, 0) == 3, "the code of the failure");
    row.exit_code = 0;
    TAP_OK(mu_run_exit_code(&row, 0) == 1, "a failure never ends in 0");
    row.fail_status = 9;
    TAP_OK(mu_run_exit_code(&row, 0) == 137, "a signal");
    row.fail_status = 5 << 8;
    TAP_OK(mu_run_exit_code(&row, 0) == 5, "a code");
    row.state = MU_JOB_CANCELLED;
    row.exit_code = 143;
    TAP_OK(mu_run_exit_code(&row, 2) == 130 && mu_run_exit_code(&row, 0) == 143,
           "cancelled by our signal, or another's");
    row.state = MU_JOB_COMPLETED;
    TAP_OK(mu_run_exit_code(&row, 2) == 0, "completed is completed");

    row.attempt = 1;
    mu_run_report(&out, &row, &sight);
    TAP_OK(out.len == 0, "nothing to say of a job that just completed");
    row.attempt = 3;
    mu_run_report(&out, &row, &sight);
    TAP_OK(strstr(mu_buf_str(&out), "completed in attempt 3, after 2 restarts"), "restarts are said");
    mu_buf_clear(&out);
    sight.quiet = true;
    mu_run_report(&out, &row, &sight);
    TAP_OK(out.len == 0, "not when quiet");
    row.lost_lines = 12;
    row.unseen_lines = 1;
    row.lost_why = ENOSPC;
    mu_run_report(&out, &row, &sight);
    TAP_OK(!strcmp(mu_buf_str(&out),
                   "muster: 12 lines of output are not in the logs (No space left on device); 1 of them "
                   "was not shown here either\n"),
           "lost output is always told");
    mu_buf_clear(&out);
    row.lost_lines = 0;
    row.unread_ranks = 1;
    row.unread = (char *)(uintptr_t) "rank 1 on h2";
    mu_run_report(&out, &row, &sight);
    TAP_OK(mu_run_exit_code(&row, 0) == 1 &&
               !strcmp(mu_buf_str(&out), "muster: the last output of rank 1 on h2 may be missing: its host "
                                         "or keeper died before all of it was read\n"),
           "so is what may not have been read, and it is no success");
    row.unread_ranks = 0;
    row.unread = NULL;
    mu_buf_clear(&out);

    char tail[200] = "";
    for (int i = 1; i <= 15; i++)
        snprintf(tail + strlen(tail), sizeof tail - strlen(tail), "line %d\n", i);
    struct mu_m_jobrow bad = {.id = 8,
                              .name = (char[]){"ev\033[31mil"},
                              .state = MU_JOB_FAILED,
                              .attempt = 2,
                              .reason =
                                  (char[]){"rank 2 on host-a was killed by signal 9 (Killed); not restarted: why"},
                              .fail_rank_plus1 = 3,
                              .fail_node = (char[]){"host-a"},
                              .fail_status = 9,
                              .fail_attempt = 2,
                              .started_wall = 1000000000,
                              .fail_wall = 3500000000,
                              .fail_tail = {.data = (uint8_t *)tail, .len = (uint32_t)strlen(tail)},
                              .log_dir = (char[]){"/logs/8"}};
    mu_run_report(&out, &bad, &sight);
    const char *s = mu_buf_str(&out);
    TAP_OK(strstr(s, "rank 2 on host-a: was killed by signal 9 (Killed)") && strstr(s, "in attempt 2, 2.5") &&
               strstr(s, "| line 6\n") && strstr(s, "| line 15\n") && !strstr(s, "line 5\n") &&
               strstr(s, "not restarted: why") && strstr(s, "/logs/8; muster logs 8 --rank 2"),
           "who failed first, where, when, why, its last ten lines, the logs");
    TAP_OK(!strchr(s, '\033'), "nothing in it moves the terminal");
    mu_buf_clear(&out);
    bad.ending = MU_END_TIMEOUT;
    mu_run_report(&out, &bad, &sight);
    TAP_OK(!strstr(mu_buf_str(&out), "failed first"), "a rank that a time limit ended did not fail");
    mu_buf_free(&out);
}

/* What only another host can know is left to it. */
static void elsewhere(void)
{
    static const char *const rows[] = {
        "-H a:1 /nosuch",
        "-H a:1 nosuchprogram",
        "-H a:1 /etc/passwd",
        "-H a:1 --wdir /nosuch ./x",
        "-H a:1,localhost:1 -n 1 /nosuch",
        "-H localhost:1,a:1 -n 1 true : -n 1 --wdir /nosuch /nosuch",
    };

    for (size_t i = 0; i < MU_COUNT(rows); i++) {
        struct mu_run_plan p;
        struct mu_err err;
        int rc = plan(&p, rows[i], &err);
        TAP_OK(rc == 0, "run %s%s%s", rows[i], rc ? ": " : "", rc ? err.text : "");
        mu_run_plan_free(&p);
    }
}

int main(void)
{
    unsetenv("SLURM_JOB_ID");
    unsetenv("MUSTER_SSH");
    hosts();
    tables();
    environment();
    refused();
    rank_files();
    understood();
    endings();
    elsewhere();
    return tap_done();
}
