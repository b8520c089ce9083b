/* How the GPUs of a node are, as its agent says it (runtime/agent/gpus.h): of each the same numbers, in the order of
 * MU_GPU_VALUES, and the newest Xid errors of the driver. docs/formats.md, "Health of GPUs". */
#ifndef MU_WIRE_GPUS_H
#define MU_WIRE_GPUS_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/wire/msg.h"

/* A message has at most so many GPUs, numbers of each, and Xids; its texts are so long with their NUL. */
enum { MU_GPUS_MOST = 64, MU_GPUS_COLUMNS = 64, MU_GPUS_XIDS = 16, MU_GPUS_TEXT = 96, MU_GPUS_TROUBLE = 200 };
#define MU_GPU_UNKNOWN UINT32_MAX

/* How to add one: a row at the end, its source in runtime/agent/gpus_nvml.c, its line in docs/formats.md. Errors are
 * since the driver was loaded, xids since the agent asks; links: NVLinks that there are. */
#define MU_GPU_VALUES(V)                                                                                               \
    V(lost)                                                                                                            \
    V(percent)                                                                                                         \
    V(memory_mib)                                                                                                      \
    V(used_mib)                                                                                                        \
    V(celsius)                                                                                                         \
    V(milliwatts)                                                                                                      \
    V(clocks)                                                                                                          \
    V(corrected)                                                                                                       \
    V(uncorrected)                                                                                                     \
    V(rows_corrected)                                                                                                  \
    V(rows_uncorrected)                                                                                                \
    V(rows_pending)                                                                                                    \
    V(rows_failed)                                                                                                     \
    V(pcie_gen)                                                                                                        \
    V(pcie_gen_most)                                                                                                   \
    V(pcie_width)                                                                                                      \
    V(pcie_width_most)                                                                                                 \
    V(pcie_replays)                                                                                                    \
    V(links)                                                                                                           \
    V(links_up)                                                                                                        \
    V(link_errors)                                                                                                     \
    V(xids)                                                                                                            \
    V(xid)
struct mu_gpu {
#define MU_GPU_FIELD(name) uint32_t name;
    MU_GPU_VALUES(MU_GPU_FIELD)
#undef MU_GPU_FIELD
};
#define MU_GPU_NVALUES (sizeof(struct mu_gpu) / sizeof(uint32_t))

/* Bits of clocks, as NVML has them. */
enum { MU_GPU_POWER_CAP = 4, MU_GPU_SLOWDOWN = 8, MU_GPU_WARM = 32, MU_GPU_HOT = 64, MU_GPU_POWER_BRAKE = 128 };
/* Those that say that it cannot do what it should. */
#define MU_GPU_THROTTLED (MU_GPU_SLOWDOWN | MU_GPU_WARM | MU_GPU_HOT | MU_GPU_POWER_BRAKE)

/* What came from elsewhere is one: bounded, texts printable, tables as long as they should be. */
bool mu_gpus_valid(const struct mu_m_gpus *);
unsigned mu_gpus_count(const struct mu_m_gpus *);
/* Of a valid one; what it does not have is MU_GPU_UNKNOWN. */
void mu_gpus_row(const struct mu_m_gpus *, unsigned n, struct mu_gpu *out);

/* Of an Xid: whether it is the GPU's own, so that its node is to get no jobs; and what it means, in words. */
bool mu_xid_is_fault(uint32_t xid);
const char *mu_xid_text(uint32_t xid);
/* "GPU 3 (GPU-1234): Xid 79, it has fallen off the bus"; n: of m->xids, a third of its numbers. */
void mu_gpus_tell_xid(const struct mu_m_gpus *, unsigned n, char *out, size_t size);

/* In a line, the first thing for which its node is to get no jobs, or "". */
void mu_gpus_fault(const struct mu_m_gpus *, char *out, size_t size);
/* The same of whatever is not as it should be, faults first. */
void mu_gpus_trouble(const struct mu_m_gpus *, char *out, size_t size);

#endif
