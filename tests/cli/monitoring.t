#!/usr/bin/env bash
# docs/monitoring: rules, and a dashboard that asks for nothing that is not served.
. "$(dirname "$0")/../lib.sh"
families=$(sed -n '/^## Metrics/,/^## JSON/s/^| `\(muster_[a-z0-9_]*\)`.*/\1/p' docs/formats.md)
[ "$(wc -l <<<"$families")" -gt 40 ]
ok $? "docs/formats.md lists the families"
unknown() { # NAMES: those that are no family
    comm -23 <(sort -u <<<"$1") <(sort -u <<<"$families") | grep .
}

cat >"$tmp/board.py" <<'PY'
import json, sys
board = json.load(open("docs/monitoring/dashboard.json"))
panels = [p for p in board["panels"] if p["type"] != "row"]
ids = [p["id"] for p in board["panels"]]
assert len(ids) == len(set(ids)), "two panels have the same id"
known = {v["name"] for v in board["templating"]["list"]}
taken = set()
for p in panels:
    g = p["gridPos"]
    cells = {(x, y) for x in range(g["x"], g["x"] + g["w"]) for y in range(g["y"], g["y"] + g["h"])}
    assert not cells & taken and g["x"] + g["w"] <= 24, "panels overlap: " + p["title"]
    taken |= cells
    assert p["datasource"]["uid"] == "${datasource}" and p["targets"], p["title"]
    for t in p["targets"]:
        expr = t["expr"].replace("$__rate_interval", "30s")
        for v in known:
            expr = expr.replace("$" + v, ".*")
        assert "$" not in expr, "a variable that is not there: " + expr
        print(expr)
PY
queries=$(python3 "$tmp/board.py" 2>"$tmp/why")
ok $? "the dashboard is sound" || note "$(tail -n 1 "$tmp/why")"
[ "$(wc -l <<<"$queries")" -ge 25 ]
ok $? "it has queries"
is "$(unknown "$(grep -oE 'muster_[a-z0-9_]+' <<<"$queries" | sort -u)")" "" "all of families that are served"
is "$(unknown "$(grep -oE 'muster_[a-z0-9_]+' docs/monitoring/muster.rules.yml | sort -u)")" "" "those of the rules, too"
is "$(unknown muster_no_such_family)" muster_no_such_family "(and others would be found)"
alerts=$(sed -n 's/.*- alert: //p' docs/monitoring/muster.rules.yml | sort)
is "$(comm -23 <(echo "$alerts") <(grep -oE 'alertname: [A-Za-z]+' docs/monitoring/muster.rules.test.yml | sed 's/.*: //' | sort -u))" "" "each alert is tested"
is "$(comm -23 <(echo "$alerts") <(sed -n '/^## Metrics and alerts/,/^## /s/^| `\(Muster[A-Za-z]*\)`.*/\1/p' docs/operations.md | sort -u))" "" "and docs/operations.md says what to do about it"

command -v promtool >/dev/null || { skip "promtool is not installed" 4; done_testing; }
run_cmd promtool check rules docs/monitoring/muster.rules.yml
is "$rc" 0 "promtool accepts the rules" || note "$out$err"
run_cmd promtool check config docs/monitoring/prometheus.yml
is "$rc" 0 "and the configuration" || note "$out$err"
run_cmd promtool test rules docs/monitoring/muster.rules.test.yml
is "$rc" 0 "the alerts fire when they should, and not before" || note "$out$err"
cp docs/monitoring/*.yml "$tmp"
sed -i 's/state="lost"} == 1/state="away"} == 1/' "$tmp/muster.rules.yml"
sed -i '/^  - name: the controller/,$d' "$tmp/muster.rules.test.yml"
run_cmd promtool test rules "$tmp/muster.rules.test.yml"
isnt "$rc" 0 "(a rule that is wrong would be found)"
done_testing
