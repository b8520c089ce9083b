/* Text in and out: numbers, sizes and durations as people write them, vectors of strings, quoting. The parsers take
 * the whole string or return MUSTER_EARG: no leading space, no sign where there can be none, no overflow. */
#ifndef MU_BASE_STR_H
#define MU_BASE_STR_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/base/buf.h"

int mu_str_u64(const char *s, uint64_t min, uint64_t max, uint64_t *out);
int mu_str_i64(const char *s, int64_t min, int64_t max, int64_t *out);
/* Finite decimal numbers only. */
int mu_str_double(const char *s, double *out);
/* Bytes: "4096", "64K", "64M", "1.5GiB", "2TB"; all prefixes are powers of 1024. */
int mu_str_size(const char *s, uint64_t *bytes);
/* Nanoseconds: "30" (seconds), "500ms", "1.5s", "2m", "1h30m", "1d"; also "us" and "ns". */
int mu_str_duration(const char *s, uint64_t *ns);

/* For people: "512 B", "1.5 GiB"; "350 ms", "12.3 s", "2m05s", "3h07m", "4d02h". Returns buf. */
char *mu_str_fmt_size(char *buf, size_t n, uint64_t bytes);
char *mu_str_fmt_duration(char *buf, size_t n, uint64_t ns);

/* Whether name is one of those that stand between the commas of list. */
bool mu_str_listed(const char *list, const char *name);

/* NULL-terminated vectors of strings, vector and strings from malloc. NULL is an empty one. */
size_t mu_strv_len(char *const *v);
/* 0 or MUSTER_ENOMEM, then *v is as it was. */
int mu_strv_append(char ***v, const char *s);
char **mu_strv_dup(char *const *v);
/* Each string and the array; or the array alone, where the strings lie right behind it. */
void mu_strv_free(char **v);

uint64_t mu_str_hash(const void *data, size_t n); /* FNV-1a, 64 bits */

/* Appends s as one word of a POSIX shell. */
void mu_str_quote(struct mu_buf *out, const char *s);
/* The other way: words as a shell would split them, with quotes and backslashes but nothing that it would expand. *out
 * is for mu_strv_free. EARG: a quote is not closed, or there is no word. */
int mu_str_words(const char *text, char ***out, struct mu_err *err);
/* Appends n bytes with everything escaped that a terminal could obey or a reader be misled by: control bytes, what is
 * not UTF-8, C1 controls, direction overrides. The result is one line. */
void mu_str_printable(struct mu_buf *out, const char *s, size_t n);
/* mu_str_printable into a fixed buffer, cut with "..." where it does not fit. Returns buf. */
char *mu_str_show(char *buf, size_t n, const char *s);
/* Copies with cut; 0, or MUSTER_EARG if it did not fit (dst is then ""). */
int mu_str_copy(char *dst, size_t n, const char *src);
/* Edits (insert, delete, replace, swap neighbours) between two words; words over 63 bytes count as unlike. */
unsigned mu_str_distance(const char *a, const char *b);

#endif
