#include "topo/topo.h"

#include <ctype.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/clean.h"
#include "runtime/base/clock.h"
#include "runtime/base/path.h"
#include "topo/draw.h"
#include "topo/impl.h"

static void clean_topo(struct mu_topo **t)
{
    mu_topo_free(*t);
}
#define auto_topo __attribute__((cleanup(clean_topo)))

/* --- hwloc's environment ---------------------------------------------------------------------------------------- */

/* Variables that hwloc reads while it loads, replaced for that long. Its plugins (OpenCL, CUDA, X11) bring in whole
 * drivers, 34 ms at best, and nothing that is wanted here. */
struct env {
    const char *name, *value;
    char *was;
};

static void env_put(struct env *e, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const char *was = getenv(e[i].name);
        e[i].was = was ? strdup(was) : NULL;
        setenv(e[i].name, e[i].value, 1);
    }
}

static void env_restore(struct env *e, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (e[i].was)
            setenv(e[i].name, e[i].was, 1);
        else
            unsetenv(e[i].name);
        free(e[i].was);
    }
}

/* --- sources ---------------------------------------------------------------------------------------------------- */

/* hwloc builds whatever is described, so a slip of the pen must not cost all memory. Numbers are read as it does. It
 * compares each new object with those side by side with it, as sets of all PUs: 2^EFFORT_BITS takes about three
 * seconds. */
static int check_synthetic(const char *text, struct mu_err *err)
{
    enum { EFFORT_BITS = 38 };
    unsigned long long product = 1, widest = 1;
    int depth = 0;

    for (const char *p = text; *p; p++) {
        depth += (*p == '(' || *p == '[') - (*p == ')' || *p == ']');
        if (depth > 0 || !isdigit((unsigned char)*p) || (p > text && isalpha((unsigned char)p[-1])))
            continue;
        char *end;
        unsigned long long n = strtoull(p, &end, 0);
        if ((p > text && p[-1] == '-') || n > MU_CPUSET_MAX || (product *= n ? n : 1) > MU_CPUSET_MAX)
            return mu_err_set(err, MUSTER_EARG, "description '%.80s': more than %d PUs", text, MU_CPUSET_MAX);
        widest = n > widest ? n : widest;
        p = end - 1;
    }
    unsigned long long most = (1ull << EFFORT_BITS) / (product * product);
    if (widest > most)
        return mu_err_set(err, MUSTER_EARG,
                          "description '%.80s': more than %llu objects side by side among %llu PUs take minutes; put "
                          "levels between, such as 'pack:32 core:512 pu:1'",
                          text, most, product);
    return 0;
}

static bool is_live(enum mu_topo_kind kind)
{
    return kind == MU_TOPO_LIVE || kind == MU_TOPO_PROCESS;
}

static int source_live(struct mu_topo *t, const char *where, struct mu_err *err)
{
    (void)t, (void)where, (void)err;
    return 0;
}

static int source_xml(struct mu_topo *t, const char *where, struct mu_err *err)
{
    mu_auto_buf struct mu_buf text = {0};
    bool nccl = false;
    int rc = mu_topo_read_xml(where, &text, &nccl, err);

    if (rc)
        return rc;
    if (nccl) {
        hwloc_topology_destroy(MU_STEAL(t->hw, NULL));
        rc = mu_topo_parse_nccl(t, mu_buf_str(&text), err);
        return rc ? mu_err_prefix(err, "node file %s", where) : 0;
    }
    if (hwloc_topology_set_xmlbuffer(t->hw, text.data, (int)text.len + 1))
        return mu_err_set(err, MUSTER_EARG,
                          "node file %s: hwloc does not parse it: it is damaged, or has elements more than 256 deep",
                          where);
    return 0;
}

static int source_synthetic(struct mu_topo *t, const char *where, struct mu_err *err)
{
    int rc = check_synthetic(where, err);

    if (rc)
        return rc;
    if (hwloc_topology_set_synthetic(t->hw, where))
        return mu_err_set(err, MUSTER_EARG,
                          "description '%.80s': hwloc does not understand it; expected something like "
                          "'pack:2 core:4 pu:2'",
                          where);
    return 0;
}

/* A new kind of source is a row here and a name in enum mu_topo_kind. */
static const struct source {
    int (*set)(struct mu_topo *, const char *where, struct mu_err *);
    const char *what; /* before the name in messages */
    bool plugins;     /* libxml2 is one */
    bool hostile;     /* what is read may be damaged */
} sources[] = {
    [MU_TOPO_LIVE] = {source_live, "", false, false},
    [MU_TOPO_PROCESS] = {source_live, "process ", false, false},
    [MU_TOPO_XML] = {source_xml, "node file ", true, true},
    [MU_TOPO_SYNTHETIC] = {source_synthetic, "description ", false, false},
};

/* --- from hwloc's objects to ours ------------------------------------------------------------------------------- */

int mu_topo_from_bitmap(hwloc_const_bitmap_t b, struct mu_cpuset *out, struct mu_err *err)
{
    struct mu_cpuset s = {{0}};
    int last = b ? hwloc_bitmap_last(b) : -1;

    if (b && ((last < 0 && !hwloc_bitmap_iszero(b)) || last >= MU_CPUSET_MAX))
        return mu_err_set(err, MUSTER_ENODE, "has CPUs or NUMA nodes beyond index %d", MU_CPUSET_MAX - 1);
    for (int i = last < 0 ? -1 : hwloc_bitmap_first(b); i >= 0; i = hwloc_bitmap_next(b, i))
        mu_cpuset_set(&s, i);
    *out = s;
    return 0;
}

static int ancestor_index(hwloc_topology_t hw, hwloc_obj_type_t type, hwloc_obj_t o)
{
    hwloc_obj_t a = hwloc_get_ancestor_obj_by_type(hw, type, o);

    return a ? (int)a->logical_index : -1;
}

static int package_os(hwloc_topology_t hw, hwloc_obj_t o)
{
    hwloc_obj_t p = hwloc_get_ancestor_obj_by_type(hw, HWLOC_OBJ_PACKAGE, o);

    return p && p->os_index != HWLOC_UNKNOWN_INDEX ? (int)p->os_index : -1;
}

/* The one equal set among the distinct ones. */
static const struct mu_cpuset *intern_nodes(struct mu_topo *t, const struct mu_cpuset *s)
{
    for (int i = t->nsets - 1; i >= 0; i--)
        if (mu_cpuset_equal(&t->nsetv[i], s))
            return &t->nsetv[i];
    t->nsetv[t->nsets] = *s;
    return &t->nsetv[t->nsets++];
}

static int build_cores(struct mu_topo *t, struct mu_err *err)
{
    int npus = hwloc_get_nbobjs_by_type(t->hw, HWLOC_OBJ_PU);
    /* Nodes hang on objects of a tree: there are no more distinct sets than objects that have some. */
    int distinct = 2 * hwloc_get_nbobjs_by_type(t->hw, HWLOC_OBJ_NUMANODE) + 2;
    hwloc_obj_t last = NULL;

    if (npus <= 0)
        return mu_err_set(err, MUSTER_EARG, "holds no CPUs");
    t->cores = calloc((size_t)npus, sizeof *t->cores);
    t->pus = calloc((size_t)npus, sizeof *t->pus);
    t->nsetv = calloc((size_t)distinct, sizeof *t->nsetv);
    if (!t->cores || !t->pus || !t->nsetv)
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");

    for (int i = 0; i < npus; i++) {
        hwloc_obj_t pu = hwloc_get_obj_by_type(t->hw, HWLOC_OBJ_PU, (unsigned)i);
        hwloc_obj_t core = hwloc_get_ancestor_obj_by_type(t->hw, HWLOC_OBJ_CORE, pu);
        if (pu->os_index >= MU_CPUSET_MAX)
            return mu_err_set(err, MUSTER_ENODE, "has CPUs beyond index %d", MU_CPUSET_MAX - 1);
        t->pus[i] = (int)pu->os_index;
        if (!core)
            core = pu;
        if (core != last) {
            struct mu_cpuset nodes;
            struct mu_topo_core *c = &t->cores[t->ncores];
            int rc = mu_topo_from_bitmap(core->nodeset, &nodes, err);
            if (rc)
                return rc;
            if (t->nsets == distinct)
                return mu_err_set(err, MUSTER_EARG, "its NUMA nodes overlap in a way that hwloc does not write");
            *c = (struct mu_topo_core){
                .os = core->os_index == HWLOC_UNKNOWN_INDEX ? -1 : (int)core->os_index,
                .package = ancestor_index(t->hw, HWLOC_OBJ_PACKAGE, core),
                .package_os = package_os(t->hw, core),
                .l3 = ancestor_index(t->hw, HWLOC_OBJ_L3CACHE, core),
                .pus = &t->pus[i],
                .nodes = intern_nodes(t, &nodes),
            };
            t->ncores++;
            last = core;
        }
        t->cores[t->ncores - 1].npus++;
        t->npus++;
    }
    return 0;
}

static int build_nodes(struct mu_topo *t, struct mu_err *err)
{
    int n = hwloc_get_nbobjs_by_type(t->hw, HWLOC_OBJ_NUMANODE);

    if (n <= 0)
        return 0;
    if (!(t->nodes = calloc((size_t)n, sizeof *t->nodes)))
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");
    for (int i = 0; i < n; i++) {
        hwloc_obj_t o = hwloc_get_obj_by_type(t->hw, HWLOC_OBJ_NUMANODE, (unsigned)i);
        if (o->os_index >= MU_CPUSET_MAX)
            return mu_err_set(err, MUSTER_ENODE, "has NUMA nodes beyond index %d", MU_CPUSET_MAX - 1);
        int rc = mu_topo_from_bitmap(o->cpuset, &t->nodes[i].cpus, err);
        if (rc)
            return rc;
        t->nodes[i].os = (int)o->os_index;
        t->nodes[i].memory = o->attr->numanode.local_memory;
        t->nnodes++;
    }
    return 0;
}

/* What the kernel lets this process use now. hwloc knows the cgroup's set when it can see the cgroup; containers hide
 * it, the masks of the process itself are always there. */
static int inherit_masks(struct mu_topo *t, struct mu_err *err)
{
    struct mu_cpuset cpus = {{0}}, nodes = {{0}};

    if (syscall(SYS_sched_getaffinity, 0, sizeof cpus.w, cpus.w) < 0)
        return mu_err_errno(err, MUSTER_ENODE, "sched_getaffinity");
    mu_cpuset_and(&t->allowed, &cpus);
    enum { MEMS_ALLOWED = 4 }; /* MPOL_F_MEMS_ALLOWED; refused under some seccomp profiles, then hwloc's word stands */
    if (syscall(SYS_get_mempolicy, NULL, nodes.w, (unsigned long)MU_CPUSET_MAX, NULL, MEMS_ALLOWED) == 0)
        mu_cpuset_and(&t->allowed_nodes, &nodes);
    return 0;
}

/* A list of /proc/PID/status, such as "Cpus_allowed_list:\t0-3". */
static int listed(const char *status, const char *name, struct mu_cpuset *out)
{
    const char *p = strstr(status, name);
    char list[8192];

    if (!p)
        return MUSTER_ENODE;
    p += strlen(name);
    p += strspn(p, " \t");
    snprintf(list, sizeof list, "%.*s", (int)strcspn(p, "\n"), p);
    return mu_cpuset_parse(list, out, NULL);
}

/* The same of another process: its masks are its cgroup's as well. */
static int process_masks(struct mu_topo *t, const char *pid, struct mu_err *err)
{
    mu_auto_buf struct mu_buf status = {0};
    char path[64];

    snprintf(path, sizeof path, "/proc/%.20s/status", pid);
    if (mu_path_read(path, 64 << 10, &status, NULL) ||
        listed(mu_buf_str(&status), "\nCpus_allowed_list:", &t->allowed) ||
        listed(mu_buf_str(&status), "\nMems_allowed_list:", &t->allowed_nodes))
        return mu_err_set(err, MUSTER_ENODE, "%s does not tell its CPUs", path);
    return 0;
}

static int build(struct mu_topo *t, enum mu_topo_kind kind, const char *where, struct mu_err *err)
{
    struct mu_cpuset pus = {{0}};
    int rc;

    if ((rc = build_cores(t, err)) || (rc = build_nodes(t, err)) ||
        (rc = mu_topo_from_bitmap(hwloc_topology_get_allowed_cpuset(t->hw), &t->allowed, err)) ||
        (rc = mu_topo_from_bitmap(hwloc_topology_get_allowed_nodeset(t->hw), &t->allowed_nodes, err)))
        return rc;
    if ((kind == MU_TOPO_LIVE && (rc = inherit_masks(t, err))) ||
        (kind == MU_TOPO_PROCESS && (rc = process_masks(t, where, err))))
        return rc;
    for (int i = 0; i < t->npus; i++)
        mu_cpuset_set(&pus, t->pus[i]);
    mu_cpuset_and(&t->allowed, &pus);
    if (mu_cpuset_empty(&t->allowed))
        return mu_err_set(err, MUSTER_ENODE, "no CPU may be used (affinity mask and cgroup taken together)");
    return 0;
}

/* hwloc trusts XML: damage in the right place makes it follow a null pointer. A child goes first, through everything
 * that anybody will ask of the model. */
static int load_survives(struct mu_topo *t, const char *where, struct mu_err *err)
{
    uint64_t deadline = mu_now() + 10 * MU_SEC;
    int status = -1;
    pid_t pid = fork();

    if (pid < 0)
        return mu_err_errno(err, MUSTER_ENODE, "%s: cannot fork", where);
    if (pid == 0) {
        FILE *null = fopen("/dev/null", "we");
        if (!null || dup2(fileno(null), STDERR_FILENO) < 0)
            _exit(0);
        if (!hwloc_topology_load(t->hw) && !build(t, MU_TOPO_XML, where, NULL) && !mu_topo_hwloc_devs(t, NULL))
            mu_topo_draw(t, NULL, null);
        _exit(0);
    }
    for (;;) {
        pid_t got = waitpid(pid, &status, WNOHANG);
        if (got == pid || (got < 0 && errno == ECHILD))
            break;
        if (mu_now() > deadline) {
            kill(pid, SIGKILL);
            waitpid(pid, NULL, 0);
            return mu_err_set(err, MUSTER_EARG, "node file %s: hwloc does not come back from reading it", where);
        }
        nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
    }
    if (status)
        return mu_err_set(err, MUSTER_EARG, "node file %s: hwloc crashes on it, it is damaged", where);
    return 0;
}

static int load(struct mu_topo *t, enum mu_topo_kind kind, const char *where, unsigned flags, struct mu_err *err)
{
    unsigned long f = HWLOC_TOPOLOGY_FLAG_INCLUDE_DISALLOWED;
    int rc;

    if (hwloc_topology_init(&t->hw)) {
        t->hw = NULL;
        return mu_err_set(err, MUSTER_ENOMEM, "hwloc does not start");
    }
    if ((rc = sources[kind].set(t, where, err)) || !t->hw)
        return rc;
#if HWLOC_API_VERSION >= 0x00020800
    f |= HWLOC_TOPOLOGY_FLAG_NO_DISTANCES | HWLOC_TOPOLOGY_FLAG_NO_MEMATTRS | HWLOC_TOPOLOGY_FLAG_NO_CPUKINDS;
#endif
    hwloc_topology_set_flags(t->hw, f);
    hwloc_topology_set_io_types_filter(t->hw, flags & MU_TOPO_IO ? HWLOC_TYPE_FILTER_KEEP_IMPORTANT
                                                                 : HWLOC_TYPE_FILTER_KEEP_NONE);
    /* It would bind this thread to each PU in turn, for what Linux says in sysfs. */
    hwloc_topology_set_components(t->hw, HWLOC_TOPOLOGY_COMPONENTS_FLAG_BLACKLIST, "x86");
    if (sources[kind].hostile && (rc = load_survives(t, where, err)))
        return rc;
    if (hwloc_topology_load(t->hw))
        return mu_err_set(err, MUSTER_EARG, "%s%s: hwloc cannot read it, it is damaged", sources[kind].what, where);
    if (is_live(kind) && !hwloc_topology_is_thissystem(t->hw))
        return mu_err_set(err, MUSTER_EARG,
                          "HWLOC_XMLFILE, HWLOC_SYNTHETIC or HWLOC_FSROOT in the environment describes another "
                          "machine; unset it, or set HWLOC_THISSYSTEM=1 if it is this one");
    return 0;
}

int mu_topo_load(enum mu_topo_kind kind, const char *where, unsigned flags, struct mu_topo **out, struct mu_err *err)
{
    auto_topo struct mu_topo *t = calloc(1, sizeof *t);
    struct env env[] = {{"HWLOC_HIDE_ERRORS", "2", NULL}, {"HWLOC_PLUGINS_PATH", "/nonexistent", NULL}};
    int rc;

    if ((size_t)kind >= MU_COUNT(sources) || (kind != MU_TOPO_LIVE && !where))
        return mu_err_set(err, MUSTER_EARG, "no such source of a topology");
    if (kind == MU_TOPO_LIVE)
        where = "this machine";
    if (!t || !(t->source = strdup(where)))
        return mu_err_set(err, MUSTER_ENOMEM, "out of memory");

    size_t nenv = sources[kind].plugins ? 1 : MU_COUNT(env);
    env_put(env, nenv);
    rc = load(t, kind, where, flags, err);
    env_restore(env, nenv);
    if (rc)
        return rc;
    if (t->hw && ((rc = build(t, kind, where, err)) || (flags & MU_TOPO_IO && (rc = mu_topo_hwloc_devs(t, err))))) {
        mu_err_prefix(err, "%s%s", sources[kind].what, where);
        return rc;
    }
    if (is_live(kind))
        mu_topo_live_devs(t, "");
    *out = MU_STEAL(t, NULL);
    return 0;
}

void mu_topo_free(struct mu_topo *t)
{
    if (!t)
        return;
    if (t->hw)
        hwloc_topology_destroy(t->hw);
    free(t->source);
    free(t->cores);
    free(t->pus);
    free(t->nsetv);
    free(t->nodes);
    free(t->gpus);
    free(t->nics);
    free(t->bridges);
    free(t);
}

int mu_topo_restrict(struct mu_topo *t, const struct mu_cpuset *mask, struct mu_err *err)
{
    if (!mu_cpuset_intersects(&t->allowed, mask))
        return mu_err_set(err, MUSTER_ENODE, "%s: none of these CPUs may be used", t->source);
    mu_cpuset_and(&t->allowed, mask);
    return 0;
}

/* --- what is there ---------------------------------------------------------------------------------------------- */

void mu_topo_count(const struct mu_topo *t, struct mu_topo_counts *out)
{
    struct mu_topo_counts n = {.pus = mu_cpuset_weight(&t->allowed)};
    int package = -1;

    for (int i = 0; i < t->ncores; i++) {
        const struct mu_topo_core *c = &t->cores[i];
        bool any = false;
        for (int p = 0; p < c->npus; p++)
            any |= mu_cpuset_isset(&t->allowed, c->pus[p]);
        if (!any)
            continue;
        n.cores++;
        if (c->package >= 0 && c->package != package)
            n.packages++;
        package = c->package;
    }
    for (int i = 0; i < t->nnodes; i++)
        if (mu_cpuset_isset(&t->allowed_nodes, t->nodes[i].os)) {
            n.nodes++;
            n.memory += t->nodes[i].memory;
        }
    *out = n;
}

int mu_topo_slots(const struct mu_topo *t)
{
    struct mu_topo_counts n;

    mu_topo_count(t, &n);
    return n.cores;
}

const struct mu_cpuset *mu_topo_allowed(const struct mu_topo *t)
{
    return &t->allowed;
}

const struct mu_cpuset *mu_topo_allowed_nodes(const struct mu_topo *t)
{
    return &t->allowed_nodes;
}

const char *mu_topo_source(const struct mu_topo *t)
{
    return t->source;
}

int mu_topo_ncores(const struct mu_topo *t)
{
    return t->ncores;
}

const struct mu_topo_core *mu_topo_core(const struct mu_topo *t, int i)
{
    return &t->cores[i];
}

int mu_topo_nnodes(const struct mu_topo *t)
{
    return t->nnodes;
}

const struct mu_topo_node *mu_topo_node(const struct mu_topo *t, int i)
{
    return &t->nodes[i];
}

int mu_topo_hwloc_version(char *buf, size_t len)
{
    struct mu_topo *t;
    int rc = mu_topo_load(MU_TOPO_SYNTHETIC, "pu:1", 0, &t, NULL);

    if (rc)
        return rc;
    const char *v = hwloc_obj_get_info_by_name(hwloc_get_root_obj(t->hw), "hwlocVersion");
    snprintf(buf, len, "%s", v ? v : "unknown");
    mu_topo_free(t);
    return 0;
}
