/* The files beside this one that the page is made with, as they are in the binary. */
#ifndef MU_LAUNCHER_PAGE_FILES_H
#define MU_LAUNCHER_PAGE_FILES_H

#include <stddef.h>

struct mu_page_file {
    const char *path, *type;
    const char *data;
    size_t len;
};
const struct mu_page_file *mu_page_file(const char *path); /* NULL: there is none */
const struct mu_page_file *mu_page_file_at(size_t i);      /* NULL past the end */

#endif
