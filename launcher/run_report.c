/* How a job ended, on one screen. */
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "launcher/commands.h"
#include "launcher/run.h"
#include "runtime/base/clean.h"
#include "runtime/base/str.h"

enum { TAIL_LINES = 10 };

int mu_run_exit_code(const struct mu_m_jobrow *row, int signo)
{
    if (row->state == MU_JOB_COMPLETED)
        return row->unread_ranks ? MU_EXIT_FAILED : 0;
    if (row->state == MU_JOB_CANCELLED && signo)
        return 128 + signo;
    if (row->exit_code > 0 && row->exit_code < 256)
        return row->exit_code;
    if (WIFSIGNALED(row->fail_status))
        return 128 + WTERMSIG(row->fail_status);
    return WEXITSTATUS(row->fail_status) ? WEXITSTATUS(row->fail_status) : 1;
}

static void printable(struct mu_buf *out, const char *s)
{
    mu_str_printable(out, s ? s : "", s ? strlen(s) : 0);
}

/* The last lines of n bytes, indented, made safe for the terminal. */
static void tail(struct mu_buf *out, const char *data, size_t n)
{
    const char *from = data + n, *end;
    int lines = 0;

    while (n && data[n - 1] == '\n')
        n--;
    end = data + n;
    for (from = end; from > data; from--)
        if (from[-1] == '\n' && ++lines == TAIL_LINES)
            break;
    while (from < end) {
        const char *nl = memchr(from, '\n', (size_t)(end - from));
        size_t len = (size_t)((nl ? nl : end) - from);
        mu_buf_puts(out, "    | ");
        mu_str_printable(out, from, len > 400 ? 400 : len);
        mu_buf_putc(out, '\n');
        from += len + 1;
    }
}

/* Of a job of several programs: which one is the rank's. */
static void program(struct mu_buf *out, const struct mu_m_jobrow *row, uint32_t rank)
{
    MU_AUTO_MSG struct mu_msg m = {.type = MU_MSG_spec};
    uint64_t end = 0, word = 0;

    if (mu_msg_unpack(&row->spec, MU_MSG_spec, &m.spec, NULL)) {
        m.type = (enum mu_msg_type)0;
        return;
    }
    for (uint32_t i = 0; m.spec.app_ranks.n > 1 && i < m.spec.app_ranks.n && i < m.spec.app_argc.n; i++) {
        end += m.spec.app_ranks.v[i];
        if (rank < end && word < mu_strv_len(m.spec.argv)) {
            mu_buf_puts(out, " (");
            printable(out, m.spec.argv[word]);
            mu_buf_putc(out, ')');
            return;
        }
        word += m.spec.app_argc.v[i];
    }
}

static void failure(struct mu_buf *out, const struct mu_m_jobrow *row)
{
    char age[32];
    uint64_t ran = row->fail_wall > row->started_wall && row->started_wall ? row->fail_wall - row->started_wall : 0;

    mu_buf_puts(out, "  failed first   ");
    if (row->fail_rank_plus1) {
        mu_buf_appendf(out, "rank %u", row->fail_rank_plus1 - 1);
        program(out, row, row->fail_rank_plus1 - 1);
        mu_buf_puts(out, " on ");
    }
    printable(out, row->fail_node && *row->fail_node ? row->fail_node : "an unknown node");
    mu_buf_puts(out, ": ");
    if (row->fail_text && *row->fail_text)
        printable(out, row->fail_text);
    else if (WIFSIGNALED(row->fail_status))
        mu_buf_appendf(out, "was killed by signal %d (%s)", WTERMSIG(row->fail_status),
                       strsignal(WTERMSIG(row->fail_status)));
    else
        mu_buf_appendf(out, "exited with code %d", WEXITSTATUS(row->fail_status));
    mu_buf_appendf(out, "\n  when           in attempt %u", row->fail_attempt);
    if (ran)
        mu_buf_appendf(out, ", %s after the job's start", mu_str_fmt_duration(age, sizeof age, ran));
    mu_buf_putc(out, '\n');
    if (row->fail_tail.len) {
        mu_buf_puts(out, "  last lines of its stderr\n");
        tail(out, (const char *)row->fail_tail.data, row->fail_tail.len);
    }
}

static void name(struct mu_buf *out, const struct mu_m_jobrow *row)
{
    mu_buf_appendf(out, "muster: job %llu", (unsigned long long)row->id);
    if (row->name && *row->name) {
        mu_buf_puts(out, " (");
        printable(out, row->name);
        mu_buf_putc(out, ')');
    }
}

static void lost(struct mu_buf *out, const struct mu_m_jobrow *row)
{
    mu_buf_appendf(out, "muster: %llu line%s of output %s not in the logs (%s)", (unsigned long long)row->lost_lines,
                   row->lost_lines == 1 ? "" : "s", row->lost_lines == 1 ? "is" : "are", strerror((int)row->lost_why));
    if (row->unseen_lines)
        mu_buf_appendf(out, "; %llu of them %s not shown here either", (unsigned long long)row->unseen_lines,
                       row->unseen_lines == 1 ? "was" : "were");
    mu_buf_putc(out, '\n');
}

static void unread(struct mu_buf *out, const struct mu_m_jobrow *row)
{
    mu_buf_puts(out, "muster: the last output of ");
    printable(out, row->unread);
    mu_buf_puts(out, " may be missing: its host or keeper died before all of it was read\n");
}

void mu_run_report(struct mu_buf *out, const struct mu_m_jobrow *row, const struct mu_run_sight *sight)
{
    unsigned restarts = row->attempt > 1 ? row->attempt - 1 : 0;

    if (row->lost_lines)
        lost(out, row);
    if (row->unread_ranks)
        unread(out, row);
    if (row->state == MU_JOB_COMPLETED) {
        if (restarts && !sight->quiet) {
            name(out, row);
            mu_buf_appendf(out, " completed in attempt %u, after %u restart%s\n", row->attempt, restarts,
                           restarts == 1 ? "" : "s");
        }
        return;
    }
    name(out, row);
    if (row->state == MU_JOB_CANCELLED) {
        const char *reason = row->reason ? row->reason : "";
        mu_buf_puts(out, " was cancelled");
        if (sight->signo) {
            mu_buf_appendf(out, " by %s", strsignal(sight->signo));
        } else if (!strncmp(reason, "cancelled", 9)) { /* "cancelled by somebody" */
            printable(out, reason + 9);
        } else if (*reason) {
            mu_buf_puts(out, ": ");
            printable(out, reason);
        }
        mu_buf_putc(out, '\n');
        return;
    }
    mu_buf_puts(out, " failed: ");
    printable(out, row->reason && *row->reason ? row->reason : "no reason is known");
    mu_buf_putc(out, '\n');
    if (row->fail_attempt && row->ending == MU_END_NONE)
        failure(out, row);
    mu_buf_appendf(out, "  restarts       %u%s\n", restarts, restarts ? "" : " (the first attempt was the last)");
    if (row->log_dir && *row->log_dir) {
        mu_buf_puts(out, "  logs           ");
        printable(out, row->log_dir);
        mu_buf_appendf(out, "; muster logs %llu", (unsigned long long)row->id);
        if (row->fail_rank_plus1 && row->ending == MU_END_NONE)
            mu_buf_appendf(out, " --rank %u", row->fail_rank_plus1 - 1);
        mu_buf_putc(out, '\n');
    }
}
