#include "runtime/base/str.h"

#include <string.h>

#include "runtime/base/clean.h"
#include "tests/unit/tap.h"

static const struct {
    const char *in;
    int rc;
    uint64_t out;
} u64s[] =
    {
        {"0", 0, 0},
        {"18446744073709551615", 0, UINT64_MAX},
        {"18446744073709551616", MUSTER_EARG, 0},
        {"99999999999999999999", MUSTER_EARG, 0},
        {"007", 0, 7},
        {"", MUSTER_EARG, 0},
        {" 1", MUSTER_EARG, 0},
        {"1 ", MUSTER_EARG, 0},
        {"-1", MUSTER_EARG, 0},
        {"+1", MUSTER_EARG, 0},
        {"0x10", MUSTER_EARG, 0},
        {"1e3", MUSTER_EARG, 0},
},
  sizes[] =
      {
          {"0", 0, 0},
          {"4096", 0, 4096},
          {"8B", 0, 8},
          {"64K", 0, 65536},
          {"64k", 0, 65536},
          {"64M", 0, 64ull << 20},
          {"64MB", 0, 64ull << 20},
          {"1GiB", 0, 1ull << 30},
          {"1.5G", 0, 3ull << 29},
          {"2TB", 0, 2ull << 40},
          {"3P", 0, 3ull << 50},
          {"16383P", 0, 16383ull << 50},
          {"16384P", MUSTER_EARG, 0},
          {"1.5", MUSTER_EARG, 0},
          {"1.", MUSTER_EARG, 0},
          {".5G", MUSTER_EARG, 0},
          {"64MM", MUSTER_EARG, 0},
          {"64iB", MUSTER_EARG, 0},
          {"BiB", MUSTER_EARG, 0},
          {"1BB", MUSTER_EARG, 0},
          {"1Q", MUSTER_EARG, 0},
          {"-1K", MUSTER_EARG, 0},
          {"", MUSTER_EARG, 0},
          {"0.0000000000000000001G", MUSTER_EARG, 0},
},
  durations[] = {
      {"30", 0, 30000000000},
      {"0", 0, 0},
      {"500ms", 0, 500000000},
      {"30s", 0, 30000000000},
      {"2m", 0, 120000000000},
      {"1h", 0, 3600000000000},
      {"1d", 0, 86400000000000},
      {"1.5s", 0, 1500000000},
      {"0.25", 0, 250000000},
      {"1h30m", 0, 5400000000000},
      {"7us", 0, 7000},
      {"7ns", 0, 7},
      {"213503d", 0, 213503ull * 86400000000000},
      {"213504d", MUSTER_EARG, 0},
      {"213503d24h", MUSTER_EARG, 0},
      {"1h30", MUSTER_EARG, 0},
      {"30 s", MUSTER_EARG, 0},
      {"s", MUSTER_EARG, 0},
      {"", MUSTER_EARG, 0},
      {"-1", MUSTER_EARG, 0},
      {"1w", MUSTER_EARG, 0},
      {"1S", MUSTER_EARG, 0},
};

static void numbers(void)
{
    uint64_t u;
    int64_t i;
    double d;

    for (size_t k = 0; k < MU_COUNT(u64s); k++) {
        u = 77;
        int rc = mu_str_u64(u64s[k].in, 0, UINT64_MAX, &u);
        TAP_OK(rc == u64s[k].rc && u == (rc ? 77 : u64s[k].out), "u64 '%s'", u64s[k].in);
    }
    for (size_t k = 0; k < MU_COUNT(sizes); k++) {
        u = 77;
        int rc = mu_str_size(sizes[k].in, &u);
        TAP_OK(rc == sizes[k].rc && u == (rc ? 77 : sizes[k].out), "size '%s'", sizes[k].in);
    }
    for (size_t k = 0; k < MU_COUNT(durations); k++) {
        u = 77;
        int rc = mu_str_duration(durations[k].in, &u);
        TAP_OK(rc == durations[k].rc && u == (rc ? 77 : durations[k].out), "duration '%s'", durations[k].in);
    }
    TAP_OK(mu_str_u64("5", 6, 9, &u) < 0 && mu_str_u64("10", 6, 9, &u) < 0 && mu_str_u64("6", 6, 9, &u) == 0,
           "u64 keeps to its range");
    TAP_OK(mu_str_u64(NULL, 0, 1, &u) < 0 && mu_str_i64(NULL, 0, 1, &i) < 0 && mu_str_double(NULL, &d) < 0 &&
               mu_str_size(NULL, &u) < 0 && mu_str_duration(NULL, &u) < 0,
           "NULL is no number");
    TAP_OK(mu_str_i64("-9223372036854775808", INT64_MIN, INT64_MAX, &i) == 0 && i == INT64_MIN, "smallest i64");
    TAP_OK(mu_str_i64("-9223372036854775809", INT64_MIN, INT64_MAX, &i) < 0, "smaller than that");
    TAP_OK(mu_str_i64("9223372036854775807", INT64_MIN, INT64_MAX, &i) == 0 && i == INT64_MAX, "largest i64");
    TAP_OK(mu_str_i64("9223372036854775808", INT64_MIN, INT64_MAX, &i) < 0, "larger than that");
    TAP_OK(mu_str_i64("-0", -1, 1, &i) == 0 && i == 0 && mu_str_i64("--1", -5, 5, &i) < 0 &&
               mu_str_i64("-", -5, 5, &i) < 0,
           "signs");
    TAP_OK(mu_str_double("-1.5e3", &d) == 0 && d == -1500, "double");
    static const char *const bad[] = {"", "nan", "inf", "-inf", "0x1p3", " 1", "1 ", "1e999", "1.2.3", "-", "+1"};
    for (size_t k = 0; k < MU_COUNT(bad); k++)
        TAP_OK(mu_str_double(bad[k], &d) == MUSTER_EARG, "no double: '%s'", bad[k]);
}

static void formats(void)
{
    static const struct {
        uint64_t in;
        const char *size, *duration;
    } rows[] = {
        {0, "0 B", "0 ns"},
        {999, "999 B", "999 ns"},
        {1536, "1.5 KiB", "1.5 us"},
        {64 << 20, "64 MiB", "67 ms"},
        {(1 << 20) - 1, "1.0 MiB", "1.0 ms"},
        {350000000, "333.8 MiB", "350 ms"},
        {12300000000, "11.5 GiB", "12.3 s"},
        {59949999999, "55.8 GiB", "59.9 s"},
        {125000000000, "116.4 GiB", "2m05s"},
        {11220000000000, "10.2 TiB", "3h07m"},
        {352800000000000, "320.9 TiB", "4d02h"},
        {UINT64_MAX, "16.0 EiB", "213503d23h"},
    };
    char a[40], b[40];

    for (size_t k = 0; k < MU_COUNT(rows); k++) {
        mu_str_fmt_size(a, sizeof a, rows[k].in);
        mu_str_fmt_duration(b, sizeof b, rows[k].in);
        TAP_OK(!strcmp(a, rows[k].size) && !strcmp(b, rows[k].duration), "%llu is '%s' and '%s'",
               (unsigned long long)rows[k].in, a, b);
    }
}

static void vectors(void)
{
    char **v = NULL;

    TAP_OK(mu_strv_len(v) == 0, "NULL is an empty vector");
    TAP_OK(mu_strv_append(&v, "a") == 0 && mu_strv_append(&v, "") == 0 && mu_strv_len(v) == 2 && !v[2], "append");
    char **w = mu_strv_dup(v);
    TAP_OK(w && mu_strv_len(w) == 2 && w[0] != v[0] && !strcmp(w[0], "a") && !*w[1], "dup is deep");
    mu_strv_free(w);
    mu_strv_free(v);
    w = mu_strv_dup(NULL);
    TAP_OK(w && !w[0], "dup of nothing is an empty vector");
    mu_strv_free(w);
    w = malloc(3 * sizeof *w + 4);
    char *text = (char *)(w + 3);
    memcpy(text, "x\0y", 4);
    w[0] = text, w[1] = text + 2, w[2] = NULL;
    TAP_OK(!mu_strv_append(&w, "z") && mu_strv_len(w) == 3 && !strcmp(w[0], "x") && !strcmp(w[2], "z"),
           "one block grows, too");
    mu_strv_free(w);
    mu_strv_free(NULL);
}

static void text(void)
{
    static const struct {
        const char *in, *out;
    } quotes[] =
        {
            {"", "''"},           {"a/b-c=1", "a/b-c=1"}, {"a b", "'a b'"}, {"it's", "'it'\\''s'"},
            {"$(rm)", "'$(rm)'"}, {"~", "'~'"},
        },
      prints[] = {
          {"plain text", "plain text"},
          {"a\nb\tc\r", "a\\nb\\tc\\r"},
          {"\033[31mred", "\\x1b[31mred"},
          {"\x7f", "\\x7f"},
          {"Gr\xc3\xbc\xc3\x9f", "Gr\xc3\xbc\xc3\x9f"},
          {"\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80"},
          {"\xc2\x9b"
           "31m",
           "\\xc2\\x9b31m"}, /* C1 CSI */
          {"\xe2\x80\xae"
           "x",
           "\\xe2\\x80\\xaex"},                         /* right-to-left override */
          {"\xc0\xaf", "\\xc0\\xaf"},                   /* overlong */
          {"\xed\xa0\x80", "\\xed\\xa0\\x80"},          /* surrogate */
          {"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"}, /* beyond Unicode */
          {"\xe2\x82", "\\xe2\\x82"},                   /* cut */
          {"\xff\xfe", "\\xff\\xfe"},
      };
    mu_auto_buf struct mu_buf b = {0};
    char cut[12];

    for (size_t k = 0; k < MU_COUNT(quotes); k++) {
        mu_buf_clear(&b);
        mu_str_quote(&b, quotes[k].in);
        TAP_OK(!strcmp(mu_buf_str(&b), quotes[k].out), "quoted: %s", quotes[k].out);
    }
    for (size_t k = 0; k < MU_COUNT(prints); k++) {
        mu_buf_clear(&b);
        mu_str_printable(&b, prints[k].in, strlen(prints[k].in));
        TAP_OK(!strcmp(mu_buf_str(&b), prints[k].out), "printable: %s", prints[k].out);
    }
    mu_buf_clear(&b);
    mu_str_printable(&b, "a\0b", 3);
    TAP_OK(!strcmp(mu_buf_str(&b), "a\\x00b"), "a NUL byte is shown");

    TAP_OK(!strcmp(mu_str_show(cut, sizeof cut, "01234567890"), "01234567890"), "show: what fits is whole");
    TAP_OK(!strcmp(mu_str_show(cut, sizeof cut, "012345678901"), "01234567..."), "show: what does not is cut");
    TAP_OK(!strcmp(mu_str_show(cut, sizeof cut, "0123456\xc3\xbc\xc3\xbc\xc3\xbc"), "0123456..."),
           "show: no character is split");
    TAP_OK(!strcmp(mu_str_show(cut, 3, "abcd"), "..") && !strcmp(mu_str_show(cut, 1, "abcd"), ""),
           "show: tiny buffers");

    char c[4];
    TAP_OK(mu_str_copy(c, sizeof c, "abc") == 0 && !strcmp(c, "abc"), "copy that fits");
    TAP_OK(mu_str_copy(c, sizeof c, "abcd") == MUSTER_EARG && !*c, "copy that does not");

    TAP_OK(mu_str_hash("", 0) == 0xcbf29ce484222325ull && mu_str_hash("a", 1) == 0xaf63dc4c8601ec8cull &&
               mu_str_hash("foobar", 6) == 0x85944171f73967e8ull,
           "FNV-1a test vectors");
    TAP_OK(mu_str_distance("", "") == 0 && mu_str_distance("abc", "") == 3 && mu_str_distance("ranks", "rnaks") == 1 &&
               mu_str_distance("kitten", "sitting") == 3 && mu_str_distance("bind", "bimd") == 1,
           "edit distance");
    char lengthy[100];
    memset(lengthy, 'x', 99);
    lengthy[99] = 0;
    TAP_OK(mu_str_distance(lengthy, "x") == 63 && mu_str_distance(lengthy, lengthy) == 0, "long words are unlike");
}

int main(void)
{
    numbers();
    formats();
    vectors();
    text();
    return tap_done();
}
