/* Targets whose input random bytes seldom are: each byte stands for a piece of one, too. */
#ifndef MU_TESTS_FUZZ_PIECES_H
#define MU_TESTS_FUZZ_PIECES_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { FUZZ_PIECES = 64 }; /* of one text, at most */

/* text: in a block of its own, with room for one byte behind it. */
typedef void fuzz_try(char *text, size_t len);

static void fuzz_text(const void *data, size_t len, fuzz_try *try)
{
    char *text = malloc(len + 1);

    if (text) {
        memcpy(text, data, len);
        try(text, len);
    }
    free(text);
}

/* The bytes as they are, then the pieces that they stand for. */
static int fuzz_pieces(const uint8_t *data, size_t size, const char *const *pieces, size_t npieces, fuzz_try *try)
{
    size_t len = 0, most = 0;

    for (size_t i = 0; i < npieces; i++)
        most = strlen(pieces[i]) > most ? strlen(pieces[i]) : most;
    fuzz_text(data, size, try);
    char *made = malloc(FUZZ_PIECES * most + 1);
    for (size_t i = 0; made && i < size && i < FUZZ_PIECES; i++) {
        const char *piece = pieces[data[i] % npieces];
        memcpy(made + len, piece, strlen(piece));
        len += strlen(piece);
    }
    if (made)
        fuzz_text(made, len, try);
    free(made);
    return 0;
}

#endif
