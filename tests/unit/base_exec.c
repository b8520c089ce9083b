#include "runtime/base/exec.h"

#include <elf.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/path.h"
#include "tests/unit/tap.h"

static void binaries(void)
{
    static const struct {
        const char *head;
        size_t n;
        bool binary;
    } rows[] = {
        {"", 0, false},
        {"echo hi\n", 8, false},
        {"echo hi\n\0", 9, false},
        {"MZ\0\0\n", 5, true},
        {ELFMAG, 4, true},
        {ELFMAG "\n", 5, true},
        {"\x7f"
         "EL",
         3, false},
        {"\0", 1, true},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        TAP_OK(mu_exec_is_binary(rows[i].head, rows[i].n) == rows[i].binary, "head %zu is %sbinary", i,
               rows[i].binary ? "" : "not ");
}

static void files(const char *dir)
{
    static const char elf[300] = ELFMAG "\2\1\1";
    static const struct {
        const char *text;
        size_t n; /* 0: of the text */
        const char *want;
    } rows[] = {
        {"", 0, ""},
        {"true\n", 0, ""},
        {"#!/bin/sh\n", 0, ""},
        {"#! /bin/sh -e\n", 0, ""},
        {"#!/bin/sh", 0, ""},
        {"#!\n", 0, ""},
        {"#!/nosuch\n", 0, "script: its interpreter /nosuch is missing or not executable; correct its first line"},
        {"#!/etc\n", 0, "its interpreter /etc is missing"},
        {"#!/etc/passwd x\n", 0, "its interpreter /etc/passwd is missing or not executable"},
        {"#!nosuch", 0, "its interpreter nosuch is missing"},
        {"#!other\n", 0, ""},
        {"#!/bin/sh\r\n", 0, "its first line ends as on Windows"},
        {ELFMAG, 0, "is a damaged program"},
        {ELFMAG " and some text\n", 0, "is a damaged program"},
        {elf, sizeof elf, "is a damaged program"},
        {"MZ\0\0", 4, "is a binary file of a format that cannot be executed here"},
    };
    char path[300], exe[300];
    struct mu_err err;

    snprintf(path, sizeof path, "%s/other", dir);
    mu_path_write_atomic(path, "x\n", 2, 0700, NULL);
    snprintf(path, sizeof path, "%s/script", dir);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        err.text[0] = 0;
        mu_path_write_atomic(path, rows[i].text, rows[i].n ? rows[i].n : strlen(rows[i].text), 0700, NULL);
        int rc = mu_exec_check(path, dir, &err), other = *rows[i].want ? MUSTER_EARG : 0;
        if (other && i >= 12 && !rc) { /* a kernel that knows more formats */
            TAP_OK(1, "row %zu is not judged here", i);
            continue;
        }
        TAP_OK(rc == other && strstr(err.text, rows[i].want), "row %zu: %s", i, err.text);
    }
    TAP_OK(!mu_path_exe(exe, sizeof exe, NULL) && !mu_exec_check(exe, "/", &err), "this program can be executed");
    TAP_OK(!mu_exec_check("nosuch", dir, &err) && !mu_exec_check(".", dir, &err), "what is no file is not judged");
}

int main(void)
{
    char dir[] = "/tmp/muster-test-exec-XXXXXX";

    if (!mkdtemp(dir))
        return 99;
    binaries();
    files(dir);
    mu_path_remove_tree(dir, NULL);
    return tap_done();
}
