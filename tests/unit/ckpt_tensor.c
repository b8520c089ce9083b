#include "runtime/base/dtype.h"
#include "tests/unit/ckpt_help.h"

int main(void)
{
    static char longname[MU_CKPT_NAME_MAX + 2];
    static const uint64_t huge = 1ull << 61;
    struct mu_ckpt_tensors list = {0}, other = {0};
    static float data[64];
    struct mu_err err;
    const struct {
        const char *what, *name;
        unsigned dtype;
        int ndim;
        uint64_t global[3], offset[3], local[3];
        void *data;
        unsigned flags;
        int rc;
    } rows[] = {
        {"a matrix", "w", MUSTER_FLOAT32, 2, {4, 4}, {0, 0}, {4, 4}, data, MUSTER_REPLICATED, 0},
        {"a name twice", "w", MUSTER_FLOAT32, 1, {4}, {0}, {4}, data, 0, MUSTER_EARG},
        {"a block", "b", MUSTER_FLOAT64, 3, {9, 9, 9}, {1, 2, 8}, {2, 3, 1}, data, 0, 0},
        {"an empty block without data", "e", MUSTER_INT8, 2, {7, 7}, {7, 0}, {0, 7}, NULL, 0, 0},
        {"an empty tensor", "e2", MUSTER_INT8, 1, {0}, {0}, {0}, NULL, MUSTER_REPLICATED, 0},
        {"a block past the end", "x", MUSTER_INT8, 1, {8}, {5}, {4}, data, 0, MUSTER_EARG},
        {"offset overflow", "x", MUSTER_INT8, 1, {8}, {UINT64_MAX}, {2}, data, 0, MUSTER_EARG},
        {"no dimension", "x", MUSTER_INT8, 0, {1}, {0}, {1}, data, 0, MUSTER_EARG},
        {"nine dimensions", "x", MUSTER_INT8, 9, {1}, {0}, {1}, data, 0, MUSTER_EARG},
        {"negative dimensions", "x", MUSTER_INT8, -1, {1}, {0}, {1}, data, 0, MUSTER_EARG},
        {"unknown type", "x", MU_DTYPE_COUNT, 1, {1}, {0}, {1}, data, 0, MUSTER_EARG},
        {"unknown flag", "x", MUSTER_INT8, 1, {1}, {0}, {1}, data, 2, MUSTER_EARG},
        {"no data", "x", MUSTER_INT8, 1, {1}, {0}, {1}, NULL, 0, MUSTER_EARG},
        {"replicated in part", "x", MUSTER_INT8, 1, {2}, {0}, {1}, data, MUSTER_REPLICATED, MUSTER_EARG},
        {"too large", "x", MUSTER_INT8, 1, {huge}, {0}, {huge}, data, 0, MUSTER_EARG},
        {"overflow of the product",
         "x",
         MUSTER_INT8,
         3,
         {1ull << 32, 1ull << 32, 2},
         {0},
         {1, 1, 1},
         data,
         0,
         MUSTER_EARG},
        {"no name", NULL, MUSTER_INT8, 1, {1}, {0}, {1}, data, 0, MUSTER_EARG},
        {"empty name", "", MUSTER_INT8, 1, {1}, {0}, {1}, data, 0, MUSTER_EARG},
        {"newline in a name", "a\nb", MUSTER_INT8, 1, {1}, {0}, {1}, data, 0, MUSTER_EARG},
        {"name too long", longname, MUSTER_INT8, 1, {1}, {0}, {1}, data, 0, MUSTER_EARG},
        {"large", "big", MUSTER_INT8, 1, {1ull << 60}, {0}, {(1ull << 60) - 4096}, data, 0, 0},
        {"the sum too large", "big2", MUSTER_INT8, 1, {1ull << 60}, {0}, {1ull << 60}, data, 0, MUSTER_EARG},
    };

    memset(longname, 'n', sizeof longname - 1);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        size_t before = list.n;
        int rc = add(&list, rows[i].name, (muster_dtype)rows[i].dtype, rows[i].ndim, rows[i].global, rows[i].offset,
                     rows[i].local, rows[i].data, rows[i].flags, &err);

        TAP_OK(rc == rows[i].rc && list.n == before + !rc, "%s%s%s", rows[i].what, rc ? ": " : "", rc ? err.text : "");
    }
    TAP_OK(mu_ckpt_tensors_add(&list, NULL, &err) == MUSTER_EARG, "NULL");
    TAP_OK(mu_dtype_size(MUSTER_BFLOAT16) == 2 && mu_dtype_size((muster_dtype)99) == 0, "sizes of types");

    struct mu_ckpt_tensors a = {0}, b = {0};
    const uint64_t n4 = 4, n5 = 5;
    add(&a, "p", MUSTER_INT8, 1, &n4, NULL, NULL, data, MUSTER_REPLICATED, NULL);
    add(&b, "p", MUSTER_INT8, 1, &n4, NULL, NULL, data, MUSTER_REPLICATED, NULL);
    add(&b, "own", MUSTER_INT8, 1, &n5, NULL, NULL, data, 0, NULL);
    add(&other, "p", MUSTER_INT8, 1, &n5, NULL, NULL, data, MUSTER_REPLICATED, NULL);
    TAP_OK(mu_ckpt_tensors_replica_sum(&a) == mu_ckpt_tensors_replica_sum(&b),
           "own tensors do not enter the replica sum");
    TAP_OK(mu_ckpt_tensors_replica_sum(&a) != mu_ckpt_tensors_replica_sum(&other), "shapes do");
    mu_ckpt_tensors_free(&a);
    mu_ckpt_tensors_free(&b);
    mu_ckpt_tensors_free(&other);
    mu_ckpt_tensors_free(&list);
    return tap_done();
}
