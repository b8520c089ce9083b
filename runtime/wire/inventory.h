/* What a node is made of, as pairs of a key and a value: hardware, firmware, kernel, software, settings. Its agent
 * gathers them (runtime/agent/inventory.h), the controller keeps and compares them; docs/formats.md, "Inventory", lists
 * the keys. Those that begin with "id." tell this node from its like (serial numbers): they are compared with what the
 * node was before, not with other nodes. */
#ifndef MU_WIRE_INVENTORY_H
#define MU_WIRE_INVENTORY_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/wire/msg.h"

enum { MU_INVENTORY_PAIRS = 512, MU_INVENTORY_KEY = 64, MU_INVENTORY_VALUE = 256 }; /* sizes with their NUL */

/* What came from elsewhere is one: bounded, the keys of letters, digits and ._:- in ascending order, each once, the
 * values printable UTF-8 without leading or trailing blanks, and not empty. */
bool mu_inventory_valid(const struct mu_m_inventory *);
const char *mu_inventory_value(const struct mu_m_inventory *, const char *key); /* NULL: it has none */
bool mu_inventory_own(const char *key);                                         /* "id." */
/* Each key whose values differ, in order; NULL: there is none there. How many they are. */
typedef void (*mu_inventory_fn)(void *arg, const char *key, const char *was, const char *is);
unsigned mu_inventory_diff(const struct mu_m_inventory *was, const struct mu_m_inventory *is, mu_inventory_fn,
                           void *arg);
/* The same in a line: "kernel.release was 6.1, is 6.2; and 2 more"; "" when they are alike. */
unsigned mu_inventory_tell(const struct mu_m_inventory *was, const struct mu_m_inventory *is, char *out, size_t n);

/* To make one: pairs in any order, each key's first value counts. */
struct mu_inventory_pairs {
    struct {
        char key[MU_INVENTORY_KEY], value[MU_INVENTORY_VALUE];
    } v[MU_INVENTORY_PAIRS];
    unsigned n;
};
/* Both are made fit: other characters replaced, what is too long cut, an empty value and what finds no room left out.
 */
void mu_inventory_put(struct mu_inventory_pairs *, const char *key, const char *value);
/* Fills keys and values, for mu_msg_free_body. MUSTER_ENOMEM. */
int mu_inventory_make(struct mu_inventory_pairs *, struct mu_m_inventory *out);

#endif
