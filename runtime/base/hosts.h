/* Host lists as mpirun takes them: `-H a:4,b:4` and hostfiles. Names are kept in the order of their first mention; a
 * host that is named again adds to its slots; with another user it is refused. n[1-8,12] is n1 to n8 and n12. */
#ifndef MU_BASE_HOSTS_H
#define MU_BASE_HOSTS_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/err.h"

enum { MU_HOSTS_MAX = 65536, MU_HOSTS_SLOTS_MAX = 65536 };

struct mu_host {
    char name[256]; /* HOST or USER@HOST: what ssh gets */
    int slots;      /* 0: not said, as many as the node has */
    int max_slots;  /* 0: not said */
};

struct mu_hosts {
    struct mu_host *v;
    size_t n, cap;
};

/* "a:4,b" ; a host without a number is one slot, `host:*` leaves it to the node. On an error *out is untouched. */
int mu_hosts_parse(const char *list, struct mu_hosts *out, struct mu_err *err);
/* How long the first word of a list is: up to a comma that is not in brackets. */
size_t mu_hosts_word(const char *list);
/* Lines "HOST", "HOST:4", "HOST slots=4 max_slots=8"; # comments; a byte-order mark at the begin is
 * no part of a name. origin is for messages. A host named once without a number is left to the node, one named k times
 * without has k slots. */
int mu_hosts_parse_file(const char *text, size_t len, const char *origin, struct mu_hosts *out, struct mu_err *err);
int mu_hosts_read_file(const char *path, struct mu_hosts *out, struct mu_err *err);
void mu_hosts_free(struct mu_hosts *h);
/* HOST of HOST or USER@HOST: what its node is called. */
const char *mu_host_name(const char *dest);
/* What a node may be called: letters, digits and what stands in names and addresses, without a user. */
bool mu_hosts_is_node(const char *name);

#endif
