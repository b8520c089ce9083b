#include "runtime/base/crc32c.h"
#include "tests/unit/tap.h"

#include <stdint.h>
#include <string.h>

static uint32_t bitwise(uint32_t crc, const unsigned char *p, size_t n)
{
    crc = ~crc;
    for (; n; n--) {
        crc ^= *p++;
        for (int i = 0; i < 8; i++)
            crc = crc & 1 ? crc >> 1 ^ 0x82f63b78u : crc >> 1;
    }
    return ~crc;
}

int main(void)
{
    static unsigned char buf[64 * 1024];
    unsigned char up[32], down[32], zeros[32] = {0}, ones[32], pdu[48] = {0x01, 0xc0};
    uint32_t seed = 1;

    for (int i = 0; i < 32; i++) {
        up[i] = (unsigned char)i;
        down[i] = (unsigned char)(31 - i);
        ones[i] = 0xff;
    }
    pdu[16] = 0x14, pdu[22] = 0x04, pdu[27] = 0x14, pdu[31] = 0x18, pdu[32] = 0x28, pdu[40] = 0x02;
    const struct {
        const char *name;
        const void *data;
        size_t n;
        uint32_t crc;
    } rows[] = {
        {"nothing", "", 0, 0},
        {"\"123456789\"", "123456789", 9, 0xe3069283},
        {"RFC 3720: 32 zeros", zeros, 32, 0x8a9136aa},
        {"RFC 3720: 32 ones", ones, 32, 0x62a8ab43},
        {"RFC 3720: counting up", up, 32, 0x46dd794e},
        {"RFC 3720: counting down", down, 32, 0x113fdb5c},
        {"RFC 3720: iSCSI read PDU", pdu, 48, 0xd9963a56},
    };

    for (size_t i = 0; i < sizeof buf; i++)
        buf[i] = (unsigned char)((seed = seed * 1664525u + 1013904223u) >> 24);
    for (unsigned k = 0; mu_crc32c_impl(k); k++) {
        const struct mu_crc32c_impl *m = mu_crc32c_impl(k);
        static const size_t lengths[] = {767, 768, 769, 2303, 2304, 4096, 12287, 12288, 12289, 24576, 40001, 65000};
        int bad = 0;

        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
            TAP_OK(m->run(0, rows[i].data, rows[i].n) == rows[i].crc, "%s: %s", m->name, rows[i].name);
        for (size_t n = 0; n < 300; n++)
            for (size_t off = 0; off < 9; off++)
                bad += m->run(0x1234567u * (uint32_t)off, buf + off, n) !=
                       bitwise(0x1234567u * (uint32_t)off, buf + off, n);
        for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++)
            for (size_t off = 0; off < 3; off++)
                bad += m->run(7, buf + off, lengths[i]) != bitwise(7, buf + off, lengths[i]);
        TAP_OK(bad == 0, "%s: equal to the bitwise reference at many lengths, alignments and starts", m->name);
        TAP_OK(m->run(m->run(0, buf, 12345), buf + 12345, 50000) == m->run(0, buf, 62345), "%s: can be continued",
               m->name);
    }
    TAP_OK(mu_crc32c(0, "123456789", 9) == 0xe3069283, "the chosen one answers");
    return tap_done();
}
