#include "collectives/tcp_net.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <ifaddrs.h>
#include <limits.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "collectives/domain.h"
#include "runtime/base/clean.h"
#include "runtime/base/str.h"

#define BACKLOG 1024
#define RDMA "/sys/class/infiniband"
#define SLINGSHOT "/sys/class/cxi"

static size_t width(const struct mu_tcp_addr *a)
{
    return a->family == 4 ? 4 : 16;
}

static bool one_net(const struct mu_tcp_addr *a, const struct mu_tcp_addr *b, unsigned bits)
{
    unsigned bytes = bits / 8, rest = bits % 8;

    if (a->family != b->family || bits > 8 * width(a) || memcmp(a->bytes, b->bytes, bytes) != 0)
        return false;
    return rest == 0 || (a->bytes[bytes] ^ b->bytes[bytes]) >> (8 - rest) == 0;
}

static bool parse_net(const char *text, struct mu_tcp_addr *a)
{
    char buf[INET6_ADDRSTRLEN + 8], *slash;
    uint64_t bits;

    if (strlen(text) >= sizeof buf)
        return false;
    strcpy(buf, text);
    slash = strchr(buf, '/');
    if (!slash)
        return false;
    *slash = 0;
    a->family = strchr(buf, ':') ? 6 : 4;
    if (inet_pton(a->family == 4 ? AF_INET : AF_INET6, buf, a->bytes) != 1)
        return false;
    if (mu_str_u64(slash + 1, 0, 8 * width(a), &bits) < 0)
        return false;
    a->prefix = (uint8_t)bits;
    return true;
}

bool mu_tcp_listed(const char *list, const char *name, const struct mu_tcp_addr *a)
{
    while (*list) {
        size_t n = strcspn(list, ",");
        char item[64];
        struct mu_tcp_addr net = {0};

        if (n < sizeof item) {
            memcpy(item, list, n);
            item[n] = 0;
            if (!strcmp(item, name) || (parse_net(item, &net) && one_net(a, &net, net.prefix)))
                return true;
        }
        list += n + (list[n] == ',');
    }
    return false;
}

static unsigned mask_bits(const struct sockaddr *mask)
{
    const uint8_t *p = (const uint8_t *)&((const struct sockaddr_in *)(const void *)mask)->sin_addr;
    size_t n = 4;
    unsigned bits = 0;

    if (mask->sa_family == AF_INET6) {
        p = (const uint8_t *)&((const struct sockaddr_in6 *)(const void *)mask)->sin6_addr;
        n = 16;
    }
    for (size_t i = 0; i < n; i++)
        bits += (unsigned)__builtin_popcount(p[i]);
    return bits;
}

static bool read_addr(const struct ifaddrs *i, struct mu_tcp_addr *a)
{
    *a = (struct mu_tcp_addr){0};
    if (!i->ifa_addr || !i->ifa_netmask || !(i->ifa_flags & IFF_UP))
        return false;
    if (i->ifa_addr->sa_family == AF_INET) {
        a->family = 4;
        memcpy(a->bytes, &((const struct sockaddr_in *)(const void *)i->ifa_addr)->sin_addr, 4);
    } else if (i->ifa_addr->sa_family == AF_INET6) {
        const struct in6_addr *six = &((const struct sockaddr_in6 *)(const void *)i->ifa_addr)->sin6_addr;

        if (IN6_IS_ADDR_LINKLOCAL(six))
            return false;
        a->family = 6;
        memcpy(a->bytes, six, 16);
    } else {
        return false;
    }
    a->prefix = (uint8_t)mask_bits(i->ifa_netmask);
    return true;
}

static bool is_wanted(const struct ifaddrs *i, const struct mu_tcp_addr *a)
{
    const char *only = getenv("OMPI_MCA_btl_tcp_if_include"), *not = getenv("OMPI_MCA_btl_tcp_if_exclude");

    if (only && *only)
        return mu_tcp_listed(only, i->ifa_name, a);
    return !not || !mu_tcp_listed(not, i->ifa_name, a);
}

/* Those of the loopback come last: only processes of the same network stack try them. */
static unsigned list_addrs(struct mu_tcp_card *mine)
{
    struct ifaddrs *all;
    struct mu_tcp_addr a;
    unsigned n = 0;

    if (getifaddrs(&all) < 0)
        return 0;
    for (int loopback = 0; loopback < 2; loopback++)
        for (int family = 4; family <= 6; family += 2)
            for (const struct ifaddrs *i = all; i && n < MU_TCP_ADDRS; i = i->ifa_next)
                if (read_addr(i, &a) && a.family == family && !!(i->ifa_flags & IFF_LOOPBACK) == loopback &&
                    (loopback || is_wanted(i, &a)))
                    mine->at[n++] = a;
    freeifaddrs(all);
    return n;
}

static bool is_up(const char *adapter)
{
    char path[600];
    struct dirent *d;
    bool up = false;

    snprintf(path, sizeof path, RDMA "/%.200s/ports", adapter);
    mu_auto_dir DIR *dir = opendir(path);
    while (dir && !up && (d = readdir(dir))) {
        snprintf(path, sizeof path, RDMA "/%.200s/ports/%.200s/state", adapter, d->d_name);
        mu_auto_file FILE *f = d->d_name[0] == '.' ? NULL : fopen(path, "re");
        up = f && fgetc(f) == '4'; /* ACTIVE */
    }
    return up;
}

static bool has_fabric(void)
{
    mu_auto_dir DIR *dir = opendir(RDMA);
    struct dirent *d;
    bool up = access(SLINGSHOT, F_OK) == 0;

    while (dir && !up && (d = readdir(dir)))
        up = d->d_name[0] != '.' && is_up(d->d_name);
    return up;
}

static long port_setting(const char *name)
{
    const char *s = getenv(name);
    uint64_t n;

    return s && mu_str_u64(s, 1, 65535, &n) == 0 ? (long)n : 0;
}

static bool bind_to(int fd, int family, unsigned port)
{
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};

    return family == AF_INET6 ? bind(fd, (struct sockaddr *)&six, sizeof six) == 0
                              : bind(fd, (struct sockaddr *)&four, sizeof four) == 0;
}

static int open_listener(int family)
{
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), off = 0;
    long first = port_setting("OMPI_MCA_btl_tcp_port_min_v4"), n = port_setting("OMPI_MCA_btl_tcp_port_range_v4");
    bool bound = false;

    if (fd < 0)
        return -1;
    if (family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if (first < 1024) /* as MPI takes it: no wish */
        bound = bind_to(fd, family, 0);
    else if (n == 0)
        n = 65535 - first + 1;
    for (long p = first; first >= 1024 && !bound && p < first + n && p <= 65535; p++)
        bound = bind_to(fd, family, (unsigned)p);
    if (bound && listen(fd, BACKLOG) == 0)
        return fd;
    int e = errno;
    close(fd);
    errno = e;
    return -1;
}

static int refuse(struct mu_tcp_card *mine, int fd, struct mu_err *err)
{
    int e = errno;

    if (fd >= 0)
        close(fd);
    mu_err_set(err, MUSTER_ENOSYS, "TCP: %s", strerror(e));
    snprintf(mine->why, sizeof mine->why, "TCP: %s", strerror(e));
    return -1;
}

int mu_tcp_listen(struct mu_tcp_card *mine, struct mu_err *err)
{
    struct sockaddr_storage at;
    socklen_t n = sizeof at;
    int fd;

    *mine = (struct mu_tcp_card){.fabric = has_fabric(), .stack = mu_domain_host()};
    fd = open_listener(AF_INET6);
    if (fd < 0)
        fd = open_listener(AF_INET);
    if (fd < 0 || getsockname(fd, (struct sockaddr *)&at, &n) < 0 ||
        getrandom(mine->secret, sizeof mine->secret, 0) != (ssize_t)sizeof mine->secret)
        return refuse(mine, fd, err);
    mine->port = at.ss_family == AF_INET6 ? ntohs(((struct sockaddr_in6 *)(void *)&at)->sin6_port)
                                          : ntohs(((struct sockaddr_in *)(void *)&at)->sin_port);
    if (list_addrs(mine) == 0) {
        errno = EADDRNOTAVAIL;
        return refuse(mine, fd, err);
    }
    mine->ready = 1;
    return fd;
}

bool mu_tcp_one_stack(const struct mu_tcp_card *a, const struct mu_tcp_card *b)
{
    return a->stack == b->stack;
}

static bool is_loopback(const struct mu_tcp_addr *a)
{
    static const uint8_t six[16] = {[15] = 1};

    return a->family == 4 ? a->bytes[0] == 127 : memcmp(a->bytes, six, sizeof six) == 0;
}

/* An address that this rank's host has, too, as bridges of containers do, leads back to it. */
static bool is_possible(const struct mu_tcp_card *mine, const struct mu_tcp_card *peer, const struct mu_tcp_addr *a)
{
    if (a->family != 4 && a->family != 6)
        return false;
    if (mu_tcp_one_stack(mine, peer))
        return true;
    for (unsigned i = 0; i < MU_TCP_ADDRS; i++)
        if (one_net(&mine->at[i], a, (unsigned)(8 * width(a))))
            return false;
    return !is_loopback(a);
}

static bool is_near(const struct mu_tcp_card *mine, const struct mu_tcp_addr *a)
{
    for (unsigned i = 0; i < MU_TCP_ADDRS; i++)
        if (mine->at[i].family == a->family && one_net(&mine->at[i], a, mine->at[i].prefix))
            return true;
    return false;
}

bool mu_tcp_candidate(const struct mu_tcp_card *mine, const struct mu_tcp_card *peer, unsigned k,
                      struct sockaddr_storage *to, socklen_t *n)
{
    for (int far = 0; far < 2; far++)
        for (unsigned i = 0; i < MU_TCP_ADDRS; i++) {
            const struct mu_tcp_addr *a = &peer->at[i];

            if (!is_possible(mine, peer, a) || is_near(mine, a) == far || k-- > 0)
                continue;
            memset(to, 0, sizeof *to);
            if (a->family == 4) {
                struct sockaddr_in *four = (struct sockaddr_in *)(void *)to;

                *four = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(peer->port)};
                memcpy(&four->sin_addr, a->bytes, 4);
                *n = sizeof *four;
            } else {
                struct sockaddr_in6 *six = (struct sockaddr_in6 *)(void *)to;

                *six = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(peer->port)};
                memcpy(&six->sin6_addr, a->bytes, 16);
                *n = sizeof *six;
            }
            return true;
        }
    return false;
}

void mu_tcp_hello_set(struct mu_tcp_hello *h, int rank, int to, const uint8_t secret[MU_TCP_SECRET], unsigned flags)
{
    *h = (struct mu_tcp_hello){.magic = MU_TCP_MAGIC,
                               .version = MU_TCP_VERSION,
                               .flags = (uint16_t)flags,
                               .rank = (uint32_t)rank,
                               .to = (uint32_t)to};
    memcpy(h->secret, secret, MU_TCP_SECRET);
}

bool mu_tcp_hello_ok(const struct mu_tcp_hello *h, const struct mu_tcp_card *mine, int rank, int size, int *from)
{
    uint8_t other = 0;

    for (unsigned i = 0; i < MU_TCP_SECRET; i++) /* in the same time, whatever is different */
        other |= h->secret[i] ^ mine->secret[i];
    if (other || h->magic != MU_TCP_MAGIC || h->version != MU_TCP_VERSION || h->to != (uint32_t)rank ||
        h->rank >= (uint32_t)size || h->rank == (uint32_t)rank)
        return false;
    *from = (int)h->rank;
    return true;
}
