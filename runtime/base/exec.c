#include "runtime/base/exec.h"

#include <dirent.h>
#include <elf.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/clean.h"
#include "runtime/base/path.h"
#include "runtime/base/str.h"

#define FORMATS "/proc/sys/fs/binfmt_misc"

bool mu_exec_is_binary(const char *head, size_t n)
{
    if (n >= SELFMAG && !memcmp(head, ELFMAG, SELFMAG))
        return true;
    for (size_t i = 0; i < n && head[i] != '\n'; i++)
        if (!head[i])
            return true;
    return false;
}

/* The kernel may know others, such as those of another machine, which it hands to an interpreter. */
static bool more_formats(void)
{
    mu_auto_dir DIR *d = opendir(FORMATS);

    for (struct dirent *e; d && (e = readdir(d));)
        if (e->d_name[0] != '.' && strcmp(e->d_name, "register") != 0 && strcmp(e->d_name, "status") != 0)
            return true;
    return false;
}

static bool elf_is_whole(const char *head, size_t n, off_t size)
{
    const unsigned char *id = (const unsigned char *)head;
    uint64_t type, phoff, phnum, phsize, want;

    if (n < sizeof(Elf32_Ehdr) || (id[EI_CLASS] != ELFCLASS32 && id[EI_CLASS] != ELFCLASS64))
        return false;
    if (id[EI_DATA] != (BYTE_ORDER == LITTLE_ENDIAN ? ELFDATA2LSB : ELFDATA2MSB))
        return id[EI_DATA] == ELFDATA2LSB || id[EI_DATA] == ELFDATA2MSB; /* of another machine */
    if (id[EI_CLASS] == ELFCLASS64) {
        Elf64_Ehdr h;
        if (n < sizeof h)
            return false;
        memcpy(&h, head, sizeof h);
        type = h.e_type, phoff = h.e_phoff, phnum = h.e_phnum, phsize = h.e_phentsize, want = sizeof(Elf64_Phdr);
    } else {
        Elf32_Ehdr h;
        memcpy(&h, head, sizeof h);
        type = h.e_type, phoff = h.e_phoff, phnum = h.e_phnum, phsize = h.e_phentsize, want = sizeof(Elf32_Phdr);
    }
    return (type == ET_EXEC || type == ET_DYN) && phnum && phsize == want && phoff <= (uint64_t)size &&
           phnum * phsize <= (uint64_t)size - phoff;
}

/* As the kernel takes it from the first line. */
static int check_script(const char *path, const char *wdir, const char *head, size_t n, struct mu_err *err)
{
    const char *from = head + 2, *end = memchr(head, '\n', n);
    char name[MU_EXEC_HEAD], full[8192], shown[256], shown_name[MU_EXEC_HEAD * 2];
    struct stat st;

    end = end ? end : head + n;
    while (from < end && (*from == ' ' || *from == '\t'))
        from++;
    size_t len = 0;
    while (from + len < end && from[len] != ' ' && from[len] != '\t' && from[len])
        len++;
    if (!len || from + len == head + MU_EXEC_HEAD) /* none: the shell runs it; cut off: who knows */
        return 0;
    memcpy(name, from, len);
    name[len] = 0;
    snprintf(full, sizeof full, "%s%s%s", *name == '/' ? "" : wdir, *name == '/' ? "" : "/", name);
    if (!stat(full, &st) && S_ISREG(st.st_mode) && !faccessat(AT_FDCWD, full, X_OK, AT_EACCESS))
        return 0;
    mu_str_show(shown, sizeof shown, path);
    if (name[len - 1] == '\r')
        return mu_err_set(err, MUSTER_EARG,
                          "%s: its first line ends as on Windows, so its interpreter is not found; convert it "
                          "(sed -i 's/\\r$//')",
                          shown);
    return mu_err_set(err, MUSTER_EARG, "%s: its interpreter %s is missing or not executable; correct its first line",
                      shown, mu_str_show(shown_name, sizeof shown_name, name));
}

int mu_exec_check(const char *path, const char *wdir, struct mu_err *err)
{
    char head[MU_EXEC_HEAD], full[8192], shown[256];
    struct stat st;

    snprintf(full, sizeof full, "%s%s%s", *path == '/' ? "" : wdir, *path == '/' ? "" : "/", path);
    mu_auto_fd int fd = mu_path_open_regular(full, 0, &st, NULL);
    if (fd < 0)
        return 0;
    ssize_t got = read(fd, head, sizeof head);
    if (got < 0)
        return 0;
    size_t n = (size_t)got;
    if (n >= 2 && head[0] == '#' && head[1] == '!')
        return check_script(path, wdir, head, n, err);
    if (!mu_exec_is_binary(head, n) || more_formats())
        return 0;
    if (n < SELFMAG || memcmp(head, ELFMAG, SELFMAG) != 0)
        return mu_err_set(err, MUSTER_EARG, "%s is a binary file of a format that cannot be executed here",
                          mu_str_show(shown, sizeof shown, path));
    if (!elf_is_whole(head, n, st.st_size))
        return mu_err_set(err, MUSTER_EARG, "%s is a damaged program, or none (an object file?); build it anew",
                          mu_str_show(shown, sizeof shown, path));
    return 0;
}
