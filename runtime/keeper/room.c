#include "runtime/keeper/room.h"

#include <stdint.h>
#include <stdio.h>
#include <sys/statvfs.h>

#include "runtime/base/str.h"

bool mu_room_short(const char *host, char *text, size_t n)
{
    char left[32], need[32];
    struct statvfs v;

    if (statvfs(MU_ROOM_SHM, &v))
        return false;
    uint64_t room = (uint64_t)v.f_bavail * v.f_frsize;
    bool files = v.f_files && !v.f_favail;
    if (room >= MU_ROOM_RANK && !files)
        return false;
    snprintf(
        text, n,
        "%s on %s is full (%s free%s), and MPI takes %s there for each rank: make room or enlarge it, `muster doctor` "
        "says how",
        MU_ROOM_SHM, host, mu_str_fmt_size(left, sizeof left, room), files ? ", no file more" : "",
        mu_str_fmt_size(need, sizeof need, MU_ROOM_RANK));
    return true;
}
