#include "runtime/ckpt/daemon/maps.h"

#include "runtime/base/clean.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>

struct map {
    struct map *next;
    dev_t dev;
    ino_t ino;
    unsigned char *at;
    uint64_t bytes;
    unsigned users;
    bool old; /* there is a longer one of the same memory */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct map *maps;

/* Of those that nobody has: all, or only what has been replaced. */
static void unmap(bool all)
{
    for (struct map **at = &maps; *at;) {
        struct map *m = *at;

        if (m->users || !(m->old || all)) {
            at = &m->next;
            continue;
        }
        *at = m->next;
        munmap(m->at, m->bytes);
        free(m);
    }
}

/* Under the lock. */
static int take(const struct mu_arena_head *h, int fd, const struct stat *st, uint64_t bytes, unsigned char **out,
                struct mu_err *err)
{
    struct map *m;
    int rc;

    for (m = maps; m; m = m->next)
        if (m->dev == st->st_dev && m->ino == st->st_ino && !m->old && m->bytes >= bytes)
            break;
    if (m) {
        m->users++;
        *out = m->at;
        return 0;
    }
    if (!(m = calloc(1, sizeof *m)))
        return mu_err_set(err, MUSTER_ENOMEM, "no memory to map a part");
    *m = (struct map){.dev = st->st_dev, .ino = st->st_ino, .bytes = bytes, .users = 1};
    if ((rc = mu_arena_map_fd(h, fd, bytes, true, &m->at, err))) {
        free(m);
        return rc;
    }
    for (struct map *x = maps; x; x = x->next)
        x->old |= x->dev == m->dev && x->ino == m->ino;
    m->next = maps;
    maps = m;
    unmap(false);
    *out = m->at;
    return 0;
}

int mu_maps_take(const struct mu_arena_head *h, int keepers, uint64_t bytes, bool grow, unsigned char **out,
                 struct mu_err *err)
{
    struct mu_ckpt_path path = mu_ckpt_path("/proc/%u/fd/%d", h->keeper, keepers);
    struct stat st;
    int rc;

    if (keepers < 0)
        return mu_err_set(err, MUSTER_ENOMEM, "the keeper has no memory for this rank");
    if (stat(path.s, &st))
        return mu_err_errno(err, MUSTER_EIO, "%s", path.s);
    if (!grow && (uint64_t)st.st_size < bytes)
        return mu_err_set(err, MUSTER_ECORRUPT, "the copy in memory is cut short");
    pthread_mutex_lock(&lock);
    rc = take(h, keepers, &st, bytes, out, err);
    pthread_mutex_unlock(&lock);
    return rc;
}

void mu_maps_give(unsigned char *at)
{
    if (!at)
        return;
    pthread_mutex_lock(&lock);
    for (struct map *m = maps; m; m = m->next)
        if (m->at == at)
            m->users--;
    unmap(false);
    pthread_mutex_unlock(&lock);
}

void mu_maps_clear(void)
{
    pthread_mutex_lock(&lock);
    unmap(true);
    pthread_mutex_unlock(&lock);
}
