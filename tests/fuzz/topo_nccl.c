/* NCCL's description of a node, and what is done with its devices.
 * sources: topo/nccl.c topo/dev.c topo/pin_nics.c topo/cpuset.c
 * sources: runtime/base/str.c runtime/base/buf.c runtime/base/path.c runtime/base/err.c */
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/pieces.h"
#include "topo/impl.h"
#include "topo/pin.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Random bytes seldom are a machine: each stands for a piece of one. */
static const char *const pieces[] = {
    "<system>",
    "</system>",
    "<cpu numaid='0' affinity='0000000f'>",
    "<cpu numaid='1' affinity='f0'>",
    "<cpu numaid='-1' affinity='1,00000000'>",
    "</cpu>",
    "<pci busid='0000:01:00.0' class='0x060400'>",
    "<pci busid='0000:02:00.0' class='0x030200'>",
    "<pci busid='0000:03:00.0' class='0x020700'>",
    "<pci busid='0001:03:00.0' class='0x030200'/>",
    "<pci busid='0001:04:00.0' class='0x020000' vendor='0x15b3' device='0x101b'/>",
    "<pci busid='0001:04:00.1' class='0x020000' vendor='0x15b3' device='0x101c'/>",
    "</pci>",
    "<gpu dev='0'/>",
    "<nic><net name='mlx5_0' port='2'/></nic>",
    "<!-- ",
    " -->",
    "<?x?>",
    " ",
    "<",
    "'",
    "=",
    "/>",
};
static void try(char *text, size_t n)
{
    struct mu_topo t = {0};
    struct mu_err err = {0};

    text[n] = 0;
    if (mu_topo_parse_nccl(&t, text, &err)) {
        if (!err.text[0] || strchr(err.text, '\n'))
            abort(); /* one line */
    } else {
        int *nic_of = calloc((size_t)t.ngpus + 1, sizeof *nic_of);
        if (t.ncores < 1 || t.nnodes < 1)
            abort();
        if (nic_of && !mu_pin_nics(&t, nic_of))
            for (int g = 0; g < t.ngpus; g++)
                if ((t.nnics && nic_of[g] < 0) || nic_of[g] >= t.nnics)
                    abort();
        free(nic_of);
    }
    free(t.cores);
    free(t.pus);
    free(t.nsetv);
    free(t.nodes);
    free(t.gpus);
    free(t.nics);
    free(t.bridges);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return fuzz_pieces(data, size, pieces, sizeof pieces / sizeof *pieces, try);
}
