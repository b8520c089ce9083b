/* Families of GPUs. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "launcher/metrics_text.h"
#include "runtime/base/clean.h"
#include "runtime/base/str.h"
#include "runtime/wire/gpus.h"

#define MOST 8192u /* GPUs with families of their own */

/* To add one: a row, its line in docs/formats.md. */
static const struct {
    const char *name, *type, *help;
    size_t offset;
    double times;
} of_gpu[] = {
#define AT(field) offsetof(struct mu_gpu, field)
    {"muster_gpu_lost", "gauge", "1 for a GPU that does not answer until it is reset.", AT(lost), 1},
    {"muster_gpu_utilisation_ratio", "gauge", "Part of the time in which a kernel ran.", AT(percent), 0.01},
    {"muster_gpu_memory_bytes", "gauge", "Memory of the GPU.", AT(memory_mib), 1 << 20},
    {"muster_gpu_memory_used_bytes", "gauge", "What of it is used.", AT(used_mib), 1 << 20},
    {"muster_gpu_temperature_celsius", "gauge", "Temperature of the GPU.", AT(celsius), 1},
    {"muster_gpu_power_watts", "gauge", "Power that it takes.", AT(milliwatts), 0.001},
    {"muster_gpu_ecc_corrected_total", "counter", "Memory errors that were corrected.", AT(corrected), 1},
    {"muster_gpu_ecc_uncorrected_total", "counter", "Memory errors that could not be corrected.", AT(uncorrected), 1},
    {"muster_gpu_rows_remapped_corrected", "gauge", "Rows remapped after errors that were corrected.",
     AT(rows_corrected), 1},
    {"muster_gpu_rows_remapped_uncorrected", "gauge", "Rows remapped after others.", AT(rows_uncorrected), 1},
    {"muster_gpu_rows_pending", "gauge", "1 while rows wait for a reset to be remapped.", AT(rows_pending), 1},
    {"muster_gpu_rows_failed", "gauge", "1 when rows could not be remapped.", AT(rows_failed), 1},
    {"muster_gpu_pcie_generation", "gauge", "PCIe generation of its link now; lower while it is idle.", AT(pcie_gen),
     1},
    {"muster_gpu_pcie_generation_max", "gauge", "The highest that it could have.", AT(pcie_gen_most), 1},
    {"muster_gpu_pcie_width", "gauge", "PCIe lanes of its link now.", AT(pcie_width), 1},
    {"muster_gpu_pcie_width_max", "gauge", "The most that it could have.", AT(pcie_width_most), 1},
    {"muster_gpu_pcie_replays_total", "counter", "Packets that PCIe sent again.", AT(pcie_replays), 1},
    {"muster_gpu_nvlinks", "gauge", "NVLinks of the GPU.", AT(links), 1},
    {"muster_gpu_nvlinks_up", "gauge", "Those of them that are up.", AT(links_up), 1},
    {"muster_gpu_nvlink_errors_total", "counter", "Errors of its NVLinks.", AT(link_errors), 1},
    {"muster_gpu_xid_total", "counter", "Xid errors since its agent asks.", AT(xids), 1},
    {"muster_gpu_xid_last", "gauge", "The newest of them.", AT(xid), 1},
};
static const struct {
    const char *reason;
    uint32_t bit;
} limits[] = {{"power-cap", MU_GPU_POWER_CAP},
              {"hardware", MU_GPU_SLOWDOWN},
              {"warm", MU_GPU_WARM},
              {"hot", MU_GPU_HOT},
              {"power-brake", MU_GPU_POWER_BRAKE}};

typedef void (*each_fn)(struct mu_buf *, const struct mu_metrics_node *, unsigned gpu, const struct mu_gpu *,
                        unsigned row);

static void each(const struct mu_metrics *m, struct mu_buf *out, each_fn fn, unsigned row)
{
    unsigned done = 0;

    for (unsigned i = 0; i < m->nnodes; i++)
        for (unsigned k = 0; m->nodes[i].gpus && k < mu_gpus_count(m->nodes[i].gpus) && done < MOST; k++, done++) {
            struct mu_gpu g;
            mu_gpus_row(m->nodes[i].gpus, k, &g);
            fn(out, &m->nodes[i], k, &g, row);
        }
}

static void begin(struct mu_buf *out, const char *family, const struct mu_metrics_node *n, unsigned gpu)
{
    mu_buf_puts(out, family);
    mu_metrics_label(out, '{', "node", n->node->name);
    mu_buf_appendf(out, ",gpu=\"%u\"", gpu);
}

static void info(struct mu_buf *out, const struct mu_metrics_node *n, unsigned gpu, const struct mu_gpu *g,
                 unsigned row)
{
    (void)g, (void)row;
    begin(out, "muster_gpu_info", n, gpu);
    mu_metrics_label(out, ',', "uuid", n->gpus->uuids[gpu]);
    mu_metrics_label(out, ',', "model", n->gpus->names[gpu]);
    mu_metrics_label(out, ',', "driver", n->gpus->driver ? n->gpus->driver : "");
    mu_buf_puts(out, "} 1\n");
}

static void limited(struct mu_buf *out, const struct mu_metrics_node *n, unsigned gpu, const struct mu_gpu *g,
                    unsigned row)
{
    (void)row;
    for (size_t i = 0; i < MU_COUNT(limits) && g->clocks != MU_GPU_UNKNOWN; i++) {
        begin(out, "muster_gpu_clocks_limited", n, gpu);
        mu_metrics_label(out, ',', "reason", limits[i].reason);
        mu_buf_appendf(out, "} %d\n", (g->clocks & limits[i].bit) != 0);
    }
}

static void value(struct mu_buf *out, const struct mu_metrics_node *n, unsigned gpu, const struct mu_gpu *g,
                  unsigned row)
{
    uint32_t v;

    memcpy(&v, (const char *)g + of_gpu[row].offset, sizeof v);
    if (v == MU_GPU_UNKNOWN)
        return;
    begin(out, of_gpu[row].name, n, gpu);
    mu_buf_appendf(out, "} %.15g\n", v * of_gpu[row].times);
}

void mu_metrics_gpus(const struct mu_metrics *m, struct mu_buf *out)
{
    mu_metrics_head(out, "muster_node_gpu_trouble", "gauge",
                    "Whether something is wrong with the node's GPUs, or with NVML.");
    for (unsigned i = 0; i < m->nnodes; i++) {
        char text[MU_GPUS_TROUBLE];
        if (!m->nodes[i].gpus)
            continue;
        mu_gpus_trouble(m->nodes[i].gpus, text, sizeof text);
        mu_buf_puts(out, "muster_node_gpu_trouble");
        mu_metrics_label(out, '{', "node", m->nodes[i].node->name);
        mu_buf_appendf(out, "} %d\n", *text != 0);
    }
    mu_metrics_head(out, "muster_gpu_info", "gauge", "1; the labels say which GPU it is.");
    each(m, out, info, 0);
    mu_metrics_head(out, "muster_gpu_clocks_limited", "gauge", "1 while its clocks are held down for that reason.");
    each(m, out, limited, 0);
    for (unsigned i = 0; i < MU_COUNT(of_gpu); i++) {
        mu_metrics_head(out, of_gpu[i].name, of_gpu[i].type, of_gpu[i].help);
        each(m, out, value, i);
    }
}
