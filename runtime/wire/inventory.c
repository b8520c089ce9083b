#include "runtime/wire/inventory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clean.h"
#include "runtime/base/str.h"

static bool key_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (c && strchr("._:-", c));
}

static bool good_key(const char *key)
{
    size_t n = 0;

    while (key_char(key[n]))
        n++;
    return n && !key[n] && n < MU_INVENTORY_KEY;
}

/* As it is when it is made printable. */
static bool good_value(const char *value)
{
    mu_auto_buf struct mu_buf b = {0};
    size_t n = strlen(value);

    if (!n || n >= MU_INVENTORY_VALUE || value[0] == ' ' || value[n - 1] == ' ')
        return false;
    mu_str_printable(&b, value, n);
    return !strcmp(mu_buf_str(&b), value);
}

bool mu_inventory_valid(const struct mu_m_inventory *m)
{
    size_t n = mu_strv_len(m->keys);

    if (n != mu_strv_len(m->values) || n > MU_INVENTORY_PAIRS)
        return false;
    for (size_t i = 0; i < n; i++)
        if (!good_key(m->keys[i]) || !good_value(m->values[i]) || (i && strcmp(m->keys[i - 1], m->keys[i]) >= 0))
            return false;
    return true;
}

const char *mu_inventory_value(const struct mu_m_inventory *m, const char *key)
{
    for (size_t i = 0; m->keys && m->keys[i]; i++)
        if (!strcmp(m->keys[i], key))
            return m->values[i];
    return NULL;
}

bool mu_inventory_own(const char *key)
{
    return !strncmp(key, "id.", 3);
}

unsigned mu_inventory_diff(const struct mu_m_inventory *was, const struct mu_m_inventory *is, mu_inventory_fn fn,
                           void *arg)
{
    size_t na = mu_strv_len(was->keys), nb = mu_strv_len(is->keys);
    unsigned n = 0;

    for (size_t a = 0, b = 0; a < na || b < nb;) {
        int order = a == na ? 1 : b == nb ? -1 : strcmp(was->keys[a], is->keys[b]);
        const char *key = order <= 0 ? was->keys[a] : is->keys[b];
        const char *old = order <= 0 ? was->values[a++] : NULL, *new = order >= 0 ? is->values[b++] : NULL;
        if (old && new && !strcmp(old, new))
            continue;
        n++;
        if (fn)
            fn(arg, key, old, new);
    }
    return n;
}

struct line {
    char *out;
    size_t n;
};

static void tell(void *arg, const char *key, const char *was, const char *is)
{
    struct line *l = arg;

    if (*l->out)
        return;
    if (was && is)
        snprintf(l->out, l->n, "%s was %.60s, is %.60s", key, was, is);
    else
        snprintf(l->out, l->n, "%s %s %.100s", key, was ? "is gone, was" : "is new,", was ? was : is);
}

unsigned mu_inventory_tell(const struct mu_m_inventory *was, const struct mu_m_inventory *is, char *out, size_t n)
{
    struct line l = {out, n};

    out[0] = 0;
    unsigned k = mu_inventory_diff(was, is, tell, &l);
    size_t len = strlen(out);
    if (k > 1)
        snprintf(out + len, n - len, "; and %u more", k - 1);
    return k;
}

/* --- making one ----------------------------------------------------------------------------------------------------
 */

void mu_inventory_put(struct mu_inventory_pairs *p, const char *key, const char *value)
{
    mu_auto_buf struct mu_buf b = {0};
    size_t n;

    value += strspn(value, " \t\r\n");
    for (n = strlen(value); n && strchr(" \t\r\n", value[n - 1]);)
        n--;
    if (!n || !*key || p->n == MU_INVENTORY_PAIRS)
        return;
    snprintf(p->v[p->n].key, sizeof p->v[0].key, "%s", key);
    for (char *c = p->v[p->n].key; *c; c++)
        *c = key_char(*c) ? *c : '_';
    for (unsigned i = 0; i < p->n; i++)
        if (!strcmp(p->v[i].key, p->v[p->n].key))
            return;
    for (size_t i = 0; i < n; i++) { /* a printable ASCII line stays as it is whatever is cut off */
        char c = value[i] == '\t' ? ' ' : value[i];
        if (i + 1 < MU_INVENTORY_VALUE)
            mu_buf_putc(&b, c >= ' ' && c < 127 && c != '\\' ? c : '?');
    }
    while (b.len && b.data[b.len - 1] == ' ')
        b.data[--b.len] = 0;
    if (b.failed || !good_value(mu_buf_str(&b)))
        return;
    snprintf(p->v[p->n++].value, sizeof p->v[0].value, "%s", mu_buf_str(&b));
}

static int by_key(const void *a, const void *b)
{
    return strcmp(a, b); /* the key comes first */
}

int mu_inventory_make(struct mu_inventory_pairs *p, struct mu_m_inventory *out)
{
    struct mu_m_inventory m = {0};

    qsort(p->v, p->n, sizeof p->v[0], by_key);
    for (unsigned i = 0; i < p->n; i++) {
        if (!mu_strv_append(&m.keys, p->v[i].key) && !mu_strv_append(&m.values, p->v[i].value))
            continue;
        mu_msg_free_body(MU_MSG_inventory, &m);
        return MUSTER_ENOMEM;
    }
    *out = m;
    return 0;
}
