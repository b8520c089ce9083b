/* Encryption of objects: sizes, pieces there and back, every kind of damage, keys and their file. */
#include "runtime/ckpt/daemon/seal.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/tap.h"

#define KEY1 "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define KEY2 "ff0102030405060708090A0B0C0D0E0F101112131415161718191a1b1c1d1eff"
#define OBJECT "prefix/g00000007.a3.0123456789abcdef/seg.0"
#define BIG (MU_SEAL_PIECE + 1000)

static char path[] = "/tmp/muster-seal-XXXXXX";

static int load(const char *text, mode_t mode, struct mu_seal_keys *keys, struct mu_err *err)
{
    int fd = open(path, O_WRONLY | O_TRUNC);

    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text) || fchmod(fd, mode))
        abort();
    close(fd);
    return mu_seal_load(path, keys, err);
}

int main(void)
{
    static unsigned char data[BIG], out[BIG + 100], back[BIG + 100], again[BIG + 100];
    static const size_t sizes[] = {0, 1, 100, MU_SEAL_PIECE - 1, MU_SEAL_PIECE, MU_SEAL_PIECE + 1, BIG};
    struct mu_seal_keys one, two, both;
    struct mu_err err = {0};
    unsigned bad = 0;
    size_t got;
    int fd = mkstemp(path);

    close(fd);
    TAP_OK(!load(KEY1 "\n", 0600, &one, &err) && one.n == 1, "a key %s", err.text);
    TAP_OK(!load("# old\n\n" KEY2 " \r\n", 0400, &two, &err) && two.n == 1 && memcmp(one.v[0].id, two.v[0].id, 8),
           "another one %s", err.text);
    TAP_OK(!load(KEY2 "\n" KEY1, 0600, &both, &err) && both.n == 2 && !memcmp(both.v[1].id, one.v[0].id, 8),
           "two of them: an id is its key's");
    TAP_OK(load(KEY1, 0644, &both, &err) == MUSTER_EARG && strstr(err.text, "chmod 600"), "%s", err.text);
    TAP_OK(load("xyz\n", 0600, &both, &err) == MUSTER_EARG && strstr(err.text, "64 hex"), "%s", err.text);
    TAP_OK(load(KEY1 "0", 0600, &both, &err) == MUSTER_EARG, "a digit too many");
    TAP_OK(load("# none\n", 0600, &both, &err) == MUSTER_EARG, "%s", err.text);
    load(KEY2 "\n" KEY1, 0600, &both, &err);

    for (size_t i = 0; i < BIG; i++)
        data[i] = (unsigned char)(i * 7 + i / 256);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        size_t n = sizes[i], sealed = mu_seal_size(n);

        TAP_OK(mu_seal_plain(sealed) == n && !mu_seal(&one, OBJECT, 0, data, n, out, &err) &&
                   !mu_unseal(&one, OBJECT, 0, out, sealed, back, &got, &err) && got == n && !memcmp(data, back, n),
               "%zu bytes there and back", n);
    }
    TAP_OK(mu_seal_plain(MU_SEAL_MORE) == UINT64_MAX && mu_seal_plain(3) == UINT64_MAX, "no such length");
    TAP_OK(!mu_unseal(&both, OBJECT, 0, out, mu_seal_size(BIG), back, &got, &err) && !memcmp(data, back, BIG),
           "rotation: an old key still reads");
    TAP_OK(mu_unseal(&two, OBJECT, 0, out, mu_seal_size(BIG), back, &got, &err) == MUSTER_ECORRUPT &&
               strstr(err.text, "not in the key file"),
           "%s", err.text);
    TAP_OK(
        !mu_unseal(&one, "elsewhere/g00000007.a3.0123456789abcdef/seg.0", 0, out, mu_seal_size(BIG), back, &got, &err),
        "a prefix may be moved");
    TAP_OK(mu_unseal(&one, "prefix/g00000007.a3.0123456789abcdef/seg.1", 0, out, mu_seal_size(BIG), back, &got, &err) ==
               MUSTER_ECORRUPT,
           "but no object: %s", err.text);
    TAP_OK(mu_unseal(&one, OBJECT, 1, out, mu_seal_size(BIG), back, &got, &err) == MUSTER_ECORRUPT, "and no piece");
    TAP_OK(!mu_seal(&one, OBJECT, 0, data, 100, out, &err) && !mu_seal(&one, OBJECT, 0, data, 100, again, &err) &&
               memcmp(out, again, 140),
           "nonces differ");
    for (size_t i = 0; i < 140; i++) {
        out[i] ^= 4;
        bad += !mu_unseal(&one, OBJECT, 0, out, 140, back, &got, NULL);
        out[i] ^= 4;
        bad += i && !mu_unseal(&one, OBJECT, 0, out, i, back, &got, NULL);
    }
    TAP_OK(!bad, "no damage is taken (%u)", bad);
    unlink(path);
    return tap_done();
}
