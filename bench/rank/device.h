/* The GPUs of this host, as the CUDA driver shows them to this process; in the order of their places on the PCI bus, as
 * nvidia-smi has them, unless CUDA_DEVICE_ORDER says otherwise. Contexts are the primary ones. Each GPU is used by one
 * thread at a time. */
#ifndef MU_BENCH_DEVICE_H
#define MU_BENCH_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/cuda.h"

struct mu_device {
    const struct mu_cuda_api *c;
    int index;
    char uuid[48]; /* "GPU-" and what nvidia-smi says */
    mu_cu_ctx ctx; /* NULL: not yet entered */
    mu_cu_stream stream;
    struct mu_err broken; /* code 0: it works; else nothing more is asked of it */
    bool hangs;           /* it has not ended in time what it was given: its memory cannot be given back */
};

struct mu_devices {
    struct mu_device *v;
    int n;
};

/* ENOSYS "no GPU": there is none. ENODE: there are some and the driver does not give them; one line says why. */
int mu_devices_open(struct mu_devices *, struct mu_err *err);
void mu_devices_close(struct mu_devices *);
/* Makes its context this thread's current one, and its stream. Otherwise, as of all below: ENODE, one line that begins
 * with "GPU 3", and the GPU is broken from then on. */
int mu_device_enter(struct mu_device *, struct mu_err *err);
/* What a call of the driver has said. */
int mu_device_check(struct mu_device *, mu_cu_result, const char *what, struct mu_err *err);
/* Until its stream has done everything; 20 s at most. */
int mu_device_wait(struct mu_device *, const char *what, struct mu_err *err);
/* Copies, and waits for it; to or from is in the GPU's memory. */
int mu_device_put(struct mu_device *, mu_cu_ptr to, const void *from, size_t, struct mu_err *err);
int mu_device_get(struct mu_device *, void *to, mu_cu_ptr from, size_t, struct mu_err *err);
/* ENOMEM: there is not so much, which is no fault of the GPU's. Freed by mu_device_free, where that can be. */
int mu_device_alloc(struct mu_device *, mu_cu_ptr *, size_t, struct mu_err *err);
int mu_device_alloc_host(struct mu_device *, void **, size_t, struct mu_err *err);
void mu_device_free(struct mu_device *, mu_cu_ptr);
void mu_device_free_host(struct mu_device *, void *);
/* This thread on the CPUs near it, as far as it may use them; what it was on before in *was. */
void mu_device_stand_near(const struct mu_device *, void *was, size_t size);
/* Some GPU has hung: the driver's own clean-up at the end of the process would wait for it. */
bool mu_device_hung(void);

#endif
