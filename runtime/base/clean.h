/* Locals that clean up after themselves. Take the value out with MU_STEAL before the scope ends to keep it. */
#ifndef MU_BASE_CLEAN_H
#define MU_BASE_CLEAN_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static inline void mu_clean_free(void *p)
{
    free(*(void **)p);
}
static inline void mu_clean_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}
static inline void mu_clean_file(FILE **f)
{
    if (*f)
        fclose(*f);
}
static inline void mu_clean_dir(DIR **d)
{
    if (*d)
        closedir(*d);
}

#define mu_auto_free __attribute__((cleanup(mu_clean_free)))
#define mu_auto_fd __attribute__((cleanup(mu_clean_fd)))
#define mu_auto_file __attribute__((cleanup(mu_clean_file)))
#define mu_auto_dir __attribute__((cleanup(mu_clean_dir)))

#define MU_STEAL(p, none)                                                                                              \
    __extension__({                                                                                                    \
        __typeof__(p) mu_stolen_ = (p);                                                                                \
        (p) = (none);                                                                                                  \
        mu_stolen_;                                                                                                    \
    })
#define MU_COUNT(a) (sizeof(a) / sizeof(a)[0])

#endif
