#include "runtime/base/hosts.h"

#include <string.h>
#include <unistd.h>

#include "runtime/base/buf.h"
#include "runtime/base/clean.h"
#include "tests/unit/tap.h"

static const struct {
    const char *in, *out; /* "name=slots ..." or the error's text */
    int rc;
} lists[] =
    {
        {"a", "a=1", 0},
        {"a:4,b:4", "a=4 b=4", 0},
        {"a,b,a", "a=2 b=1", 0},
        {"a:2,a:3,b", "a=5 b=1", 0},
        {"a:2,a", "a=3", 0},
        {"a:*,b:2", "a=0 b=2", 0},
        {"user@a.b-c:2", "user@a.b-c=2", 0},
        {"[fe80::1]:4,::1,10.0.0.1:2", "fe80::1=4 ::1=1 10.0.0.1=2", 0},
        {"", "host list: a host name is missing", MUSTER_EARG},
        {"a,", "host list: a host name is missing", MUSTER_EARG},
        {":4", "host list: a host name is missing", MUSTER_EARG},
        {"a:", "host list: host a: slots must be a number from 1 to 65536, not ''", MUSTER_EARG},
        {"a:0", "host list: host a: slots must be a number from 1 to 65536, not '0'", MUSTER_EARG},
        {"a:-1", "host list: host a: slots must be a number from 1 to 65536, not '-1'", MUSTER_EARG},
        {"a:65537", "host list: host a: slots must be a number from 1 to 65536, not '65537'", MUSTER_EARG},
        {"a:65536,a", "host list: host a has more than 65536 slots", MUSTER_EARG},
        {"a:99999999999999999999",
         "host list: host a: slots must be a number from 1 to 65536, not '99999999999999999999'", MUSTER_EARG},
        {"-oProxyCommand=x", "host list: '-oProxyCommand=x' is not a host name", MUSTER_EARG},
        {"u@-x", "host list: 'u@-x' is not a host name", MUSTER_EARG},
        {"a b", "host list: 'a b' is not a host name", MUSTER_EARG},
        {"a\033", "host list: 'a\\x1b' is not a host name", MUSTER_EARG},
        {"a/b", "host list: 'a/b' is not a host name", MUSTER_EARG},
        {"a@b@c", "host list: 'a@b@c' is not a host name", MUSTER_EARG},
        {"[::1", "host list: '[::1' lacks its ]", MUSTER_EARG},
        {"[::1]4", "host list: '[::1]4' lacks its ]", MUSTER_EARG},
        {"n[1-3]", "n1=1 n2=1 n3=1", 0},
        {"n[08-10,2]:4,m,u@r[0-1]n[1,2]-ib:*",
         "n08=4 n09=4 n10=4 n2=4 m=1 u@r0n1-ib=0 u@r0n2-ib=0 u@r1n1-ib=0 u@r1n2-ib=0", 0},
        {"n[1-2],n1", "n1=2 n2=1", 0},
        {"n[2-1]", "host list: 'n[2-1]' is not a host name", MUSTER_EARG},
        {"n[]", "host list: 'n[]' is not a host name", MUSTER_EARG},
        {"n[1-,2]", "host list: 'n[1-,2]' is not a host name", MUSTER_EARG},
        {"n[1-2-3]", "host list: 'n[1-2-3]' is not a host name", MUSTER_EARG},
        {"n[a]", "host list: 'n[a]' is not a host name", MUSTER_EARG},
        {"n[1", "host list: 'n[1' is not a host name", MUSTER_EARG},
        {"n1]", "host list: 'n1]' is not a host name", MUSTER_EARG},
        {"n[1]]", "host list: 'n1]' is not a host name", MUSTER_EARG},
        {"n[1-9999999999]", "host list: 'n[1-9999999999]' is not a host name", MUSTER_EARG},
        {"n[1-70000]", "host list: more than 65536 hosts", MUSTER_EARG},
},
  files[] = {
      {"a\nb slots=4\n", "a=0 b=4", 0},
      {"# all\n\n  a:4  # four\r\n\tb slots=2 max_slots=8", "a=4 b=2/8", 0},
      {"a\na\nb\n", "a=2 b=0", 0},
      {"a slots=2\na\n", "a=3", 0},
      {"\xef\xbb\xbf"
       "a slots=2\r\nb\r\n",
       "a=2 b=0", 0},
      {"\xef\xbb\xbf", "hf names no host", MUSTER_EARG},
      {"a\n\xef\xbb\xbf"
       "b\n",
       "hf:2: '\\xef\\xbb\\xbfb' is not a host name", MUSTER_EARG},
      {"a SLOTS=3 max-slots=4\n", "a=3/4", 0},
      {"", "hf names no host", MUSTER_EARG},
      {"# nothing\n", "hf names no host", MUSTER_EARG},
      {"a\nb slot=4\n", "hf:2: 'slot=4' is none of slots=N, max_slots=N", MUSTER_EARG},
      {"a 4\n", "hf:1: '4' is none of slots=N, max_slots=N", MUSTER_EARG},
      {"a slots=x\n", "hf:1: host a: slots must be a number from 1 to 65536, not 'x'", MUSTER_EARG},
      {"a:2 slots=2\n", "hf:1: host a: slots are given twice", MUSTER_EARG},
      {"n[1-2] slots=3\nm[7]\n", "n1=3 n2=3 m7=0", 0},
      {"\n\n\033]0;x\n", "hf:3: '\\x1b]0;x' is not a host name", MUSTER_EARG},
};

static void row(const char *what, const char *in, const char *want, int want_rc, int rc, struct mu_hosts *h,
                const struct mu_err *err)
{
    mu_auto_buf struct mu_buf got = {0};

    for (size_t i = 0; rc == 0 && i < h->n; i++) {
        mu_buf_appendf(&got, "%s%s=%d", i ? " " : "", h->v[i].name, h->v[i].slots);
        if (h->v[i].max_slots)
            mu_buf_appendf(&got, "/%d", h->v[i].max_slots);
    }
    if (rc < 0)
        mu_buf_puts(&got, err->text);
    TAP_OK(rc == want_rc && !strcmp(mu_buf_str(&got), want), "%s: %s", what, want);
    if (strcmp(mu_buf_str(&got), want))
        printf("# of %zu bytes, got: %s\n", strlen(in), mu_buf_str(&got));
    mu_hosts_free(h);
}

int main(void)
{
    struct mu_hosts h = {0};
    struct mu_err err;

    for (size_t i = 0; i < MU_COUNT(lists); i++) {
        int rc = mu_hosts_parse(lists[i].in, &h, &err);
        row("list", lists[i].in, lists[i].out, lists[i].rc, rc, &h, &err);
    }
    for (size_t i = 0; i < MU_COUNT(files); i++) {
        int rc = mu_hosts_parse_file(files[i].in, strlen(files[i].in), "hf", &h, &err);
        row("file", files[i].in, files[i].out, files[i].rc, rc, &h, &err);
    }
    TAP_OK(mu_hosts_parse_file("a\0b\n", 4, "hf", &h, &err) == MUSTER_EARG && !h.v, "a NUL byte is no host name");

    mu_auto_buf struct mu_buf big = {0};
    for (int i = 0; i < 5000; i++)
        mu_buf_appendf(&big, "%snode%d:8", i ? "," : "", i % 2500);
    TAP_OK(mu_hosts_parse(mu_buf_str(&big), &h, &err) == 0 && h.n == 2500 && h.v[2499].slots == 16 &&
               !strcmp(h.v[1234].name, "node1234"),
           "thousands of hosts");
    mu_hosts_free(&h);
    mu_buf_clear(&big);
    for (int i = 0; i <= MU_HOSTS_MAX; i++)
        mu_buf_appendf(&big, "n%d\n", i);
    TAP_OK(mu_hosts_parse_file(mu_buf_str(&big), big.len, "hf", &h, &err) == MUSTER_EARG &&
               strstr(err.text, "more than 65536 hosts"),
           "more hosts than there may be");
    mu_buf_clear(&big);
    for (int i = 0; i < 300; i++)
        mu_buf_putc(&big, 'h');
    TAP_OK(mu_hosts_parse(mu_buf_str(&big), &h, &err) == MUSTER_EARG && strstr(err.text, "is too long"), "a long name");

    char name[300];
    const char *tmp = getenv("TMPDIR");
    snprintf(name, sizeof name, "%.250s/base-hosts-XXXXXX", tmp ? tmp : "/tmp");
    mu_auto_fd int fd = mkstemp(name);
    TAP_OK(fd >= 0 && write(fd, "x slots=3\n", 10) == 10 && mu_hosts_read_file(name, &h, &err) == 0 && h.n == 1 &&
               h.v[0].slots == 3,
           "a hostfile is read");
    mu_hosts_free(&h);
    unlink(name);
    TAP_OK(mu_hosts_read_file(name, &h, &err) < 0 && strstr(err.text, "hostfile: cannot read"), "%s", err.text);
    return tap_done();
}
