/* In what nodes differ: from most of them, and from what was approved. */
#include "launcher/nodes_made.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/clean.h"
#include "tests/unit/tap.h"

/* Nodes as the answer has them, with ' for ", and what comes out: "NODE KEY VALUE OTHER" joined by commas. */
static void is(json_t *(*diff)(const json_t *), const char *nodes, const char *want, const char *name)
{
    mu_auto_free char *text = strdup(nodes);
    char got[400] = "";
    const json_t *o;
    size_t i;

    for (char *c = text; c && *c; c++)
        *c = *c == '\'' ? '"' : *c;
    json_t *list = text ? json_loads(text, 0, NULL) : NULL, *out = list ? diff(list) : NULL;
    json_array_foreach(out, i, o)
    {
        static const char *const keys[] = {"node", "key", "value", "other"};
        for (size_t k = 0; k < MU_COUNT(keys); k++) {
            const char *s = json_string_value(json_object_get(o, keys[k]));
            size_t len = strlen(got);
            snprintf(got + len, sizeof got - len, "%s%s", k ? " " : i ? "," : "", s ? s : "-");
        }
    }
    TAP_OK(out && !strcmp(got, want), "%s: %s", name, got);
    json_decref(out);
    json_decref(list);
}

#define NODE(name, items) "{'name':'" name "','items':{" items "}}"
#define BASE(name, items, base) "{'name':'" name "','items':{" items "},'baseline':{'items':{" base "}}}"

int main(void)
{
    is(mu_nodes_diff_most, "[]", "", "none");
    is(mu_nodes_diff_most, "[" NODE("a", "'k':'1'") "]", "", "one is alike");
    is(mu_nodes_diff_most, "[" NODE("a", "'k':'2'") "," NODE("b", "'k':'1'") "," NODE("c", "'k':'1'") "]", "a k 2 1",
       "one against two");
    is(mu_nodes_diff_most, "[" NODE("a", "'k':'1'") "," NODE("b", "'k':'2'") "]", "b k 2 1",
       "of two the first one counts");
    is(mu_nodes_diff_most, "[" NODE("a", "") "," NODE("b", "'k':'2'") "," NODE("c", "'k':'2'") "]", "a k - 2",
       "what one has not");
    is(mu_nodes_diff_most, "[" NODE("a", "'z':'1','b':'1'") "," NODE("b", "") "," NODE("c", "") "]", "a b 1 -,a z 1 -",
       "what one alone has, by keys");
    is(mu_nodes_diff_most, "[" NODE("a", "'id.s':'1'") "," NODE("b", "'id.s':'2'") "]", "",
       "what is a node's own is no difference");
    is(mu_nodes_diff_most,
       "[" NODE("a", "'k':'1'") "," NODE("b", "'k':'2'") "," NODE("c", "'k':'3'") "," NODE("d", "'k':'3'") "]",
       "a k 1 3,b k 2 3", "most need not be half");
    is(mu_nodes_diff_base, "[" BASE("a", "'k':'1','id.s':'2'", "'k':'1','id.s':'2'") "]", "", "as it was approved");
    is(mu_nodes_diff_base, "[" BASE("a", "'k':'1','id.s':'3','n':'4'", "'k':'0','id.s':'2','o':'5'") "]",
       "a id.s 3 2,a k 1 0,a n 4 -,a o - 5", "not as it was approved, its own included");
    is(mu_nodes_diff_base, "[" NODE("a", "'k':'1'") "]", "a - - -", "never approved");
    return tap_done();
}
