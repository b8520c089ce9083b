/* Names and texts of others, for the page. Whatever bytes they are made of: mu_str_show makes one line of valid UTF-8
 * of them, in which nothing is hidden; the two differ in what their documents would take for their own. Cut at
 * MU_PAGE_TEXT.
 */
#ifndef MU_LAUNCHER_PAGE_TEXT_H
#define MU_LAUNCHER_PAGE_TEXT_H

#include "runtime/base/buf.h"

enum { MU_PAGE_TEXT = 512 };

/* As text or as the value of an attribute in double quotes. NULL is "". */
void mu_page_html(struct mu_buf *out, const char *s);
/* As a string of JSON, its quotes included. */
void mu_page_json(struct mu_buf *out, const char *s);

#endif
