/* How the GPUs of a node are, as it comes from elsewhere: what is one, and what is said of it. */
#include "runtime/wire/gpus.h"

#include <string.h>

#include "tests/unit/tap.h"

static char long_text[300], a[] = "GPU-a", b[] = "GPU-b", name[] = "NVIDIA H200", bad[] = "a\x1b[31m";
static char *uuids[] = {a, b, NULL}, *names[] = {name, name, NULL};
static uint32_t values[2 * MU_GPU_NVALUES];

static struct mu_m_gpus good(void)
{
    memset(values, 0, sizeof values);
    return (struct mu_m_gpus){
        .since = 1, .uuids = uuids, .names = names, .values = {.v = values, .n = 2 * MU_GPU_NVALUES}};
}

static void test_valid(void)
{
    uint32_t xids[] = {1, 0, 79, 5, MU_GPU_UNKNOWN, 31}, many[3 * MU_GPUS_XIDS + 3], one = 1;
    char *most[MU_GPUS_MOST + 2] = {0};
    struct mu_m_gpus m = good();

    TAP_OK(mu_gpus_valid(&m) && mu_gpus_valid(&(struct mu_m_gpus){0}), "two GPUs, and none");
    m.xids = (struct mu_u32v){.v = xids, .n = 6};
    TAP_OK(mu_gpus_valid(&m), "Xids, also of a GPU that is not known");
    for (uint32_t i = 0; i < 6; i++) {
        m.xids.n = i;
        if (mu_gpus_valid(&m) != (i % 3 == 0))
            TAP_OK(false, "%u numbers of Xids", i);
    }
    m.xids.n = 6;
    xids[3] = 1;
    TAP_OK(!mu_gpus_valid(&m), "Xids that do not grow");
    xids[3] = 2;
    xids[1] = 2;
    TAP_OK(!mu_gpus_valid(&m), "of a third GPU");
    for (uint32_t i = 0; i <= MU_GPUS_XIDS; i++)
        memcpy(many + 3 * i, (uint32_t[]){i + 1, 0, 13}, 3 * sizeof *many);
    m.xids = (struct mu_u32v){.v = many, .n = 3 * MU_GPUS_XIDS};
    bool full = mu_gpus_valid(&m);
    m.xids.n += 3;
    TAP_OK(full && !mu_gpus_valid(&m), "so many Xids and no more");

    m = good();
    m.values.n--;
    TAP_OK(!mu_gpus_valid(&m), "a table that is not one");
    m.values.n = 2 * (MU_GPUS_COLUMNS + 1);
    TAP_OK(!mu_gpus_valid(&m), "rows that are too long");
    m = (struct mu_m_gpus){.values = {.v = &one, .n = 1}};
    TAP_OK(!mu_gpus_valid(&m), "numbers of no GPU");
    m = good();
    m.names = names + 1;
    TAP_OK(!mu_gpus_valid(&m), "fewer names than GPUs");
    for (size_t i = 0; i <= MU_GPUS_MOST; i++)
        most[i] = a;
    m = (struct mu_m_gpus){.uuids = most, .names = most};
    bool over = mu_gpus_valid(&m);
    most[MU_GPUS_MOST] = NULL;
    TAP_OK(!over && mu_gpus_valid(&m), "so many GPUs and no more");

    memset(long_text, 'x', sizeof long_text - 1);
    struct mu_m_gpus texts[] = {good(), good(), good()};
    texts[0].driver = texts[1].trouble = long_text;
    texts[2].driver = bad;
    for (int i = 0; i < 3; i++)
        TAP_OK(!mu_gpus_valid(&texts[i]), "text %d that is too long, or not to be printed", i);
}

static void test_rows(void)
{
    uint32_t three[] = {0, 7, 8, 1, 2, 3}, fresh[2 * (MU_GPU_NVALUES + 2)];
    struct mu_m_gpus m = good();
    char text[MU_GPUS_TROUBLE];
    struct mu_gpu g;

    m.values = (struct mu_u32v){.v = three, .n = 6};
    mu_gpus_row(&m, 1, &g);
    TAP_OK(mu_gpus_valid(&m) && g.lost == 1 && g.memory_mib == 3 && g.xid == MU_GPU_UNKNOWN,
           "what an older agent does not tell is not known");
    mu_gpus_fault(&m, text, sizeof text);
    TAP_OK(!strcmp(text, "GPU 1 (GPU-b) is lost: it needs a reset"), "a fault: %s", text);
    for (uint32_t i = 0; i < MU_GPU_NVALUES + 2; i++)
        fresh[i] = fresh[MU_GPU_NVALUES + 2 + i] = 0;
    fresh[MU_GPU_NVALUES + 1] = 9;
    m.values = (struct mu_u32v){.v = fresh, .n = 2 * (MU_GPU_NVALUES + 2)};
    mu_gpus_row(&m, 1, &g);
    mu_gpus_fault(&m, text, sizeof text);
    TAP_OK(mu_gpus_valid(&m) && g.lost == 0 && !*text, "what a newer one tells besides is passed over");
    mu_gpus_row(&m, 5, &g);
    TAP_OK(g.lost == MU_GPU_UNKNOWN, "of a GPU that there is not nothing is known");
}

int main(void)
{
    test_valid();
    test_rows();
    return tap_done();
}
