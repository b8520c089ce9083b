#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/clean.h"
#include "runtime/rank/session.h"

static int check_head(const struct mu_rank_env *env, const struct mu_slot_head *h, uint64_t size, struct mu_err *err)
{
    if (h->magic != MU_SLOT_MAGIC)
        return mu_err_set(err, MUSTER_EJOB, "MUSTER_SLOTS=%s is not a slot file of muster", env->slots);
    if (h->version != MU_SLOT_VERSION)
        return mu_err_set(err, MUSTER_EJOB,
                          "MUSTER_SLOTS=%s has version %u, this library speaks %u: muster and libmuster.so are of "
                          "different releases",
                          env->slots, h->version, MU_SLOT_VERSION);
    if (size < mu_slot_bytes(h->nslots))
        return mu_err_set(err, MUSTER_EJOB, "MUSTER_SLOTS=%s is too short for its %u slots", env->slots, h->nslots);
    if (env->slot_index < 0 || env->slot_index >= (long)h->nslots)
        return mu_err_set(err, MUSTER_EJOB, "MUSTER_SLOT_INDEX=%ld, but there are %u slots", env->slot_index,
                          h->nslots);
    if (env->attempt >= 0 && (uint32_t)env->attempt != h->attempt)
        return mu_err_set(err, MUSTER_EEPOCH, "this process belongs to attempt %ld, the slots to attempt %u",
                          env->attempt, h->attempt);
    return 0;
}

int mu_rank_slot_join(const struct mu_rank_env *env, struct mu_slot_head **head, struct mu_slot **slot,
                      struct mu_err *err)
{
    mu_auto_fd int fd = -1;
    struct mu_slot_head *h;
    struct mu_slot *s;
    struct stat st;
    uint32_t pid, state;
    int rc;

    if (!env->slots || !*env->slots)
        return 0;
    fd = open(env->slots, O_RDWR | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return mu_err_errno(err, MUSTER_EJOB, "MUSTER_SLOTS=%s cannot be opened (is the keeper gone?)", env->slots);
    if ((uint64_t)st.st_size < sizeof *h)
        return mu_err_set(err, MUSTER_EJOB, "MUSTER_SLOTS=%s is too short to be a slot file", env->slots);
    h = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (h == MAP_FAILED)
        return mu_err_errno(err, MUSTER_EJOB, "MUSTER_SLOTS=%s cannot be mapped", env->slots);
    rc = check_head(env, h, (uint64_t)st.st_size, err);
    if (rc < 0)
        goto unmap;

    s = mu_slot_at(h, (unsigned)env->slot_index);
    pid = atomic_load(&s->pid);
    state = atomic_load(&s->state);
    if (pid && pid != (uint32_t)getpid() && (state == MU_RANK_INIT || state == MU_RANK_READY) &&
        (kill((pid_t)pid, 0) == 0 || errno == EPERM)) {
        rc = mu_err_set(err, MUSTER_EJOB,
                        "process %u is this rank already: a program started by a rank cannot join the job", pid);
        goto unmap;
    }
    atomic_store(&s->pid, (uint32_t)getpid());
    atomic_store(&s->state, MU_RANK_INIT);
    *head = h;
    *slot = s;
    return 0;

unmap:
    munmap(h, (size_t)st.st_size);
    return rc;
}
