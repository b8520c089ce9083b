#include "launcher/page/files.h"

#include <string.h>

#include "runtime/base/clean.h"

/* The assembler takes the bytes in, so there is nothing to be generated. To add a file: a line here, a row below. */
#define FILE_IN(name, path)                                                                                            \
    extern const char name[], name##_end[];                                                                            \
    __asm__(".pushsection .rodata\n.hidden " #name "\n.hidden " #name "_end\n.globl " #name "\n.globl " #name          \
            "_end\n" #name ":\n.incbin \"" path "\"\n" #name "_end:\n.byte 0\n.popsection\n")

FILE_IN(mu_page_file_css, "launcher/page/page.css");
FILE_IN(mu_page_file_js, "launcher/page/page.js");
FILE_IN(mu_page_file_icon, "launcher/page/icon.svg");

static const struct {
    const char *path, *type, *data, *end;
} files[] = {
    {"/page.css", "text/css; charset=utf-8", mu_page_file_css, mu_page_file_css_end},
    {"/page.js", "text/javascript; charset=utf-8", mu_page_file_js, mu_page_file_js_end},
    {"/icon.svg", "image/svg+xml", mu_page_file_icon, mu_page_file_icon_end},
};

const struct mu_page_file *mu_page_file_at(size_t i)
{
    static struct mu_page_file v[MU_COUNT(files)];

    if (i >= MU_COUNT(files))
        return NULL;
    v[i] = (struct mu_page_file){files[i].path, files[i].type, files[i].data, (size_t)(files[i].end - files[i].data)};
    return &v[i];
}

const struct mu_page_file *mu_page_file(const char *path)
{
    const struct mu_page_file *f;

    for (size_t i = 0; (f = mu_page_file_at(i)); i++)
        if (!strcmp(f->path, path))
            return f;
    return NULL;
}
