/* What is used of NVML: own prototypes, found by dlsym. All functions return 0 or one of its errors. NVML can hang: who
 * asks it does so where that holds up nobody. */
#ifndef MU_BASE_NVML_H
#define MU_BASE_NVML_H

#include "runtime/base/err.h"

enum { MU_NVML_LOADED_NOT = 9, MU_NVML_LOST = 15 };
enum { MU_NVML_TEMPERATURE = 0, MU_NVML_CORRECTED = 0, MU_NVML_UNCORRECTED = 1, MU_NVML_SINCE_DRIVER = 0 };
enum { MU_NVML_XID = 8 }; /* type of an event */

struct mu_nvml_event {
    void *device;
    unsigned long long type, data;
    unsigned gpu_instance, compute_instance;
};
struct mu_nvml_memory {
    unsigned long long total, free, used;
};
struct mu_nvml_rates {
    unsigned gpu, memory;
};

struct mu_nvml {
    int (*init)(void), (*shutdown)(void), (*count)(unsigned *), (*handle)(unsigned, void **);
    const char *(*error)(int);
    /* these may be missing */
    int (*driver)(char *, unsigned), (*uuid)(void *, char *, unsigned), (*name)(void *, char *, unsigned);
    int (*rates)(void *, struct mu_nvml_rates *), (*memory)(void *, struct mu_nvml_memory *),
        (*celsius)(void *, int, unsigned *);
    int (*power)(void *, unsigned *), (*clocks)(void *, unsigned long long *);
    int (*ecc)(void *, int, int, unsigned long long *);
    int (*rows)(void *, unsigned *, unsigned *, unsigned *, unsigned *), (*pages)(void *, int *);
    int (*gen)(void *, unsigned *), (*gen_most)(void *, unsigned *), (*width)(void *, unsigned *),
        (*width_most)(void *, unsigned *), (*replays)(void *, unsigned *);
    int (*link)(void *, unsigned, int *), (*link_errors)(void *, unsigned, int, unsigned long long *);
    int (*set_new)(void **), (*watch)(void *, unsigned long long, void *),
        (*wait)(void *, struct mu_nvml_event *, unsigned ms);
};

/* Fills the table; pointers of what the library lacks are NULL. ENOSYS: there is no NVML; ENODE: there is one that
 * cannot be used; the text is one line. */
int mu_nvml_load(struct mu_nvml *, struct mu_err *err);

#endif
