/* Files of flight records.
 * sources: launcher/flight_parse.c runtime/base/err.c -ljansson */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/flight.h"
#include "tests/fuzz/pieces.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const pieces[] = {"{",
                                     "}",
                                     "\"rank\":1",
                                     ",",
                                     "\"comm\":\"0a\"",
                                     "\"seq\":9",
                                     "\"size\":2",
                                     "\"count\":-1",
                                     "\"op\":\"barrier\"",
                                     "\n",
                                     "\"state\":\"failed\"",
                                     "\"rank\":\"",
                                     "\\u0000",
                                     "[",
                                     "]",
                                     "1e999",
                                     "null",
                                     "\"ended\":0.5"};

static void try(char *text, size_t n)
{
    json_t *list = json_array();
    struct mu_err err = {0};
    int rc = mu_flight_parse(text, n, list, &err);

    if (rc < 0 && strncmp(err.text, "line ", 5) != 0)
        abort();
    json_decref(list);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return fuzz_pieces(data, size, pieces, sizeof pieces / sizeof *pieces, try);
}
