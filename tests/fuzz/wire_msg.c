/* Any bytes at all: a decoder may refuse them, and what it takes it gives back the same.
 * sources: runtime/wire/msg.c runtime/base/str.c runtime/base/buf.c runtime/base/err.c */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/wire/msg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mu_msg msg = {0}, again = {0};
    mu_auto_buf struct mu_buf frame = {0}, out = {0}, out2 = {0};

    if (size > 1 << 20)
        return 0;
    (void)mu_msg_frame(data, size);
    /* as it is, and with the length that fits */
    if (!mu_msg_decode(data, size, &msg, NULL))
        mu_msg_free(&msg);
    uint32_t len = (uint32_t)size;
    uint8_t head[4] = {(uint8_t)len, (uint8_t)(len >> 8), (uint8_t)(len >> 16), (uint8_t)(len >> 24)};
    mu_buf_append(&frame, head, sizeof head);
    mu_buf_append(&frame, data, size);
    if (mu_msg_decode(frame.data, frame.len, &msg, NULL))
        return 0;
    if (mu_msg_encode(&out, msg.type, &msg.hello) || mu_msg_decode(out.data, out.len, &again, NULL) ||
        mu_msg_encode(&out2, again.type, &again.hello) || out.len != out2.len || memcmp(out.data, out2.data, out.len))
        abort();
    mu_msg_free(&msg);
    mu_msg_free(&again);
    return 0;
}
