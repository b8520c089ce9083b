#include "runtime/ckpt/names.h"

#include "runtime/base/str.h"

#include <stdlib.h>
#include <string.h>

#define LEAST 64u

static const char *name_at(const void *array, size_t stride, size_t i)
{
    return *(char *const *)(const void *)((const char *)array + i * stride);
}

/* Where the name is, or belongs. */
static size_t place(const struct mu_ckpt_names *t, const void *array, size_t stride, const char *name)
{
    size_t i = mu_str_hash(name, strlen(name)) & (t->room - 1);

    while (t->slots[i] && strcmp(name_at(array, stride, t->slots[i] - 1), name))
        i = (i + 1) & (t->room - 1);
    return i;
}

static void put(const struct mu_ckpt_names *t, const void *array, size_t stride, size_t i)
{
    size_t at = place(t, array, stride, name_at(array, stride, i));

    t->slots[at] = t->slots[at] ? t->slots[at] : (uint32_t)i + 1;
}

int mu_ckpt_names_add(struct mu_ckpt_names *t, const void *array, size_t stride, struct mu_err *err)
{
    if (t->n >= UINT32_MAX - 1)
        return mu_err_set(err, MUSTER_EARG, "too many tensors");
    if (2 * (t->n + 1) > t->room) {
        struct mu_ckpt_names grown = {.room = t->room ? 2 * t->room : LEAST, .n = t->n};

        if (!(grown.slots = calloc(grown.room, sizeof *grown.slots)))
            return mu_err_set(err, MUSTER_ENOMEM, "no memory for the names of tensors");
        for (size_t i = 0; i < t->n; i++)
            put(&grown, array, stride, i);
        free(t->slots);
        *t = grown;
    }
    put(t, array, stride, t->n++);
    return 0;
}

size_t mu_ckpt_names_find(const struct mu_ckpt_names *t, const void *array, size_t stride, const char *name)
{
    uint32_t slot = t->room ? t->slots[place(t, array, stride, name)] : 0;

    return slot ? slot - 1 : MU_CKPT_NO_NAME;
}

/* As it came last, no other name was ever moved on by it. */
void mu_ckpt_names_drop(struct mu_ckpt_names *t, const void *array, size_t stride)
{
    t->slots[place(t, array, stride, name_at(array, stride, t->n - 1))] = 0;
    t->n--;
}

void mu_ckpt_names_free(struct mu_ckpt_names *t)
{
    free(t->slots);
    *t = (struct mu_ckpt_names){0};
}
