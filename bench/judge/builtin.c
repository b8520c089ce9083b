/* What is judged where nobody says otherwise. Published figures conflict, so a figure names its source, its size and
 * the algorithm; no built-in check rests on one alone: the first test is against the peers. */
#include <string.h>

#include "bench/judge/criteria.h"
#include "runtime/base/clean.h"

/* How to add one: a line, with src=. `muster accept --list-references` prints them. */
static const char references[] =
    "ref h100.nvls8 480 GB/s src=\"NVIDIA nccl-tests on DGX H100, all-reduce busbw\" algo=NVLS gpus=8 size=8G\n"
    "ref h100.ring8 370 GB/s src=\"NVIDIA nccl-tests on DGX H100, all-reduce busbw\" algo=Ring gpus=8 size=8G\n"
    "ref h200.nvls8 473 GB/s src=\"measured, all-reduce busbw; Azure's published floor of 480 exceeds it\" algo=NVLS "
    "gpus=8 size=8G\n"
    "ref h200.ring8 366 GB/s src=\"measured, all-reduce busbw\" algo=Ring gpus=8 size=8G\n"
    "ref b200.nvls8 838 GB/s src=\"measured, all-reduce busbw\" algo=NVLS gpus=8 size=8G\n"
    "ref b200.ring8 682 GB/s src=\"measured, all-reduce busbw\" algo=Ring gpus=8 size=8G\n"
    "ref ib400.gdr 380 Gb/s src=\"InfiniBand NDR, 400 Gb/s, GPUDirect RDMA, one adapter\" size=8M\n"
    "ref pcie5.h2d 55 GB/s src=\"PCI Express 5.0 x16, pinned memory, either direction\" size=256M\n"
    "ref h200.hbm 4000 GB/s src=\"HBM3e of H200: 4.8 TB/s peak, 4.0 to 4.3 when copied\"\n"
    "ref h100.bf16 790 TFLOP/s src=\"dense GEMM of H100 and H200 SXM, bfloat16\"\n";

/* Of hosts and pairs: quick looks for a tenth, the others for a twentieth; the margin is for what is near it. */
static const char quick[] = "check pair.bw             each >= 0.94*median  confirm=2/3 optional\n"
                            "check pair.lat            each <= 1.25*median  confirm=2/3 optional\n"
                            "check node.mem.*          each >= 0.94*median  confirm=2/3 optional\n"
                            "check node.cpu.*          each >= 0.94*median  confirm=2/3 optional\n"
                            "check node.gpu.*          each >= 0.94*median  confirm=2/3 optional\n"
                            "check node.disk.*         each >= 0.60*median  confirm=2/3 optional\n"
                            "check coll.*.lag          each <= 0.2          confirm=2/3 optional\n"
                            "check node.mem.test       each == 0 optional\n"
                            "check counter.ecc.uncorrected each == 0 optional\n"
                            "check counter.gpu.ecc.uncorrected each == 0 optional\n"
                            "check counter.gpu.xid     each == 0 optional\n";
#define STANDARD                                                                                                       \
    "check pair.bw             each >= 0.965*median confirm=2/3 optional\n"                                            \
    "check pair.lat            each <= 1.15*median  confirm=2/3 optional\n"                                            \
    "check node.mem.*          each >= 0.965*median confirm=2/3 optional\n"                                            \
    "check node.cpu.*          each >= 0.965*median confirm=2/3 optional\n"                                            \
    "check node.gpu.*          each >= 0.965*median confirm=2/3 optional\n"                                            \
    "check node.disk.*         each >= 0.70*median  confirm=2/3 optional\n"                                            \
    "check coll.*.lag          each <= 0.1          confirm=2/3 optional\n"                                            \
    "check node.mem.test       each == 0 optional\n"                                                                   \
    "check counter.ecc.uncorrected each == 0 optional\n"                                                               \
    "check counter.gpu.ecc.uncorrected each == 0 optional\n"                                                           \
    "check counter.gpu.xid     each == 0 optional\n"                                                                   \
    "check counter.ib.link_downed  each == 0 optional\n"                                                               \
    "require samples>=5 else inconclusive\n"
static const char standard[] = STANDARD;
/* Trends of hosts are among node.*: what a host loses from the beginning to the end while the others do not. */
static const char soak[] = STANDARD "check pair.bw.trend       each >= 0.965*median confirm=2/3 optional\n"
                                    "check pair.lat.trend      each >= 0.87*median  confirm=2/3 optional\n";

const char *mu_criteria_references(void)
{
    return references;
}

const char *mu_criteria_builtin(const char *profile)
{
    static const struct {
        const char *name, *text;
    } rows[] = {{"quick", quick}, {"standard", standard}, {"soak", soak}};

    for (size_t i = 0; i < MU_COUNT(rows); i++)
        if (!strcmp(rows[i].name, profile))
            return rows[i].text;
    return NULL;
}
