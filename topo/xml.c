#include "topo/impl.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/path.h"
#include "runtime/base/str.h"

#define XML_MAX (256u << 20)

/* The first element, past the XML declaration, the DOCTYPE and comments; NULL when there is none. */
static const char *first_element(const char *p)
{
    if (!strncmp(p, "\xef\xbb\xbf", 3))
        p += 3;
    for (;;) {
        p += strspn(p, " \t\r\n");
        if (strncmp(p, "<?", 2) && strncmp(p, "<!", 2))
            return *p == '<' && isalpha((unsigned char)p[1]) ? p : NULL;
        if (!(p = mu_xml_skip(p)))
            return NULL;
    }
}

/* Major version that the <topology> element claims; files of hwloc 1 claim none. */
static int xml_major(const char *element)
{
    const char *end = strchr(element, '>'), *v = strstr(element, "version=");

    if (!v || !end || v > end)
        return 1;
    v += strlen("version=");
    return *v == '"' || *v == '\'' ? atoi(v + 1) : 1;
}

int mu_topo_read_xml(const char *path, struct mu_buf *out, bool *nccl, struct mu_err *err)
{
    mu_auto_buf struct mu_buf text = {0};
    int rc = mu_path_read_regular(path, XML_MAX, &text, err);

    if (rc) {
        mu_err_prefix(err, "node file");
        return rc;
    }
    const char *buf = text.data;
    size_t n = text.len;
    if (n == 0)
        return mu_err_set(err, MUSTER_EARG, "node file %s: is empty", path);
    bool binary = memchr(buf, '\0', n);
    const char *e = binary ? NULL : first_element(buf);
    if (!e && !binary && buf[0] == '<')
        return mu_err_set(err, MUSTER_EARG, "node file %s: is truncated (no element in it)", path);
    if (!e)
        return mu_err_set(err, MUSTER_EARG, "node file %s: is not XML; write one with `lstopo FILE.xml`", path);

    char root[48];
    snprintf(root, sizeof root, "%.*s", (int)strcspn(e + 1, " \t\r\n/>"), e + 1);
    *nccl = !strcmp(root, "system");
    if (strcmp(root, "topology") && !*nccl) {
        char shown[64];
        return mu_err_set(err, MUSTER_EARG,
                          "node file %s: is XML, but neither hwloc's nor NCCL's (its root is <%s>); write one with "
                          "`lstopo FILE.xml`",
                          path, mu_str_show(shown, sizeof shown, root));
    }
    int major = *nccl ? 0 : xml_major(e), ours = (int)(hwloc_get_api_version() >> 16);
    if (major > ours) {
        char version[32] = "?";
        mu_topo_hwloc_version(version, sizeof version);
        return mu_err_set(err, MUSTER_EVERSION,
                          "node file %s: is hwloc %d XML and this is hwloc %s; export it again there with "
                          "`lstopo --export-xml-flags v%d FILE.xml`",
                          path, major, version, ours);
    }
    size_t end = n;
    while (end > 0 && isspace((unsigned char)buf[end - 1]))
        end--;
    if (!*nccl && (end < 11 || strncmp(buf + end - 11, "</topology>", 11)))
        return mu_err_set(err, MUSTER_EARG, "node file %s: is truncated (no </topology> at its end)", path);
    *out = text;
    text = (struct mu_buf){0};
    return 0;
}
