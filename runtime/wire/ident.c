#include "runtime/wire/ident.h"

#include <stdio.h>
#include <string.h>

#include "runtime/base/str.h"

/* "muster:VERSION:FINGERPRINT:MARK"; what follows the version is that version's own business. */
#define WORD "muster:"

static const char hex[] = "0123456789abcdef";

size_t mu_ident_format(const struct mu_ident *id, char text[MU_IDENT_MAX])
{
    return (size_t)snprintf(text, MU_IDENT_MAX, WORD "%u:%.16s:%016llx", id->version, id->print,
                            (unsigned long long)id->mark);
}

int mu_ident_parse(const void *data, size_t len, uint32_t version, struct mu_ident *out)
{
    const size_t word = sizeof WORD - 1, digits = MU_KEY_PRINT - 1;
    struct mu_ident id = {0};
    uint64_t number;
    char text[256];

    if (len >= sizeof text || memchr(data, 0, len) || len < word || memcmp(data, WORD, word) != 0)
        return MUSTER_EARG;
    memcpy(text, data, len);
    text[len] = 0;
    char *at = text + word, *colon = strchr(at, ':');
    if (!colon)
        return MUSTER_EARG;
    *colon = 0;
    if (mu_str_u64(at, 1, UINT32_MAX, &number))
        return MUSTER_EARG;
    id.version = (uint32_t)number;
    at = colon + 1;
    if (id.version != version) {
        *out = id;
        return MUSTER_EVERSION;
    }
    if (strlen(at) != 2 * digits + 1 || strspn(at, hex) != digits || at[digits] != ':' ||
        strspn(at + digits + 1, hex) != digits)
        return MUSTER_EARG;
    memcpy(id.print, at, digits);
    for (at += digits + 1; *at; at++)
        id.mark = id.mark << 4 | (uint64_t)(strchr(hex, *at) - hex);
    *out = id;
    return 0;
}
