#include "launcher/metrics_text.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/clean.h"
#include "runtime/base/str.h"

/* Numbers that are not known have no sample. */
#define UNKNOWN NAN

void mu_metrics_head(struct mu_buf *out, const char *name, const char *type, const char *help)
{
    mu_buf_appendf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void number(struct mu_buf *out, double v)
{
    if (v >= 0 && v < 1e15 && v == (double)(uint64_t)v)
        mu_buf_appendf(out, " %llu\n", (unsigned long long)v);
    else
        mu_buf_appendf(out, " %.16g\n", v);
}

void mu_metrics_label(struct mu_buf *out, char before, const char *name, const char *value)
{
    char shown[200];

    mu_buf_putc(out, before);
    mu_buf_puts(out, name);
    mu_buf_puts(out, "=\"");
    mu_str_show(shown, sizeof shown, value);
    for (const char *s = shown; *s; s++) { /* it is one line already */
        if (*s == '"' || *s == '\\')
            mu_buf_putc(out, '\\');
        mu_buf_putc(out, *s);
    }
    mu_buf_putc(out, '"');
}

/* --- the controller ------------------------------------------------------------------------------------------------
 */

static double known(double v)
{
    return v < 0 ? UNKNOWN : v;
}
static double c_started(const struct mu_metrics *m)
{
    return m->started_wall;
}
static double c_cpu(const struct mu_metrics *m)
{
    return known(m->cpu_seconds);
}
static double c_resident(const struct mu_metrics *m)
{
    return known(m->resident);
}
static double c_files(const struct mu_metrics *m)
{
    return known(m->open_files);
}
static double c_conns(const struct mu_metrics *m)
{
    return known(m->connections);
}
static double c_store(const struct mu_metrics *m)
{
    return known(m->store_bytes);
}
static double c_state(const struct mu_metrics *m)
{
    return known(m->state_size);
}
static double c_free(const struct mu_metrics *m)
{
    return known(m->state_free);
}
static double c_backup(const struct mu_metrics *m)
{
    return known(m->backup_age);
}
static double c_backup_every(const struct mu_metrics *m)
{
    return known(m->backup_every);
}
static double c_backup_failures(const struct mu_metrics *m)
{
    return known(m->backup_failures);
}
static double c_slots(const struct mu_metrics *m)
{
    return (double)m->slots;
}
static double c_used(const struct mu_metrics *m)
{
    return (double)m->slots_used;
}
static double c_held(const struct mu_metrics *m)
{
    return (double)m->held;
}
static double c_oldest(const struct mu_metrics *m)
{
    return m->oldest_wait;
}
static double c_wanted(const struct mu_metrics *m)
{
    return m->ranks_wanted;
}
static double c_hidden(const struct mu_metrics *m)
{
    return m->hidden;
}

/* To add a family: a row here, or in one of the next two tables, and in docs/formats.md. */
static const struct {
    const char *name, *type, *help;
    double (*get)(const struct mu_metrics *);
} of_pool[] = {
    {"muster_controller_start_time_seconds", "gauge", "When the controller started, since the epoch.", c_started},
    {"muster_controller_cpu_seconds_total", "counter", "CPU time that the controller has used.", c_cpu},
    {"muster_controller_resident_memory_bytes", "gauge", "Memory of the controller.", c_resident},
    {"muster_controller_open_files", "gauge", "Open files of the controller.", c_files},
    {"muster_controller_connections", "gauge", "Agents, keepers and clients that are connected.", c_conns},
    {"muster_store_size_bytes", "gauge", "The job store on the disk, its write-ahead log included.", c_store},
    {"muster_backup_age_seconds", "gauge", "How old the newest good copy of the job store is.", c_backup},
    {"muster_backup_interval_seconds", "gauge", "How often it is copied; 0: never.", c_backup_every},
    {"muster_backup_failures_total", "counter", "Copies of it that failed.", c_backup_failures},
    {"muster_state_size_bytes", "gauge", "The file system that the store is on.", c_state},
    {"muster_state_free_bytes", "gauge", "What of it is free for the pool's account.", c_free},
    {"muster_slots", "gauge", "Slots of all nodes that are up.", c_slots},
    {"muster_slots_used", "gauge", "Those of them that jobs hold.", c_used},
    {"muster_queue_held", "gauge", "Jobs that wait because somebody holds them.", c_held},
    {"muster_queue_oldest_wait_seconds", "gauge", "The longest that a job of the queue waits by now.", c_oldest},
    {"muster_queue_ranks", "gauge", "Ranks of all jobs that wait.", c_wanted},
    {"muster_jobs_not_shown", "gauge", "Jobs that run but have no families of their own: there are too many.",
     c_hidden},
};

/* --- nodes ---------------------------------------------------------------------------------------------------------
 */

static double n_up(const struct mu_metrics_node *n)
{
    return n->node->state == MU_NODE_UP && n->node->ready;
}
static double n_age(const struct mu_metrics_node *n)
{
    return known(n->heard_age);
}
static double n_slots(const struct mu_metrics_node *n)
{
    return n->node->slots;
}
static double n_used(const struct mu_metrics_node *n)
{
    return n->node->used;
}
static double n_gpus(const struct mu_metrics_node *n)
{
    return n->node->gpus ? n->node->gpus : UNKNOWN;
}
static double n_gpus_used(const struct mu_metrics_node *n)
{
    return n->node->gpus ? (double)n->node->gpus_used : UNKNOWN;
}
static double n_memory(const struct mu_metrics_node *n)
{
    return n->node->memory ? (double)n->node->memory : UNKNOWN;
}
static double n_memory_used(const struct mu_metrics_node *n)
{
    return n->node->memory ? (double)n->node->memory_used : UNKNOWN;
}
static double n_unwell(const struct mu_metrics_node *n)
{
    return n->node->checked_wall ? *n->node->unwell != 0 : UNKNOWN;
}

static double n_drift(const struct mu_metrics_node *n)
{
    return n->node->approved ? n->node->drift : UNKNOWN;
}

static double n_load(const struct mu_metrics_node *n)
{
    return n->vitals ? n->vitals->load_milli / 1000.0 : UNKNOWN;
}
static double n_cpu(const struct mu_metrics_node *n)
{
    return n->vitals && n->vitals->busy_ns ? (double)n->vitals->busy_ns / 1e9 : UNKNOWN;
}
static double n_cpus(const struct mu_metrics_node *n)
{
    return n->node->pus ? n->node->pus : UNKNOWN;
}
static double n_memory_free(const struct mu_metrics_node *n)
{
    uint64_t all = n->node->memory, free = n->vitals ? n->vitals->memory_free : 0;

    return !free ? UNKNOWN : (double)(all && all < free ? all : free); /* a cgroup may give the pool less of it */
}

static const struct {
    const char *name, *type, *help;
    double (*get)(const struct mu_metrics_node *);
} of_node[] = {
    {"muster_node_up", "gauge", "Whether the node's agent is connected and has told all that runs there.", n_up},
    {"muster_node_heartbeat_age_seconds", "gauge", "How long ago the node was heard of last.", n_age},
    {"muster_node_slots", "gauge", "Slots of the node.", n_slots},
    {"muster_node_slots_used", "gauge", "Those of them that jobs hold.", n_used},
    {"muster_node_gpus", "gauge", "GPUs of the node.", n_gpus},
    {"muster_node_gpus_used", "gauge", "Those of them that jobs have asked for.", n_gpus_used},
    {"muster_node_memory_bytes", "gauge", "Memory of the node.", n_memory},
    {"muster_node_memory_reserved_bytes", "gauge", "What of it jobs have asked for.", n_memory_used},
    {"muster_node_memory_free_bytes", "gauge", "Memory of the node that programs could have.", n_memory_free},
    {"muster_node_cpus", "gauge", "Hardware threads of the node.", n_cpus},
    {"muster_node_cpu_seconds_total", "counter", "CPU time that all of it has used, of all hardware threads.", n_cpu},
    {"muster_node_load1", "gauge", "Load average of the last minute.", n_load},
    {"muster_node_unwell", "gauge", "Whether the node's newest health checks have found something.", n_unwell},
    {"muster_node_drift", "gauge", "In how much the node differs from what was approved.", n_drift},
};

static void add_disks(const struct mu_metrics *m, struct mu_buf *out, const char *family, const char *help, bool free)
{
    mu_metrics_head(out, family, "gauge", help);
    for (unsigned i = 0; i < m->nnodes; i++) {
        const struct mu_m_vitals *v = m->nodes[i].vitals;
        const struct {
            const char *name;
            uint64_t size, free;
        } disks[] = {{"home", v ? v->home_size : 0, v ? v->home_free : 0},
                     {"run", v ? v->run_size : 0, v ? v->run_free : 0}};
        for (size_t k = 0; k < MU_COUNT(disks); k++) {
            if (!disks[k].size)
                continue;
            mu_buf_puts(out, family);
            mu_metrics_label(out, '{', "node", m->nodes[i].node->name);
            mu_metrics_label(out, ',', "disk", disks[k].name);
            mu_buf_putc(out, '}');
            number(out, (double)(free ? disks[k].free : disks[k].size));
        }
    }
}

/* Nothing keeps a node from naming two alike: then only the first one is shown. */
static bool named_before(const char *names, size_t apart, unsigned i)
{
    for (unsigned k = 0; k < i; k++)
        if (!strcmp(names + k * apart, names + i * apart))
            return true;
    return false;
}

static void add_nics(const struct mu_metrics *m, struct mu_buf *out)
{
    static const struct {
        const char *name, *help;
        unsigned count;
    } of_nic[] = {
        {"muster_node_network_receive_bytes_total", "Bytes that the interface has received.", MU_NIC_RX},
        {"muster_node_network_transmit_bytes_total", "Bytes that it has sent.", MU_NIC_TX},
        {"muster_node_network_receive_errors_total", "What it received damaged.", MU_NIC_RX_ERRORS},
        {"muster_node_network_transmit_errors_total", "What it could not send.", MU_NIC_TX_ERRORS},
        {"muster_node_network_receive_drops_total", "What was received and thrown away.", MU_NIC_RX_DROPS},
        {"muster_node_network_transmit_drops_total", "What was to be sent and thrown away.", MU_NIC_TX_DROPS},
    };

    for (size_t f = 0; f < MU_COUNT(of_nic); f++) {
        mu_metrics_head(out, of_nic[f].name, "counter", of_nic[f].help);
        for (unsigned i = 0; i < m->nnodes; i++) {
            const struct mu_node *n = m->nodes[i].node;
            for (unsigned k = 0; m->nodes[i].vitals && k < n->nnics; k++) {
                if (named_before(n->nics->name, sizeof *n->nics, k))
                    continue;
                mu_buf_puts(out, of_nic[f].name);
                mu_metrics_label(out, '{', "node", n->name);
                mu_metrics_label(out, ',', "interface", n->nics[k].name);
                mu_buf_putc(out, '}');
                number(out, (double)n->nics[k].counts[of_nic[f].count]);
            }
        }
    }
}

static void add_io(const struct mu_metrics *m, struct mu_buf *out)
{
    static const struct {
        const char *name, *help;
        unsigned count;
        double unit;
    } of_disk[] = {
        {"muster_node_disk_read_bytes_total", "Bytes read from the device.", MU_DISK_READ, 1},
        {"muster_node_disk_written_bytes_total", "Bytes written to it.", MU_DISK_WRITTEN, 1},
        {"muster_node_disk_busy_seconds_total", "Time in which it had something to do.", MU_DISK_BUSY, 1e-3},
    };

    for (size_t f = 0; f < MU_COUNT(of_disk); f++) {
        mu_metrics_head(out, of_disk[f].name, "counter", of_disk[f].help);
        for (unsigned i = 0; i < m->nnodes; i++) {
            const struct mu_node *n = m->nodes[i].node;
            for (unsigned k = 0; m->nodes[i].vitals && k < n->ndisks; k++) {
                if (named_before(n->disks->name, sizeof *n->disks, k))
                    continue;
                mu_buf_puts(out, of_disk[f].name);
                mu_metrics_label(out, '{', "node", n->name);
                mu_metrics_label(out, ',', "device", n->disks[k].name);
                mu_buf_putc(out, '}');
                number(out, (double)n->disks[k].counts[of_disk[f].count] * of_disk[f].unit);
            }
        }
    }
}

/* --- jobs ----------------------------------------------------------------------------------------------------------
 */

static double j_ranks(const struct mu_metrics_job *j)
{
    return j->ranks;
}
static double j_joined(const struct mu_metrics_job *j)
{
    return j->joined;
}
static double j_nodes(const struct mu_metrics_job *j)
{
    return j->nodes;
}
static double j_gpus(const struct mu_metrics_job *j)
{
    return (double)j->gpus * j->ranks;
}
static double j_attempt(const struct mu_metrics_job *j)
{
    return j->attempt;
}
static double j_restarts(const struct mu_metrics_job *j)
{
    return j->attempt - 1.0;
}
static double j_failures(const struct mu_metrics_job *j)
{
    return j->failures;
}
static double j_noprogress(const struct mu_metrics_job *j)
{
    return j->noprogress;
}
static double j_step(const struct mu_metrics_job *j)
{
    return known(j->step);
}
static double j_steps(const struct mu_metrics_job *j)
{
    return j->steps_done;
}
static double j_stepping(const struct mu_metrics_job *j)
{
    return j->stepping;
}
static double j_running(const struct mu_metrics_job *j)
{
    return j->running;
}
static double j_waited(const struct mu_metrics_job *j)
{
    return j->waited;
}
static double j_ckpt_step(const struct mu_metrics_job *j)
{
    return known(j->ckpt_step);
}
static double j_ckpt_age(const struct mu_metrics_job *j)
{
    return known(j->ckpt_age);
}
static double j_step_time(const struct mu_metrics_job *j)
{
    return j->steps_done > 0 ? j->stepping / j->steps_done : UNKNOWN;
}

static double j_stored_step(const struct mu_metrics_job *j)
{
    return known(j->stored_step);
}
static double j_store_bytes(const struct mu_metrics_job *j)
{
    return j->store_bytes;
}
static double j_store_retries(const struct mu_metrics_job *j)
{
    return j->store_retries;
}
static double j_store_failing(const struct mu_metrics_job *j)
{
    return j->store_failing;
}

static double j_ops(const struct mu_metrics_job *j)
{
    return j->row ? (double)j->row->ops : UNKNOWN;
}
static double j_op_bytes(const struct mu_metrics_job *j)
{
    return j->row ? (double)j->row->op_bytes : UNKNOWN;
}
static double j_saves(const struct mu_metrics_job *j)
{
    return j->row ? (double)j->row->saves : UNKNOWN;
}
static double j_save_time(const struct mu_metrics_job *j)
{
    return j->row ? (double)j->row->save_ns / 1e9 : UNKNOWN;
}
static double j_save_last(const struct mu_metrics_job *j)
{
    return known(j->save_last);
}
static double j_ckpt_bytes(const struct mu_metrics_job *j)
{
    return j->row ? (double)j->row->ckpt_bytes : UNKNOWN;
}

static const struct {
    const char *name, *type, *help;
    double (*get)(const struct mu_metrics_job *);
} of_job[] = {
    {"muster_job_ranks", "gauge", "Ranks of the present attempt.", j_ranks},
    {"muster_job_ranks_joined", "gauge", "Those of them that have called muster_init.", j_joined},
    {"muster_job_nodes", "gauge", "Nodes of the present attempt.", j_nodes},
    {"muster_job_gpus", "gauge", "GPUs that the job has asked for.", j_gpus},
    {"muster_job_attempt", "gauge", "The present attempt, from 1.", j_attempt},
    {"muster_job_restarts_total", "counter", "Attempts after the first one.", j_restarts},
    {"muster_job_failures_total", "counter", "Failures of attempts.", j_failures},
    {"muster_job_failures_without_progress", "gauge", "Failures in a row without progress between them.", j_noprogress},
    {"muster_job_step", "gauge", "The newest step that all ranks have done.", j_step},
    {"muster_job_steps_total", "counter", "Steps of all attempts, those that were lost again among them.", j_steps},
    {"muster_job_stepping_seconds_total", "counter", "Time from first steps of attempts to their ends.", j_stepping},
    {"muster_job_running_seconds_total", "counter", "Time since the job got its nodes.", j_running},
    {"muster_job_waiting_seconds_total", "counter", "Time that it waited for them.", j_waited},
    {"muster_job_step_seconds", "gauge", "Mean time of a step since the job began.", j_step_time},
    {"muster_job_checkpoint_step", "gauge", "Step of the newest durable checkpoint.", j_ckpt_step},
    {"muster_job_checkpoint_age_seconds", "gauge", "How old that checkpoint is.", j_ckpt_age},
    {"muster_job_operations_total", "counter", "Collectives and messages that ranks have begun, each rank's.", j_ops},
    {"muster_job_operation_bytes_total", "counter", "Bytes that they were called with.", j_op_bytes},
    {"muster_job_saves_total", "counter", "Checkpoints that the program has saved.", j_saves},
    {"muster_job_save_seconds_total", "counter", "Time that saving them has held up the slowest rank.", j_save_time},
    {"muster_job_save_last_seconds", "gauge", "How long the last of them did.", j_save_last},
    {"muster_job_checkpoint_bytes_total", "counter", "Bytes of checkpoints written into the directory.", j_ckpt_bytes},
    {"muster_job_stored_step", "gauge", "Step of the newest checkpoint in the object store.", j_stored_step},
    {"muster_job_store_bytes_total", "counter", "Bytes of checkpoints sent to and fetched from it.", j_store_bytes},
    {"muster_job_store_retries_total", "counter", "Requests to it that were made again.", j_store_retries},
    {"muster_job_store_failing", "gauge", "1 while sending there fails.", j_store_failing},
};

static void add_pool(const struct mu_metrics *m, struct mu_buf *out)
{
    static const unsigned living[] = {MU_JOB_QUEUED, MU_JOB_SUSPENDED, MU_JOB_STARTING, MU_JOB_RUNNING,
                                      MU_JOB_RECOVERING},
                          over[] = {MU_JOB_COMPLETED, MU_JOB_FAILED, MU_JOB_CANCELLED};

    mu_metrics_head(out, "muster_build_info", "gauge", "1; the labels say which build it is and where it runs.");
    mu_buf_puts(out, "muster_build_info");
    mu_metrics_label(out, '{', "version", m->version ? m->version : "");
    mu_metrics_label(out, ',', "host", m->host ? m->host : "");
    mu_buf_puts(out, "} 1\n");
    for (size_t i = 0; i < MU_COUNT(of_pool); i++) {
        double v = of_pool[i].get(m);
        mu_metrics_head(out, of_pool[i].name, of_pool[i].type, of_pool[i].help);
        if (!isnan(v)) {
            mu_buf_puts(out, of_pool[i].name);
            number(out, v);
        }
    }
    mu_metrics_head(out, "muster_jobs", "gauge", "Jobs that have not ended, by state.");
    for (size_t i = 0; i < MU_COUNT(living); i++)
        mu_buf_appendf(out, "muster_jobs{state=\"%s\"} %llu\n", mu_job_state_name(living[i]),
                       (unsigned long long)m->jobs_in[living[i]]);
    mu_metrics_head(out, "muster_jobs_ended_total", "counter",
                    "Jobs that have ended since the controller started, by state.");
    for (size_t i = 0; i < MU_COUNT(over); i++)
        mu_buf_appendf(out, "muster_jobs_ended_total{state=\"%s\"} %llu\n", mu_job_state_name(over[i]),
                       (unsigned long long)m->ended[over[i]]);
    mu_metrics_head(out, "muster_events_total", "counter", "Events of jobs since the controller started, by kind.");
    for (unsigned i = 0; m->kinds && m->kinds[i]; i++)
        mu_buf_appendf(out, "muster_events_total{kind=\"%s\"} %llu\n", m->kinds[i], (unsigned long long)m->events[i]);
}

static void add_nodes(const struct mu_metrics *m, struct mu_buf *out)
{
    mu_metrics_head(out, "muster_node_state", "gauge", "1 for the state that the node is in.");
    for (unsigned i = 0; i < m->nnodes; i++) {
        mu_buf_puts(out, "muster_node_state");
        mu_metrics_label(out, '{', "node", m->nodes[i].node->name);
        mu_metrics_label(out, ',', "state", mu_node_state_name(m->nodes[i].node));
        mu_buf_puts(out, "} 1\n");
    }
    for (size_t f = 0; f < MU_COUNT(of_node); f++) {
        mu_metrics_head(out, of_node[f].name, of_node[f].type, of_node[f].help);
        for (unsigned i = 0; i < m->nnodes; i++) {
            double v = of_node[f].get(&m->nodes[i]);
            if (isnan(v))
                continue;
            mu_buf_puts(out, of_node[f].name);
            mu_metrics_label(out, '{', "node", m->nodes[i].node->name);
            mu_buf_putc(out, '}');
            number(out, v);
        }
    }
    add_disks(m, out, "muster_node_disk_size_bytes",
              "File systems of MUSTER_HOME (home) and of the run directory (run).", false);
    add_disks(m, out, "muster_node_disk_free_bytes", "What of them is free for the pool's account.", true);
    add_io(m, out);
    add_nics(m, out);
}

static void add_jobs(const struct mu_metrics *m, struct mu_buf *out)
{
    mu_metrics_head(out, "muster_job_info", "gauge", "1 for each job that runs; the labels say whose it is.");
    for (unsigned i = 0; i < m->njobs; i++) {
        mu_buf_appendf(out, "muster_job_info{job_id=\"%llu\"", (unsigned long long)m->jobs[i].id);
        mu_metrics_label(out, ',', "name", m->jobs[i].name);
        mu_metrics_label(out, ',', "user", m->jobs[i].user);
        mu_buf_puts(out, "} 1\n");
    }
    mu_metrics_head(out, "muster_job_state", "gauge", "1 for the state that the job is in.");
    for (unsigned i = 0; i < m->njobs; i++)
        mu_buf_appendf(out, "muster_job_state{job_id=\"%llu\",state=\"%s\"} 1\n", (unsigned long long)m->jobs[i].id,
                       mu_job_state_name(m->jobs[i].state));
    for (size_t f = 0; f < MU_COUNT(of_job); f++) {
        mu_metrics_head(out, of_job[f].name, of_job[f].type, of_job[f].help);
        for (unsigned i = 0; i < m->njobs; i++) {
            double v = of_job[f].get(&m->jobs[i]);
            if (isnan(v))
                continue;
            mu_buf_appendf(out, "%s{job_id=\"%llu\"}", of_job[f].name, (unsigned long long)m->jobs[i].id);
            number(out, v);
        }
    }
}

void mu_metrics_text(const struct mu_metrics *m, struct mu_buf *out)
{
    add_pool(m, out);
    add_nodes(m, out);
    mu_metrics_gpus(m, out);
    add_jobs(m, out);
}
