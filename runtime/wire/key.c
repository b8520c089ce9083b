#include "runtime/wire/key.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/clean.h"
#include "runtime/base/clock.h"

/* "muster-pool-key 1 KEY FINGERPRINT\n" */
#define WORD "muster-pool-key"
#define VERSION "1"
#define FILE_MAX 512 /* room for what newer versions may put there */

static const char digits[] = "0123456789abcdef";

void mu_key_wipe(struct mu_key *key)
{
    OPENSSL_cleanse(key, sizeof *key);
}

static void hex(const uint8_t *in, size_t n, char *out)
{
    for (size_t i = 0; i < n; i++) {
        out[2 * i] = digits[in[i] >> 4];
        out[2 * i + 1] = digits[in[i] & 15];
    }
    out[2 * n] = 0;
}

void mu_key_fingerprint(const struct mu_key *key, char print[MU_KEY_PRINT])
{
    static const char domain[] = "muster pool key fingerprint 1";
    uint8_t in[sizeof domain + MU_KEY_BYTES], out[SHA256_DIGEST_LENGTH];

    memcpy(in, domain, sizeof domain);
    memcpy(in + sizeof domain, key->bytes, MU_KEY_BYTES);
    SHA256(in, sizeof in, out);
    OPENSSL_cleanse(in, sizeof in);
    hex(out, (MU_KEY_PRINT - 1) / 2, print);
}

int mu_key_derive(const struct mu_key *key, const char *purpose, uint8_t out[MU_KEY_BYTES], struct mu_err *err)
{
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KDF_CTX *ctx = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
    char digest[] = "SHA256";
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)(uintptr_t)key->bytes, MU_KEY_BYTES),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, (void *)(uintptr_t)purpose, strlen(purpose)),
        OSSL_PARAM_construct_end(),
    };
    int ok = ctx && EVP_KDF_derive(ctx, out, MU_KEY_BYTES, params) == 1;

    EVP_KDF_CTX_free(ctx);
    EVP_KDF_free(kdf);
    return ok ? 0 : mu_err_set(err, MUSTER_ENOSYS, "OpenSSL does not derive keys here (HKDF with SHA-256)");
}

/* --- text -------------------------------------------------------------------------------------------------------- */

size_t mu_key_format(const struct mu_key *key, char text[MU_KEY_TEXT])
{
    char bytes[2 * MU_KEY_BYTES + 1], print[MU_KEY_PRINT];

    hex(key->bytes, MU_KEY_BYTES, bytes);
    mu_key_fingerprint(key, print);
    int n = snprintf(text, MU_KEY_TEXT, WORD " " VERSION " %s %s\n", bytes, print);
    OPENSSL_cleanse(bytes, sizeof bytes);
    return (size_t)n;
}

static int unhex(const char *in, uint8_t *out, size_t n)
{
    for (size_t i = 0; i < 2 * n; i++) {
        const char *at = in[i] ? strchr(digits, in[i]) : NULL;
        if (!at)
            return -1;
        out[i / 2] = (uint8_t)(i % 2 ? out[i / 2] | (at - digits) : (at - digits) << 4);
    }
    return 0;
}

int mu_key_parse(const char *text, size_t len, struct mu_key *key, struct mu_err *err)
{
    static const char head[] = WORD " ";
    const size_t nhead = sizeof head - 1, nkey = 2 * (size_t)MU_KEY_BYTES;
    mu_auto_key struct mu_key k = {0};
    char print[MU_KEY_PRINT];
    size_t word = 0;

    if (len && text[len - 1] == '\n')
        len--;
    if (len <= nhead || memcmp(text, head, nhead) != 0)
        return mu_err_set(err, MUSTER_EARG, "not a pool key");
    text += nhead;
    len -= nhead;
    while (word < len && text[word] >= '0' && text[word] <= '9')
        word++;
    if (!word || (word < len && text[word] != ' '))
        return mu_err_set(err, MUSTER_EARG, "not a pool key");
    if (word != strlen(VERSION) || memcmp(text, VERSION, word) != 0)
        return mu_err_set(err, MUSTER_EVERSION, "a pool key of version %.*s; this muster knows version " VERSION,
                          (int)(word < 10 ? word : 10), text);
    word += word < len;
    text += word;
    len -= word;
    if (len != nkey + MU_KEY_PRINT || unhex(text, k.bytes, MU_KEY_BYTES) || text[nkey] != ' ')
        return mu_err_set(err, MUSTER_EARG, "the pool key is damaged");
    mu_key_fingerprint(&k, print);
    if (memcmp(text + nkey + 1, print, MU_KEY_PRINT - 1) != 0)
        return mu_err_set(err, MUSTER_EARG, "the pool key is damaged: its fingerprint does not fit");
    *key = k;
    return 0;
}

/* --- descriptors ------------------------------------------------------------------------------------------------- */

static int read_line(int fd, uint64_t deadline, char *text, size_t max, size_t *len, struct mu_err *err)
{
    size_t n = 0;

    while (n < max) {
        uint64_t now = mu_now();
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (now >= deadline)
            return mu_err_set(err, MUSTER_ETIMEOUT, "no pool key came in time");
        int rc = poll(&p, 1, (int)((deadline - now) / MU_MS) + 1);
        if (rc < 0 && errno != EINTR)
            return mu_err_errno(err, 0, "cannot wait for the pool key");
        if (rc <= 0)
            continue;
        ssize_t got = read(fd, text + n, 1); /* what follows the line is not ours */
        if (got < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (got < 0)
            return mu_err_errno(err, 0, "cannot read the pool key");
        if (!got || text[n] == '\n')
            break;
        n++;
    }
    *len = n;
    return 0;
}

int mu_key_read(int fd, int timeout_ms, struct mu_key *key, struct mu_err *err)
{
    char text[FILE_MAX];
    size_t len = 0;
    int rc = read_line(fd, mu_now() + (uint64_t)timeout_ms * MU_MS, text, sizeof text, &len, err);

    if (!rc && !len)
        rc = mu_err_set(err, MUSTER_EARG, "no pool key came: the input ended");
    if (!rc)
        rc = mu_key_parse(text, len, key, err);
    OPENSSL_cleanse(text, sizeof text);
    return rc;
}

static int write_all(int fd, const char *data, size_t len)
{
    while (len) {
        ssize_t n = write(fd, data, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

int mu_key_write(int fd, const struct mu_key *key, struct mu_err *err)
{
    char text[MU_KEY_TEXT];
    int rc = write_all(fd, text, mu_key_format(key, text));
    int e = errno;

    OPENSSL_cleanse(text, sizeof text);
    errno = e;
    return rc ? mu_err_errno(err, 0, "cannot hand the pool key over") : 0;
}

/* --- file -------------------------------------------------------------------------------------------------------- */

int mu_key_path(const struct mu_paths *paths, char path[PATH_MAX], struct mu_err *err)
{
    return mu_path_join(path, PATH_MAX, paths->home, "pool.key", err);
}

/* Whatever can be read by somebody else is no secret. */
static int private_file(int fd, const char *path, struct mu_err *err)
{
    struct stat st;

    if (fstat(fd, &st))
        return mu_err_errno(err, 0, "%s", path);
    if (!S_ISREG(st.st_mode))
        return mu_err_set(err, MUSTER_EARG, "%s is not a file", path);
    if (st.st_uid != geteuid() && st.st_uid != 0)
        return mu_err_set(err, MUSTER_EARG, "%s belongs to user %ld, not to us; remove it, a new one is then made",
                          path, (long)st.st_uid);
    if (st.st_mode & 077)
        return mu_err_set(
            err, MUSTER_EARG,
            "%s is open to others (mode %04o); if nobody can have read it chmod 600 it, otherwise remove it", path,
            (unsigned)st.st_mode & 07777);
    return 0;
}

/* 1: there is none. */
static int load(const char *path, struct mu_key *key, struct mu_err *err)
{
    char text[FILE_MAX + 1];
    mu_auto_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

    if (fd < 0 && errno == ENOENT)
        return 1;
    if (fd < 0)
        return mu_err_errno(err, 0, "cannot read %s", path);
    int rc = private_file(fd, path, err);
    if (rc)
        return rc;
    ssize_t n = pread(fd, text, sizeof text, 0);
    if (n < 0)
        rc = mu_err_errno(err, 0, "cannot read %s", path);
    else if ((rc = mu_key_parse(text, (size_t)n, key, err)))
        mu_err_prefix(err, "%s", path);
    OPENSSL_cleanse(text, sizeof text);
    return rc;
}

int mu_key_load(const char *path, struct mu_key *key, struct mu_err *err)
{
    int rc = load(path, key, err);

    return rc == 1 ? mu_err_set(err, MUSTER_EARG, "there is no pool key %s", path) : rc;
}

/* Gives the file its name unless that is taken. */
static int publish(const char *temp, const char *path)
{
    if (!link(temp, path) || errno == EEXIST)
        return 0;
#ifdef SYS_renameat2
    /* no hard links here */
    if (!syscall(SYS_renameat2, AT_FDCWD, temp, AT_FDCWD, path, 1u /* RENAME_NOREPLACE */) || errno == EEXIST)
        return 0;
#endif
    return -1;
}

static int sync_parent(const char *path)
{
    char dir[PATH_MAX];
    const char *slash = strrchr(path, '/');

    snprintf(dir, sizeof dir, "%.*s", slash ? (int)(slash - path) + 1 : 1, slash ? path : ".");
    mu_auto_fd int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -1 : fsync(fd);
}

static int make(const char *path, struct mu_err *err)
{
    mu_auto_key struct mu_key key = {0};
    char temp[PATH_MAX], text[MU_KEY_TEXT], tag[17];
    uint8_t mark[8];

    /* the mark tells hosts apart that share the directory */
    if (RAND_priv_bytes(key.bytes, sizeof key.bytes) != 1 || RAND_bytes(mark, sizeof mark) != 1)
        return mu_err_set(err, MUSTER_EIO, "OpenSSL has no random numbers");
    hex(mark, sizeof mark, tag);
    int n = snprintf(temp, sizeof temp, "%s.%s", path, tag);
    if (n < 0 || (size_t)n >= sizeof temp)
        return mu_err_set(err, MUSTER_EARG, "path is too long: %.200s", path);
    int fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return mu_err_errno(err, 0, "cannot make the pool key %s", path);
    int rc = write_all(fd, text, mu_key_format(&key, text)) || fchmod(fd, 0600) || fsync(fd);
    int e = errno;
    OPENSSL_cleanse(text, sizeof text);
    if (close(fd) && !rc) {
        rc = -1;
        e = errno;
    }
    if (!rc && publish(temp, path)) {
        rc = -1;
        e = errno;
    }
    unlink(temp);
    if (!rc && sync_parent(path)) {
        rc = -1;
        e = errno;
    }
    errno = e;
    return rc ? mu_err_errno(err, 0, "cannot make the pool key %s", path) : 0;
}

int mu_key_create(const char *path, struct mu_key *key, struct mu_err *err)
{
    int rc = load(path, key, err);

    /* A network file system may still deny for a moment what another host has just made. */
    for (int i = 0; rc == 1 && i < 50; i++) {
        if (i)
            nanosleep(&(struct timespec){.tv_nsec = 20 * MU_MS}, NULL);
        if ((rc = make(path, err)))
            return rc;
        rc = load(path, key, err);
    }
    return rc == 1 ? mu_err_set(err, MUSTER_EIO, "the pool key %s keeps vanishing", path) : rc;
}
