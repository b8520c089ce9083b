/* Who is to blame. Pure: measurements in, suspects out; who is suspected is measured again with partners that are not,
 * and is named only if that confirms it.
 *
 * What a pair reaches is the least of what its sender, its receiver and the link give. So a host is suspected when most
 * of its partners agree, a link when its cell is low and both hosts are clear, a boundary between two switches when the
 * whole block is low while its hosts do well elsewhere, a rank when it differs from the other ranks of its host, a GPU
 * when it differs from those of the same index on other hosts and is not one of most of its host's. */
#ifndef MU_JUDGE_BLAME_H
#define MU_JUDGE_BLAME_H

#include "bench/judge/data.h"
#include "runtime/base/buf.h"

enum mu_suspect_kind { MU_SUSPECT_NODE, MU_SUSPECT_LINK, MU_SUSPECT_BOUNDARY, MU_SUSPECT_RANK, MU_SUSPECT_GPU };
enum mu_direction { MU_DIR_NONE = 0, MU_DIR_OUT = 1, MU_DIR_IN = 2, MU_DIR_BOTH = 3 };
/* MU_UNSURE: it looks as if, but what others do without cause, or somebody else's load there, could be it. */
enum mu_suspect_state { MU_SUSPECTED, MU_CONFIRMED, MU_CLEARED, MU_UNSURE };
/* MU_ROUNDS_MORE: beyond those that are asked for, where these leave a doubt. */
enum { MU_ROUNDS_MAX = 8, MU_ROUNDS_MORE = 4, MU_HOSTS_MIN = 4 };

struct mu_suspect {
    enum mu_suspect_kind kind;
    enum mu_direction dir; /* of a node: what it sends, receives, both; of a boundary: from a to b, or both ways */
    int32_t a, b;          /* host, -; from, to; groups; host of the rank or GPU, - */
    int32_t rank;          /* -1 */
    uint32_t gpu;          /* as in a key of series */
    bool corrupt;          /* data was wrong: no question of degree, never cleared */
    bool bisected;         /* found by trying who takes part: confirmed by that */
    bool pair;             /* `test` is one of pairs: there `dir` says how they are measured again */
    uint32_t test;         /* where it showed most clearly */
    uint64_t size;
    double drop;  /* 0.1: a tenth less than the peers */
    double score; /* distance from the peers in their own spread */
    enum mu_suspect_state state;
    unsigned rounds; /* of confirmation that were made */
    double round_drop[MU_ROUNDS_MAX];
    double chance; /* that somebody who is well looks like this, however many are looked at; 0: not known */
    char why[200]; /* what cleared it, or what it rests on */
};

struct mu_blame_config {
    double effect;         /* what is to be found: 0.03 = 3 % */
    const double *effects; /* of each test, 0: not judged; NULL: `effect` for all */
    unsigned need, of; /* of so many rounds so many must agree; of 0: no confirmation, the first pass must be clear */
};

struct mu_blame {
    struct mu_suspect *v;
    unsigned n, cap;
    bool too_few; /* below MU_HOSTS_MIN hosts there are no peers: nothing relative was judged */
};

void mu_blame_free(struct mu_blame *);
/* Looks at the first pass. 0 or MUSTER_ENOMEM. */
int mu_blame_find(struct mu_blame *, const struct mu_data *, const struct mu_blame_config *);
/* Rounds of confirmation that there are at most. */
unsigned mu_blame_rounds(const struct mu_blame_config *);
/* Looks at the rounds of confirmation that are there and decides. Can be called again when there are more. */
int mu_blame_settle(struct mu_blame *, const struct mu_data *, const struct mu_blame_config *);
/* What is left of it when all rounds have been made: the number of confirmed ones. */
unsigned mu_blame_confirmed(const struct mu_blame *);

/* One measurement to make: a pair (data goes from from to to), or a host (to -1). */
struct mu_ask {
    uint32_t test;
    uint64_t size;
    int32_t from, to;
    uint32_t wave; /* those of one wave share no host: they run at once */
};
/* What a round of confirmation measures: suspects with partners that are clear, and pairs of clear ones beside them.
 * The result is for free(); its number in *n. */
int mu_blame_ask(const struct mu_blame *, const struct mu_data *, unsigned round, struct mu_ask **, unsigned *n);
/* Tests of hosts that make the figures that are asked for, each once, with commas between them. */
void mu_ask_tests(const struct mu_data *, const struct mu_ask *, unsigned n, struct mu_buf *out);

const char *mu_suspect_kind_name(enum mu_suspect_kind);
const char *mu_direction_name(enum mu_direction);
/* The suspect is a host, or a part of one: that must be looked after. */
bool mu_suspect_on_host(const struct mu_suspect *);
/* "n3", "n1>n4", "leaf1>leaf2", "leaf1|leaf2", "5" for a rank, "n3:gpu2". Returns buf. */
char *mu_suspect_id(const struct mu_suspect *, const struct mu_data *, char *buf, size_t n);

#endif
