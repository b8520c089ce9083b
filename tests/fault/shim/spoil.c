/* Preloaded into ranks: memory that is bad. Where MUSTER_SPOIL names the node, the last byte of each message of 4096
 * bytes or more that MPI is given to send has a bit turned. Declared as Open MPI has it; handles are only passed on. */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

typedef int isend_fn(const void *, int, void *, int, int, void *, void *);

__attribute__((visibility("default"))) isend_fn MPI_Isend;

int MPI_Isend(const void *data, int count, void *type, int to, int tag, void *comm, void *request)
{
    const char *node = getenv("MUSTER_NODE"), *bad = getenv("MUSTER_SPOIL");
    union {
        const void *given;
        unsigned char *memory;
    } at = {data};

    if (node && bad && !strcmp(node, bad) && count >= 4096)
        at.memory[count - 1] ^= 1;
    return ((isend_fn *)dlsym(RTLD_NEXT, "MPI_Isend"))(data, count, type, to, tag, comm, request);
}
