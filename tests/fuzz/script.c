/* Scripts with #MUSTER lines, with the options of muster submit.
 * sources: launcher/script.c launcher/run_options.c runtime/base/opt.c
 * sources: runtime/base/str.c runtime/base/buf.c runtime/base/path.c runtime/base/err.c */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "launcher/run.h"
#include "launcher/script.h"
#include "tests/fuzz/pieces.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const pieces[] = {"#!/bin/sh\n", "#!/usr/bin/env python3\n",
                                     "#!",          "#MUSTER ",
                                     "#MUSTER",     "\n#MUSTER ",
                                     "-n",          " ",
                                     "4",           "--hold",
                                     "--name=",     "x",
                                     "'",           "\"",
                                     "\\",          "\n",
                                     "#",           "--mca btl self",
                                     "--after 1,2", "--after",
                                     "--priority",  "-x A=1",
                                     "--help",      "--timeout",
                                     "10m",         "echo\n",
                                     "\t",          "--",
                                     "-N 2",        "--ckpt dir=a",
                                     "\r\n"};

static void try(char *text, size_t n)
{
    char path[40], submit[] = "submit", hold[] = "--hold", word[] = "w", *argv[] = {submit, hold, path, word, NULL};
    struct mu_script script;
    struct mu_err err = {0};
    size_t rows;
    const struct mu_opt *table = mu_submit_options(&rows);
    int fd = memfd_create("script", MFD_CLOEXEC);

    if (fd < 0 || write(fd, text, n) != (ssize_t)n)
        abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int rc = mu_script_expand(table, rows, 4, argv, &script, &err);
    if (rc < 0 && (!err.text[0] || strchr(err.text, '\n') || strncmp(err.text, path, strlen(path)) != 0))
        abort(); /* one line, with the file */
    if (rc == 1 && (script.argc < 5 || script.argv[0] != submit || script.argv[script.argc - 1] != word))
        abort();
    if (rc == 1)
        mu_script_free(&script);
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return fuzz_pieces(data, size, pieces, sizeof pieces / sizeof *pieces, try);
}
