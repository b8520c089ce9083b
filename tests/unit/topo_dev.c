#include "topo/dev.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/buf.h"
#include "runtime/base/clean.h"
#include "runtime/base/path.h"
#include "tests/unit/tap.h"
#include "topo/draw.h"
#include "topo/impl.h"

#define GPUS "tests/data/node-4gpu.xml"

static struct mu_topo *load(const char *path)
{
    struct mu_topo *t;
    struct mu_err err;

    if (mu_topo_load(MU_TOPO_XML, path, MU_TOPO_IO, &t, &err)) {
        printf("# %s\n", err.text);
        exit(1);
    }
    return t;
}

static void spell(struct mu_buf *b, const struct mu_topo *t, bool gpu)
{
    for (int i = 0; i < (gpu ? mu_topo_ngpus(t) : mu_topo_nnics(t)); i++) {
        const struct mu_topo_dev *d = gpu ? mu_topo_gpu(t, i) : mu_topo_nic(t, i);
        mu_buf_appendf(b, "%s%s,%s,%s%s%s%s", i ? " " : "", d->pci, d->name, d->uuid, d->fabric ? ",fabric" : "",
                       d->down ? ",down" : "", d->hidden ? ",hidden" : "");
        if (!gpu && d->port != 1)
            mu_buf_appendf(b, ",port%d", d->port);
    }
}

static void found(void)
{
    struct mu_topo *t = load(GPUS);
    mu_auto_buf struct mu_buf g = {0}, n = {0};

    spell(&g, t, true);
    TAP_OK(!strcmp(mu_buf_str(&g), "0000:03:00.0,cuda1,GPU-00000000-1111-2222-3333-444444444444 0000:05:00.0,, "
                                   "0000:81:00.0,rsmi0,f62596172e6212b 0000:a1:00.0,renderD128,"),
           "GPUs by class, by driver, by render node, no consoles: %s", mu_buf_str(&g));
    spell(&n, t, false);
    TAP_OK(!strcmp(mu_buf_str(&n), "0000:04:00.0,mlx5_0,,fabric 0000:08:00.0,eno1, 0000:08:00.1,eno2, "
                                   "0000:82:00.0,mlx5_1,,fabric,port2 0000:a2:00.0,mlx5_9,,fabric,down"),
           "adapters, no virtual functions: %s", mu_buf_str(&n));
    TAP_OK(mu_topo_common_bridges(t, mu_topo_gpu(t, 0), mu_topo_nic(t, 0)) == 3 &&
               mu_topo_common_bridges(t, mu_topo_gpu(t, 0), mu_topo_nic(t, 1)) == 1 &&
               mu_topo_common_bridges(t, mu_topo_gpu(t, 0), mu_topo_nic(t, 3)) == 0 &&
               mu_topo_common_bridges(t, mu_topo_gpu(t, 3), mu_topo_nic(t, 4)) == 1,
           "bridges in common");
    TAP_OK(mu_topo_nearness(t, mu_topo_gpu(t, 0), mu_topo_nic(t, 0)) >
                   mu_topo_nearness(t, mu_topo_gpu(t, 0), mu_topo_nic(t, 1)) &&
               mu_topo_nearness(t, mu_topo_gpu(t, 3), mu_topo_nic(t, 3)) >
                   mu_topo_nearness(t, mu_topo_gpu(t, 0), mu_topo_nic(t, 3)),
           "a switch is nearer than a host bridge, the same NUMA node nearer than another");
    TAP_OK(mu_topo_gpu(t, 0)->package == 0 && mu_topo_gpu(t, 2)->package == 1 &&
               mu_cpuset_isset(&mu_topo_gpu(t, 2)->nodes, 4) && mu_cpuset_weight(&mu_topo_gpu(t, 2)->cpus) == 12,
           "what they are local to");
    mu_topo_free(t);
    if (mu_topo_load(MU_TOPO_XML, GPUS, 0, &t, NULL))
        exit(1);
    TAP_OK(!mu_topo_ngpus(t) && !mu_topo_nnics(t), "without MU_TOPO_IO there are none");
    mu_topo_free(t);
}

static void put_file(const char *root, const char *path, const char *text)
{
    char full[400];

    snprintf(full, sizeof full, "%s%s", root, path);
    char *slash = strrchr(full, '/');
    *slash = 0;
    if (mu_path_mkdirs(full, 0700, NULL))
        exit(1);
    *slash = '/';
    if (mu_path_write_atomic(full, text, strlen(text), 0600, NULL))
        exit(1);
}

/* What drivers say, below another root. */
static void drivers(void)
{
    struct mu_topo *t = load(GPUS);
    char root[] = "/tmp/muster-dev-XXXXXX";
    mu_auto_buf struct mu_buf g = {0};

    if (!mkdtemp(root))
        exit(1);
    t->gpus[0].uuid[0] = t->gpus[2].uuid[0] = 0;
    put_file(root, "/proc/driver/nvidia/gpus/0000:03:00.0/information",
             "Model: \t\t NVIDIA A100\nGPU UUID: \t GPU-aaaa-bbbb\nDevice Minor: \t 3\n");
    put_file(root, "/dev/nvidia3", "");
    put_file(root, "/dev/kfd", "");
    put_file(root, "/sys/bus/pci/devices/0000:81:00.0/unique_id", "3f00deadbeef\n");
    mu_topo_live_devs(t, root);
    spell(&g, t, true);
    TAP_OK(!strcmp(mu_buf_str(&g), "0000:03:00.0,cuda1,GPU-aaaa-bbbb 0000:05:00.0,,,hidden "
                                   "0000:81:00.0,rsmi0,3f00deadbeef 0000:a1:00.0,renderD128,"),
           "UUIDs from the drivers; a GPU that NVIDIA's does not show is not to be had: %s", mu_buf_str(&g));
    put_file(root, "/proc/driver/nvidia/gpus/0000:05:00.0/information", "GPU UUID: \t GPU-?\nDevice Minor: \t 4\n");
    t->gpus[1].hidden = false;
    mu_topo_live_devs(t, root);
    TAP_OK(t->gpus[1].hidden && !*t->gpus[1].uuid, "nor is one without its device file; a UUID of ? is none");
    mu_path_remove_tree(root, NULL);
    mu_topo_free(t);
}

/* --- NCCL's files --------------------------------------------------------------------------------------------------
 */

#define CPU0 "<cpu numaid='0' affinity='0000000f'>"
static const struct {
    const char *text, *says;
} refused[] = {
    {"<system version='1'>", "no </system>"},
    {"<system version='1'></system>", "holds no CPUs"},
    {"<system version='1'/>", "holds no CPUs"},
    {"<system><cpu numaid='0'/></system>", "affinity of a CPU is missing"},
    {"<system><cpu numaid='0' affinity='xyz'/></system>", "no list of hexadecimal words"},
    {"<system><cpu numaid='0' affinity='123456789'/></system>", "no list of hexadecimal words"},
    {"<system><cpu numaid='0' affinity='1,'/></system>", "no list of hexadecimal words"},
    {"<system><cpu numaid='zero' affinity='1'/></system>", "is no NUMA node"},
    {"<system><cpu numaid='0' affinity='3'/><cpu numaid='1' affinity='6'/></system>", "in two NUMA nodes"},
    {"<system><cpu numaid='0' affinity='3'/>\n<cpu numaid='0' affinity='c'/></system>",
     "line 2: NUMA node 0 is there twice"},
    {"<system version='99'>" CPU0 "</cpu></system>", "version '99' of NCCL's topologies is not known, only 1"},
    {"<system version='x'>" CPU0 "</cpu></system>", "version 'x'"},
    {"<!DOCTYPE system [<!ENTITY a \"]>\">]><system>" CPU0 "</cpu>", "no </system>"},
    {"<!DOCTYPE system [<!ENTITY a \"]>\">", "is truncated"},
    {"<system>\n" CPU0 "<pci busid='xx'/></cpu></system>", "line 2: busid 'xx' is no PCI address"},
    {"<system><pci busid='0000:01:00.0'/></system>", "outside of a <cpu>"},
    {"<system>" CPU0 CPU0 "</cpu></cpu></system>", "a <cpu> in a <cpu>"},
    {"<system>" CPU0 "</system>", "closes what is not open"},
    {"<system>" CPU0 "</cpu></system><system/>", "outside of <system>"},
    {"<system>" CPU0 "</cpu><pci busid=", "does not end"},
    {"<system version=1></system>", "value of version does not end"},
    {"<system ?></system>", "no attribute"},
    {"<system><!-- ", "does not end: it is truncated"},
    {"<system>" CPU0 "<a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a>"
     "<a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a>",
     "more than 64 deep"},
};

static const char machine[] =
    "<?xml version='1.0'?>\n<!-- made by hand --><system version=\"1\">\n"
    "<cpu numaid=\"1\" affinity=\"000000f0\" arch=\"x86_64\">\n"
    " <pci busid=\"0000:80:00.0\" class=\"0x060400\">\n"
    "  <pci busid=\"0000:81:00.0\" class=\"0x030200\" link_width=\"16\"><gpu dev=\"0\" sm=\"80\"/></pci>\n"
    "  <pci busid=\"0000:82:00.0\" class=\"0x020000\"><nic><net name=\"mlx5_1\" dev=\"1\" port=\"2\"/></nic></pci>\n"
    " </pci>\n"
    " <nic><net name=\"lo\"/></nic></cpu>\n"
    "<cpu numaid=\"0\" affinity=\"0000000f\">\n"
    " <pci busid=\"0000:0A:00.0\" class=\"0x020700\"/><pci busid=\"0000:01:00.0\" "
    "class=\"0x068000\"><nvswitch/></pci>\n"
    " <pci busid=\"0000:0b:00.0\" class=\"0x020000\" vendor=\"0x17db\" device=\"0x0501\"><nic><net "
    "name=\"hsn0\"/></nic></pci>\n"
    " <pci busid=\"0000:0c:00.0\" class=\"0x020000\" vendor=\"0x8086\"><nic><net name=\"eth0\"/></nic></pci>\n"
    "</cpu></system>\n";

static void nccl(void)
{
    struct mu_topo *t;
    struct mu_err err = {0};
    char dir[] = "/tmp/muster-nccl-XXXXXX", path[64];
    mu_auto_buf struct mu_buf g = {0}, n = {0};

    if (!mkdtemp(dir))
        exit(1);
    snprintf(path, sizeof path, "%s/nccl.xml", dir);
    for (size_t i = 0; i < MU_COUNT(refused); i++) {
        put_file(dir, "/nccl.xml", refused[i].text);
        TAP_OK(mu_topo_load(MU_TOPO_XML, path, MU_TOPO_IO, &t, &err) == MUSTER_EARG &&
                   strstr(err.text, refused[i].says) && strstr(err.text, path) && !strchr(err.text, '\n'),
               "refused: %s", err.text);
    }
    mu_auto_buf struct mu_buf many = {0};
    mu_buf_puts(&many, "<system>" CPU0);
    for (int i = 0; i < 3000; i++)
        mu_buf_appendf(&many, "<pci busid='%04x:00:00.0' class='0x020000'/>", i);
    mu_buf_puts(&many, "</cpu></system>");
    put_file(dir, "/nccl.xml", mu_buf_str(&many));
    TAP_OK(mu_topo_load(MU_TOPO_XML, path, MU_TOPO_IO, &t, &err) == MUSTER_EARG &&
               strstr(err.text, "more than 2048 PCI devices"),
           "refused: %s", err.text);
    put_file(dir, "/nccl.xml", machine);
    t = load(path);
    spell(&g, t, true);
    spell(&n, t, false);
    TAP_OK(!strcmp(mu_buf_str(&g), "0000:81:00.0,,") &&
               !strcmp(mu_buf_str(&n), "0000:0a:00.0,,,fabric 0000:0b:00.0,hsn0,,fabric 0000:0c:00.0,eth0, "
                                       "0000:82:00.0,mlx5_1,,fabric,port2") &&
               !mu_topo_nic(t, 1)->rdma && mu_topo_nic(t, 3)->rdma,
           "devices of an NCCL topology: %s; %s", mu_buf_str(&g), mu_buf_str(&n));
    TAP_OK(mu_topo_ncores(t) == 8 && mu_topo_nnodes(t) == 2 && mu_topo_node(t, 0)->os == 0 &&
               mu_topo_core(t, 0)->pus[0] == 0 && mu_cpuset_isset(mu_topo_core(t, 4)->nodes, 1) &&
               mu_cpuset_isset(&mu_topo_gpu(t, 0)->nodes, 1) &&
               mu_topo_common_bridges(t, mu_topo_gpu(t, 0), mu_topo_nic(t, 3)) == 1,
           "its CPUs, in the order of the NUMA nodes");
    mu_topo_free(t);
    /* Cut anywhere it is refused, in one line. */
    int bad = 0;
    for (size_t len = 1; len < sizeof machine - 11; len += 3) {
        char cut[sizeof machine];
        memcpy(cut, machine, len);
        cut[len] = 0;
        put_file(dir, "/nccl.xml", cut);
        bad += mu_topo_load(MU_TOPO_XML, path, MU_TOPO_IO, &t, &err) != MUSTER_EARG || strchr(err.text, '\n');
    }
    TAP_OK(!bad, "cut anywhere it is refused");
    mu_path_remove_tree(dir, NULL);
}

/* The first GPU may have either adapter, the second only the first: so the first one has to go to the other. */
static void moved(void)
{
    static const char text[] = "<system><cpu numaid='0' affinity='f'>"
                               "<pci busid='0000:01:00.0' class='0x030200'/>"
                               "<pci busid='0000:10:00.0' class='0x060400'><pci busid='0000:11:00.0' class='0x030200'/>"
                               "<pci busid='0000:12:00.0' class='0x020700'/></pci>"
                               "<pci busid='0000:13:00.0' class='0x020700'/></cpu></system>";
    char dir[] = "/tmp/muster-nics-XXXXXX", path[64];
    int nic_of[2] = {-1, -1};

    if (!mkdtemp(dir))
        exit(1);
    snprintf(path, sizeof path, "%s/nccl.xml", dir);
    put_file(dir, "/nccl.xml", text);
    struct mu_topo *t = load(path);
    TAP_OK(!mu_pin_nics(t, nic_of) && nic_of[0] == 1 && nic_of[1] == 0,
           "adapters are exchanged where that is fairer: %d, %d", nic_of[0], nic_of[1]);
    mu_topo_free(t);
    mu_path_remove_tree(dir, NULL);
}

static void addresses(void)
{
    static const struct {
        const char *text, *is;
    } rows[] = {{"0000:04:00.0", "0000:04:00.0"},
                {"0001:AB:1f.7", "0001:ab:1f.7"},
                {"10000:01:00.0", "10000:01:00.0"},
                {"04:00.0", NULL},
                {"0000:04:20.0", NULL},
                {"0000:04:00.0x", NULL},
                {"", NULL},
                {"-1:04:00.0", NULL},
                {"0000:04:00", NULL}};

    for (size_t i = 0; i < MU_COUNT(rows); i++) {
        char out[24] = "";
        int rc = mu_topo_pci_parse(rows[i].text, out);
        TAP_OK(rows[i].is ? !rc && !strcmp(out, rows[i].is) : rc == MUSTER_EARG, "'%s' is %s", rows[i].text,
               rc ? "no address" : out);
    }
}

/* Names in a file may hold anything; a drawing is lines of text. */
static void drawn(void)
{
    struct mu_topo *t = load(GPUS);
    mu_auto_free char *text = NULL;
    size_t len;
    struct mu_pin pin;

    snprintf(t->gpus[0].model, sizeof t->gpus[0].model, "evil\x1b[31m\n&<GPU>");
    if (mu_pin_compute(t, &(struct mu_pin_request){.nranks = 4, .policy = MU_PIN_GPU}, &pin, NULL))
        exit(1);
    FILE *f = open_memstream(&text, &len);
    mu_topo_draw(t, &pin, f);
    fclose(f);
    TAP_OK(!strchr(text, 0x1b) &&
               strstr(text, "adapter 0000:04:00.0 mlx5_0, MT28908 Family [ConnectX-6]  <- rank 0-1\n") &&
               strstr(text, "core 6: PU 12* 18*  <- rank 2\n") &&
               strstr(text, "mlx5_9, MT28908 Family [ConnectX-6] (no link)"),
           "drawn as text, with ranks");
    if (!strstr(text, "<- rank 2"))
        printf("# %s\n", text);
    mu_pin_free(&pin);
    mu_topo_free(t);
}

/* hwloc loses objects of files that it refuses; sanitizer builds ask here. */
__attribute__((visibility("default"))) const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libhwloc";
}

/* Whatever is changed in a file of hwloc's: it is refused in one line, or there is a plan. */
static void damaged(void)
{
    char dir[] = "/tmp/muster-xml-XXXXXX", path[64];
    mu_auto_buf struct mu_buf text = {0};
    int refusals = 0, plans = 0, bad = 0, saved = dup(2), null = open("/dev/null", O_WRONLY);
    unsigned seed = 5;

    if (!mkdtemp(dir) || mu_path_read(GPUS, 1 << 20, &text, NULL))
        exit(1);
    snprintf(path, sizeof path, "%s/node.xml", dir);
    dup2(null, 2); /* hwloc may complain */
    for (int round = 0; round < 150; round++) {
        mu_auto_free char *copy = strndup(text.data, text.len);
        struct mu_topo *t = NULL;
        struct mu_err err = {0};
        struct mu_pin pin;
        for (int k = 0; k < 1 + round % 4; k++) {
            seed = seed * 1103515245u + 12345u;
            size_t at = (seed >> 4) % text.len;
            seed = seed * 1103515245u + 12345u;
            static const char with[] = "0123456789abcdefx<>\"=/- [];";
            copy[at] = with[(seed >> 8) % (sizeof with - 1)];
        }
        put_file(dir, "/node.xml", copy);
        if (mu_topo_load(MU_TOPO_XML, path, MU_TOPO_IO, &t, &err)) {
            refusals++;
            bad += !err.text[0] || strchr(err.text, '\n') != NULL;
            continue;
        }
        if (!mu_pin_compute(t, &(struct mu_pin_request){.nranks = 1 + round % 5, .policy = MU_PIN_GPU}, &pin, NULL)) {
            plans++;
            mu_pin_free(&pin);
        }
        mu_topo_free(t);
    }
    dup2(saved, 2);
    close(saved);
    close(null);
    mu_path_remove_tree(dir, NULL);
    TAP_OK(!bad && plans && refusals, "damaged files: %d plans, %d refusals", plans, refusals);
}

int main(void)
{
    found();
    drivers();
    nccl();
    moved();
    addresses();
    drawn();
    damaged();
    return tap_done();
}
