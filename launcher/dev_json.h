/* GPUs and adapters in JSON. */
#ifndef MU_LAUNCHER_DEV_JSON_H
#define MU_LAUNCHER_DEV_JSON_H

#include <jansson.h>

#include "topo/dev.h"

/* Valid UTF-8, whatever it is made of; null for an empty text. */
json_t *mu_json_or_null(const char *);
/* {"pci", "uuid"} and {"pci", "name"}; null for index -1. */
json_t *mu_json_gpu(const struct mu_topo *, int index);
json_t *mu_json_nic(const struct mu_topo *, int index);

#endif
