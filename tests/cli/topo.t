#!/usr/bin/env bash
# muster topo: pin and show, as tables and JSON; bad node files are one line and exit 2.
set -u
muster=${B:-build/default}/bin/muster
data=tests/data/node-2n3c2t.xml
tmp=$(mktemp -d /tmp/muster-topo-t-XXXXXX)
trap 'rm -rf "$tmp"' EXIT
n=0 bad=0
check() { # NAME COMMAND...
    n=$((n + 1))
    if "${@:2}"; then echo "ok $n - $1"; else
        echo "not ok $n - $1"
        bad=$((bad + 1))
        sed 's/^/# /' "$tmp/out" "$tmp/err"
    fi
}
run() { # ARGS...: sets rc, out, err
    "$muster" "$@" >"$tmp/out" 2>"$tmp/err"
    rc=$?
    out=$(<"$tmp/out") err=$(<"$tmp/err")
}
json() { # PYTHON EXPRESSION over j
    python3 -c "import json,sys; j=json.load(open('$tmp/out')); sys.exit(0 if ($1) else 1)" 2>>"$tmp/err"
}
one_line() { [ "$rc" = 2 ] && [ -z "$out" ] && [ "$(wc -l <"$tmp/err")" = 1 ] && [[ $err == *"$1"* ]]; }

run topo pin --node-file $data -n 3 --json
check "pin as JSON" json "j['schema'] == 'muster.pin/1' and j['bind'] == 'core' and [(r['rank'], r['cpuset'], r['nodeset'], r['gpu'], r['nic']) for r in j['ranks']] == [(0,'1','0',None,None), (1,'2','0',None,None), (2,'3','8',None,None)]"
run topo pin --node-file $data -n 5 --smt
check "pin as a table" [ "$out" = "$(printf '  RANK  CPUS  NODES\n     0  1     0\n     1  2,8   0\n     2  3,9   8\n     3  4,10  8\n     4  5,11  8')" ]
run topo pin --node-file $data -n 6 --json
check "more ranks than cores: nobody is bound, and it says so" json "j['bind'] == 'none' and '5 of 5' in j['note'] and {r['cpuset'] for r in j['ranks']} == {'1-5,8-11'} and len(j['ranks']) == 6"
run topo pin --node-file $data -n 6
check "the same for people, on stderr" [ "$rc:$err" = "0:muster topo pin: not bound: 6 ranks, 5 of 5 cores free" ]
run topo pin --node-file $data -np 2 --bind-to none --json
check "mpirun's spellings" json "[r['cpuset'] for r in j['ranks']] == ['1-5,8-11'] * 2 and j['note'] == ''"
run topo pin --synthetic 'pack:2 core:4 pu:2' --occupied 0-3 --cpus 0-7 -n 2 --json
check "a described node, other jobs, a mask" json "[r['cpuset'] for r in j['ranks']] == ['4', '6']"

run topo pin -n 1 --bind none --json
check "this machine: the inherited mask" json "set(range(0)) | {c for part in j['ranks'][0]['cpuset'].split(',') for c in range(int(part.split('-')[0]), int(part.split('-')[-1]) + 1)} == __import__('os').sched_getaffinity(0)"
one=$(python3 -c 'import os; print(max(os.sched_getaffinity(0)))')
taskset -c "$one" "$muster" topo pin -n 1 --json >"$tmp/out" 2>"$tmp/err"
check "under taskset -c $one" json "j['ranks'][0]['cpuset'] == '$one'"

run topo show --node-file $data
check "show marks what is allowed" [ "$rc:$(grep -c '\*' "$tmp/out"):$(grep 'core 1:' "$tmp/out")" = "0:6:    core 1: PU 1* 7" ]
run topo show --node-file $data --json
check "show as JSON" json "j['schema'] == 'muster.topo/1' and (j['cores'], j['pus'], j['slots'], j['numa_nodes']) == (5, 9, 5, 2) and j['cpuset'] == '1-5,8-11' and len(j['core_list']) == 6 and j['node_list'][1] == {'node': 8, 'cpuset': '3-5,9-11', 'memory': 8589934592}"

head -c 2000 $data >"$tmp/cut.xml"
sed 's/topology version="2.0"/topology version="3.0"/' $data >"$tmp/v3.xml"
echo "not XML at all" >"$tmp/text.xml"
echo '<system version="1"></system>' >"$tmp/nccl.xml"
while IFS='|' read -r file says; do
    run topo pin -n 1 --node-file "$file"
    check "refused: $says" one_line "$says"
done <<END
$tmp/cut.xml|is truncated
$tmp/v3.xml|hwloc 3 XML
$tmp/text.xml|is not XML
$tmp/nccl.xml|its root is <system>
$tmp/absent.xml|No such file or directory
$tmp|Is a directory
END
while IFS='|' read -r args says; do
    # shellcheck disable=SC2086
    run topo $args
    check "refused: muster topo $args" one_line "$says"
done <<END
pin|Give -n N
pin -n 0|from 1
pin -n x|from 1
pin -n 1 --bind socket|core or none
pin -n 1 --cpus 5-|expected something like
pin -n 1 --occupied 99999|expected something like
pin -n 1 --node-file a --synthetic b|give one of them
pin -n 1 more|one word too many
pin -n 1 --jsn|--json
show -n 1|-n
twist|show, pin, fabric, place, audit or export
END
run topo
check "without a subcommand: usage" [ "$rc" = 2 ]
run topo --help
check "help" [ "$rc:$err" = 0: ]
run topo pin --help
check "help of pin" grep -q -- --node-file "$tmp/out"
"$muster" topo show >/dev/full 2>"$tmp/err"
check "a full disk under stdout is an error" [ $? = 1 ]
echo "1..$n"
[ $bad = 0 ]
