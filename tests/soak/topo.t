#!/usr/bin/env bash
# make soak-topo: a simulated fabric of 10,240 hosts is discovered and placed on; with 1 to 100 dead links and swapped cables
# planted each of them is found and nothing else, as on random fabrics with hosts down; and brute force agrees with placement on
# ROUNDS times as many random trees.
. "$(dirname "$0")/../lib.sh"

"$B/tests/unit/topo_place" $((${ROUNDS:-20} * 20000)) >"$tmp/trees"
ok $? "$(grep 'random trees' "$tmp/trees" | sed 's/^ok [0-9]* - //')"

"$B/tests/unit/topo_audit" $((${ROUNDS:-20} * 1000)) >"$tmp/audits"
ok $? "$(grep 'random fabrics' "$tmp/audits" | sed 's/^ok [0-9]* - //')"

preload=$(ls /usr/lib/*/umad2sim/libumad2sim.so 2>/dev/null)
if ! command -v ibsim >/dev/null || [ -z "$preload" ]; then
    skip "ibsim is not installed"
    done_testing
fi
cat >"$tmp/net.py" <<'END'
import random, sys
dead, swaps, seed = map(int, sys.argv[1:4])
random.seed(seed)
cables = [] # (name, port, name, port), the lower end first
for l in range(512):
    cables += [(f'n{l * 20 + h}', 1, f'leaf{l}', h + 1) for h in range(20)]
    cables += [(f'leaf{l}', 21 + s, f'spine{l // 32}.{s}', l % 32 + 1) for s in range(8)]
for p in range(16):
    for s in range(8):
        cables += [(f'spine{p}.{s}', 33 + c, f'core{s}.{c}', p + 1) for c in range(8)]
up = [i for i, c in enumerate(cables) if c[0][0] != 'n']
touched, want = set(), []
def free(i):
    return cables[i] is not None and cables[i][0] not in touched
while dead:
    i = random.choice(up)
    if free(i):
        touched.add(cables[i][0]); want.append(('dead-link', cables[i][0])); cables[i] = None; dead -= 1
while swaps:
    i, j = random.choice(up), random.choice(up)
    if not free(i) or not free(j) or cables[i][0] == cables[j][0] or cables[i][2] == cables[j][2] or cables[i][0][0] != cables[j][0][0]:
        continue
    a, b = cables[i], cables[j]
    cables[i], cables[j] = a[:2] + b[2:], b[:2] + a[2:]
    for c in (a, b):
        touched.add(c[0]); want.append(('miscabled', c[0]))
    swaps -= 1
nodes = {}
for c in filter(None, cables):
    nodes.setdefault(c[0], []).append((c[1], c[2], c[3]))
    nodes.setdefault(c[2], []).append((c[3], c[0], c[1]))
with open(sys.argv[4], 'w') as f:
    for hosts in (False, True):
        for name, ports in nodes.items():
            if (name[0] == 'n') != hosts: continue
            f.write(f'{"Hca 1" if hosts else "Switch 40"} "{name}"\n')
            for p in sorted(ports): f.write(f'[{p[0]}] "{p[1]}"[{p[2]}]\n')
            f.write('\n')
print('\n'.join(sorted(f'{k} {w}' for k, w in want)))
END
cd "$tmp" || exit 2
export IBSIM_SOCKNAME=muster-soak-$$
sim() { run_cmd env SIM_HOST=n77 LD_PRELOAD="$preload" timeout 120 "$muster" topo "$@"; }
while read -r dead swaps; do
    python3 net.py "$dead" "$swaps" "${SEED:-1}" net >want
    ibsim -s -n -N 12000 -S 2000 -P 60000 net >ibsim.log 2>&1 &
    server=$!
    ready() { sim fabric --timeout 20s && [ "$rc" = 0 ]; }
    wait_for 60 ready
    start=${EPOCHREALTIME/./}
    sim audit --json
    took=$(((${EPOCHREALTIME/./} - start) / 1000))
    is "$(python3 -c 'import json,sys; print("\n".join(sorted(f["kind"]+" "+f["host"] for f in json.load(sys.stdin)["findings"])))' <<<"$out")" \
        "$(cat want)" "$dead dead links and $swaps pairs of swapped cables: found, and nothing else ($took ms with the discovery)"
    if [ "$dead$swaps" = 00 ]; then
        start=${EPOCHREALTIME/./}
        sim place -N 4096 --group-size 8 --json
        took=$(((${EPOCHREALTIME/./} - start) / 1000))
        python3 -c 'import json,sys; j=json.load(sys.stdin); sys.exit(j["cost"] != j["bound"] or len(set(j["nodes"])) != 4096)' <<<"$out"
        ok $? "10240 hosts discovered, 4096 placed and ordered in $took ms"
    fi
    kill $server
    wait $server 2>/dev/null
done <<'END'
0 0
1 0
0 1
5 5
20 15
60 20
END
cd "$root" || exit 2
done_testing
