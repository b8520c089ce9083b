/* The environment of ranks: who wins, what is dropped, what each rank has of its own. */
#include "runtime/keeper/env.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/clean.h"
#include "runtime/base/str.h"
#include "tests/unit/tap.h"

#define S(text) ((char *)(uintptr_t)(text))

static uint32_t one_node[] = {3}, two_nodes[] = {2, 3};
static char *nodes[] = {S("node-a"), S("node-b"), NULL};
static char *env[] = {S("HOME=/home/u"),
                      S("RANK=17"),
                      S("PMIX_RANK=4"),
                      S("PMIX_MCA_gds=hash"),
                      S("PWD=/old"),
                      S("PMI_FD=3"),
                      S("OMPI_MCA_pml=cm"),
                      S("=odd"),
                      S("MASTER_PORT=1"),
                      S("notavariable"),
                      S("A=1"),
                      S("OMPI_COMM_WORLD_SIZE=99"),
                      NULL};
static char *app_env[] = {S("FIRST=1"), S("A=2"), S("MASTER_ADDR=10.0.0.1"), NULL};
static char *wdirs[] = {S("/w0"), S(""), NULL};
static uint32_t envc[] = {1, 2};

static bool is(char **v, const char *name, const char *value)
{
    const char *got = mu_env_get(v, name);
    bool same = value ? got && !strcmp(got, value) : !got;

    if (!same)
        printf("# %s is %s, not %s\n", name, got ? got : "unset", value ? value : "unset");
    return same;
}

static unsigned count(char **v, const char *name)
{
    unsigned n = 0;

    for (size_t len = strlen(name); v && *v; v++)
        n += !strncmp(*v, name, len) && (*v)[len] == '=';
    return n;
}

/* What decides already which GPUs a rank sees. */
static void plans(void)
{
    static const struct {
        const char *lines, *env[3], *vars, *kept;
    } rows[] = {
        {"", {NULL}, "", ""},
        {"CUDA_VISIBLE_DEVICES=GPU-1\nUCX_NET_DEVICES=mlx5_0:1",
         {"A=1", NULL},
         "CUDA_VISIBLE_DEVICES=GPU-1 UCX_NET_DEVICES=mlx5_0:1 ",
         ""},
        {"CUDA_VISIBLE_DEVICES=GPU-1\nUCX_NET_DEVICES=mlx5_0:1",
         {"CUDA_VISIBLE_DEVICES=", NULL},
         "UCX_NET_DEVICES=mlx5_0:1 ",
         "CUDA_VISIBLE_DEVICES"},
        {"ROCR_VISIBLE_DEVICES=GPU-1", {"HIP_VISIBLE_DEVICES=0", NULL}, "", "HIP_VISIBLE_DEVICES"},
        {"CUDA_VISIBLE_DEVICES=GPU-1", {"HIP_VISIBLE_DEVICES=0", NULL}, "CUDA_VISIBLE_DEVICES=GPU-1 ", ""},
        {"odd\n\nA=1", {NULL}, "A=1 ", ""},
    };

    for (size_t i = 0; i < MU_COUNT(rows); i++) {
        char **vars = NULL, kept[64] = "";
        mu_auto_buf struct mu_buf b = {0};
        int rc = mu_env_plan(rows[i].lines, (char *const *)(uintptr_t)rows[i].env, &vars, kept);
        for (char **v = vars; v && *v; v++)
            mu_buf_appendf(&b, "%s ", *v);
        TAP_OK(!rc && !strcmp(mu_buf_str(&b), rows[i].vars) && !strcmp(kept, rows[i].kept),
               "a plan's variables: '%s'%s%s", mu_buf_str(&b), *kept ? ", but not " : "", kept);
        mu_strv_free(vars);
    }
}

int main(void)
{
    plans();
    struct mu_m_start st = {.job = 12,
                            .attempt = 3,
                            .mark = 0xdeadbeef,
                            .failures = 2,
                            .ran_ns = 1500000000,
                            .nodes = nodes,
                            .node_ranks = {one_node, 1},
                            .ckpt_dir = S("/ckpt/12")};
    struct mu_m_spec spec = {
        .env = env, .app_env = app_env, .app_envc = {envc, 2}, .app_wdir = wdirs, .ckpt_options = S("keep=3")};
    struct mu_env_job job = {.start = &st,
                             .spec = &spec,
                             .pool = 0xab,
                             .slots = "/proc/1/fd/9",
                             .session_dir = "/run/s",
                             .shm_dir = "/dev/shm/s",
                             .master_addr = "127.0.0.1",
                             .master_port = 4242};
    static const char *const rows[][2] = {
        {"HOME", "/home/u"},
        {"WORLD_SIZE", "3"},
        {"LOCAL_WORLD_SIZE", "3"},
        {"NODE_RANK", "0"},
        {"PWD", "/w0"},
        {"FIRST", "1"},
        {"A", "1"},
        {"MASTER_PORT", "4242"},
        {"MASTER_ADDR", "127.0.0.1"},
        {"MUSTER_JOB", "12"},
        {"MUSTER_ATTEMPT", "3"},
        {"MUSTER_JOB_MARK", "deadbeef0000000c"},
        {"MUSTER_FAILURES", "2/1.500"},
        {"MUSTER_CKPT_DIR", "/ckpt/12"},
        {"MUSTER_CKPT", "keep=3"},
        {"MUSTER_NODE", "node-a"},
        {"MUSTER_TAG", "000000ab.12.3"},
        {"MUSTER_SLOTS", "/proc/1/fd/9"},
        {"OMPI_MCA_schizo", "jsm"},
        {"OMPI_MCA_pml", "cm"},
        {"OMPI_MCA_btl_vader_backing_directory", "/dev/shm/s"},
        {"OMPI_MCA_btl_sm_backing_directory", "/dev/shm/s"},
        {"OMPI_COMM_WORLD_SIZE", "3"},
        {"PMIX_RANK", NULL},
        {"PMI_FD", NULL},
        {"PMIX_MCA_gds", "hash"},
        {"OMPI_MCA_mpi_yield_when_idle", NULL},
    };
    char **common = NULL, **rank = NULL;
    char *pmix[] = {S("PMIX_RANK=2"), S("PMIX_NAMESPACE=ns"), NULL};
    struct mu_err err;

    TAP_OK(!mu_env_common(&job, 0, &common, &err), "the common part");
    for (size_t i = 0; i < MU_COUNT(rows); i++)
        TAP_OK(is(common, rows[i][0], rows[i][1]), "%s is %s", rows[i][0], rows[i][1] ? rows[i][1] : "not there");
    TAP_OK(mu_env_get(common, "OMPI_MCA_btl") != NULL, "one node: no network transports");
    TAP_OK(count(common, "PWD") == 1 && count(common, "A") == 1, "no variable twice");

    TAP_OK(!mu_env_rank(common, 2, 1, pmix, &rank, &err), "a rank's");
    TAP_OK(is(rank, "RANK", "2") && is(rank, "LOCAL_RANK", "1") && is(rank, "MUSTER_SLOT_INDEX", "1") &&
               is(rank, "OMPI_COMM_WORLD_RANK", "2") && is(rank, "OMPI_COMM_WORLD_LOCAL_RANK", "1"),
           "its numbers");
    TAP_OK(is(rank, "PMIX_RANK", "2") && is(rank, "PMIX_NAMESPACE", "ns") && is(rank, "HOME", "/home/u"),
           "PMIx's and the common part");
    TAP_OK(count(rank, "RANK") == 1, "no variable twice");
    mu_strv_free(rank);
    mu_strv_free(common);

    TAP_OK(!mu_env_common(&job, 1, &common, &err) && is(common, "A", "2") && is(common, "FIRST", NULL) &&
               is(common, "MASTER_ADDR", "10.0.0.1") && is(common, "PWD", "/old"),
           "the second application has its own");
    mu_strv_free(common);

    st.node_ranks = (struct mu_u32v){two_nodes, 2};
    st.node_id = 1;
    job.crowded = true;
    job.shm_dir = NULL;
    TAP_OK(!mu_env_common(&job, 0, &common, &err) && is(common, "WORLD_SIZE", "5") &&
               is(common, "LOCAL_WORLD_SIZE", "3") && is(common, "NODE_RANK", "1") &&
               is(common, "OMPI_MCA_mpi_yield_when_idle", "1") && is(common, "OMPI_MCA_schizo", "jsm") &&
               is(common, "OMPI_MCA_btl_sm_backing_directory", NULL) && is(common, "MUSTER_NODE", "node-b"),
           "two nodes, crowded ranks yield");
    TAP_OK(is(common, "OMPI_MCA_pml", "cm") && is(common, "OMPI_MCA_btl", "^openib,ofi,uct,usnic") &&
               is(common, "OMPI_MCA_btl_tcp_eager_limit", "81920"),
           "TCP between them, without looking for more; what the user has set stays");
    mu_strv_free(common);
    job.fabric = true;
    TAP_OK(!mu_env_common(&job, 0, &common, &err) && is(common, "OMPI_MCA_btl", NULL),
           "where there is more the MPI library chooses");
    mu_strv_free(common);
    setenv("MUSTER_RACK", "row 3, rack 7", 1);
    TAP_OK(!mu_env_common(&job, 0, &common, &err) && is(common, "MUSTER_RACK", "row 3, rack 7"),
           "the rack that the host's agent was started with");
    mu_strv_free(common);
    return tap_done();
}
