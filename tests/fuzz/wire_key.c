/* What parses bytes that others have written: the pool key's line, the identity that a stranger sends before any proof,
 * addresses. The line's fingerprint is made right, too: behind it is what is put to the test.
 * sources: runtime/wire/key.c runtime/wire/ident.c runtime/wire/addr.c runtime/base/str.c runtime/base/buf.c
 * sources: runtime/base/path.c runtime/base/err.c -levent_core -lcrypto -pthread */
#include <stdlib.h>
#include <string.h>

#include "runtime/wire/addr.h"
#include "runtime/wire/ident.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void line(const char *text, size_t n)
{
    char again[MU_KEY_TEXT];
    struct mu_key key;

    if (mu_key_parse(text, n, &key, NULL))
        return;
    size_t len = mu_key_format(&key, again);
    if ((n != len && n != len - 1) || memcmp(text, again, n) != 0)
        abort();
}

static void identity(const char *text, size_t n)
{
    char again[MU_IDENT_MAX];
    struct mu_ident id;

    if (!mu_ident_parse(text, n, 1, &id) && (mu_ident_format(&id, again) != n || memcmp(text, again, n) != 0))
        abort();
}

static void address(const char *text)
{
    char host[MU_ADDR_HOST], shown[MU_ADDR_TEXT];
    struct mu_addr a;
    uint16_t port;

    if (mu_addr_split(text, 1, host, &port, NULL))
        return;
    if (!*host || !port)
        abort();
    if (!mu_addr_numeric(host, port, &a, NULL)) {
        mu_addr_text(&a, shown);
        if (mu_addr_split(shown, 0, host, &port, NULL) || port != mu_addr_port(&a))
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mu_key key = {0};
    char right[MU_KEY_TEXT];
    char *text = malloc(size + 32);

    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = 0;
    line(text, size);
    identity(text, size);
    address(text);

    memcpy(key.bytes, data, size < sizeof key.bytes ? size : sizeof key.bytes);
    size_t len = mu_key_format(&key, right);
    if (mu_key_parse(right, len, &key, NULL))
        abort();
    if (size) { /* one change somewhere */
        right[data[0] % len] = (char)data[size - 1];
        line(right, len);
    }
    memcpy(text, "muster:1:", 9);
    memcpy(text + 9, data, size);
    identity(text, size + 9);
    free(text);
    return 0;
}
