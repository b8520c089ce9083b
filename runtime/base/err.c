#include "runtime/base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *muster_strerror(int code)
{
    static const struct {
        int code;
        const char *text;
    } rows[] = {
#define ROW(name, value, text) {value, text},
        MUSTER_ERRORS(ROW)
#undef ROW
    };

    if (code >= 0)
        return "success";
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (rows[i].code == code)
            return rows[i].text;
    return "unknown error";
}

int mu_err_from_errno(int e)
{
    static const struct {
        int e, code;
    } rows[] = {
        {ENOMEM, MUSTER_ENOMEM}, {ENOSPC, MUSTER_ENOSPC},    {EDQUOT, MUSTER_ENOSPC}, {EINVAL, MUSTER_EARG},
        {ENOSYS, MUSTER_ENOSYS}, {EIO, MUSTER_EIO},          {EFBIG, MUSTER_ENOSPC},  {ETIMEDOUT, MUSTER_ETIMEOUT},
        {EPIPE, MUSTER_EPEER},   {ECONNRESET, MUSTER_EPEER},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (rows[i].e == e)
            return rows[i].code;
    return MUSTER_EIO;
}

/* Adds ": more" behind the first n bytes, cut where it does not fit. */
static void append(struct mu_err *err, int n, const char *more)
{
    if (n < 0 || (size_t)n + 3 > sizeof err->text)
        return;
    memcpy(err->text + n, ": ", 3);
    size_t room = sizeof err->text - (size_t)n - 3, len = strlen(more);
    len = len < room ? len : room;
    memcpy(err->text + n + 2, more, len);
    err->text[n + 2 + (int)len] = 0;
}

int mu_err_set(struct mu_err *err, int code, const char *fmt, ...)
{
    va_list ap;

    if (err) {
        err->code = code;
        va_start(ap, fmt);
        vsnprintf(err->text, sizeof err->text, fmt, ap);
        va_end(ap);
    }
    return code;
}

int mu_err_errno(struct mu_err *err, int code, const char *fmt, ...)
{
    int e = errno;
    va_list ap;

    if (!code)
        code = mu_err_from_errno(e);
    if (err) {
        err->code = code;
        va_start(ap, fmt);
        int n = vsnprintf(err->text, sizeof err->text, fmt, ap);
        va_end(ap);
        append(err, n, strerror(e));
    }
    errno = e;
    return code;
}

int mu_err_prefix(struct mu_err *err, const char *fmt, ...)
{
    char was[sizeof err->text];
    va_list ap;

    if (!err)
        return MUSTER_EIO;
    memcpy(was, err->text, sizeof was);
    va_start(ap, fmt);
    int n = vsnprintf(err->text, sizeof err->text, fmt, ap);
    va_end(ap);
    append(err, n, was);
    return err->code;
}
