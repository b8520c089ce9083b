/* Which ranks are near each other, and what follows from it. */
#include <linux/mempolicy.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "collectives/domain.h"
#include "collectives/segment.h"
#include "tests/unit/tap.h"

#define MOST 12

/* A letter a rank for each level: '-': not known. */
static int lanes(const char *packages, const char *caches)
{
    struct mu_domain of[MOST] = {{0}};
    int n = (int)strlen(caches);

    for (int r = 0; r < n; r++)
        of[r] = (struct mu_domain){.package = packages[r] == '-' ? 0 : (uint32_t)packages[r],
                                   .cache = caches[r] == '-' ? 0 : (uint32_t)caches[r]};
    return mu_domain_lanes(of, n);
}

static int caches(const char *text)
{
    struct mu_domain of[MOST] = {{0}};
    int n = (int)strlen(text);

    for (int r = 0; r < n; r++)
        of[r].cache = text[r] == '-' ? 0 : (uint32_t)text[r];
    return mu_domain_caches(of, n);
}

static void groups(void)
{
    static const struct {
        const char *packages, *caches;
        int lanes;
    } rows[] = {
        {"aabb", "aabb", 2},
        {"aaaabbbb", "aabbccdd", 4},
        {"aaaaaaaa", "aabbccdd", 2},
        {"aaaa", "aaaa", 0},
        {"abab", "abab", 0},
        {"abcd", "abcd", 0},
        {"aaab", "aaab", 0},
        {"aabbaa", "aabbaa", 0},
        {"aa--", "aabb", 2},
        {"----", "----", 0},
        {"aabb", "----", 2},
        {"a", "a", 0},
        {"aabbb", "aabbb", 0},
        {"aaabbbcccddd", "aaabbbcccddd", 3},
        {"ab", "ab", 0},
        {"aaaabbbbcc", "aabbccddee", 2},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        TAP_OK(lanes(rows[i].packages, rows[i].caches) == rows[i].lanes, "packages %s, caches %s: %d ranks each",
               rows[i].packages, rows[i].caches, rows[i].lanes);
    TAP_OK(caches("aabb") == 2 && caches("abab") == 2 && caches("----") == 1 && caches("aa--") == 1 &&
               caches("abcd") == 4,
           "caches are counted");
}

static void here(void)
{
    struct mu_domain all, one, other;
    uint32_t all_memory, one_memory, other_memory;
    cpu_set_t was, set;
    int cpu = 0, package;
    char path[100];
    FILE *f;

    sched_getaffinity(0, sizeof was, &was);
    while (!CPU_ISSET(cpu, &was))
        cpu++;
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/physical_package_id", cpu);
    f = fopen(path, "r");
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    mu_domain_here(&all, -1);
    all_memory = mu_domain_memory();
    sched_setaffinity(0, sizeof set, &set);
    mu_domain_here(&one, -1);
    one_memory = mu_domain_memory();
    mu_domain_here(&other, 7);
    other_memory = mu_domain_memory();
    sched_setaffinity(0, sizeof was, &was);
    TAP_OK((!all.package || all.package == one.package) && (!all.cache || all.cache == one.cache) &&
               (!all_memory || all_memory == one_memory),
           "what all CPUs have in common each one has");
    TAP_OK(other.package == 8 && other.cache == 8 && other_memory == one_memory, "somebody may say it");
    if (f && fscanf(f, "%d", &package) == 1 && package >= 0)
        TAP_OK(one.package > 0, "a CPU has a package");
    else
        TAP_SKIP("the kernel does not say what package a CPU is in");
    if (f)
        fclose(f);
}

static void policy(void)
{
    uint32_t memory = mu_domain_memory();
    static _Alignas(4096) char apart[4096];
    unsigned long mask[16] = {0};
    int mode = -1;
    char *p = mu_seg_alloc(1 << 16);

    if (memory)
        mask[(memory - 1) / 64] = 1ul << (memory - 1) % 64;
    if (!memory || syscall(SYS_mbind, apart, sizeof apart, MPOL_PREFERRED, mask, sizeof mask * 8 + 1, 0) < 0) {
        TAP_SKIP("CPUs with several memories, or no policies of memory");
        return;
    }
    TAP_OK(p && syscall(SYS_get_mempolicy, &mode, mask, sizeof mask * 8, p, MPOL_F_ADDR) == 0 &&
               mode == MPOL_PREFERRED && mask[(memory - 1) / 64] == 1ul << (memory - 1) % 64,
           "memory for peers is next to the process, whoever writes it first");
    mu_seg_free(p);
}

int main(void)
{
    groups();
    here();
    policy();
    return tap_done();
}
