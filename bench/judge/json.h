#ifndef MU_JUDGE_JSON_H
#define MU_JUDGE_JSON_H

#include <jansson.h>

/* Any bytes as JSON text: what is no UTF-8 is made printable. */
json_t *mu_json_string(const char *);

#endif
