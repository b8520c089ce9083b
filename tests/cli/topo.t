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
check "pin as a table" [ "$out" = "$(printf 'RANK  CPUS  NODES\n   0  1     0\n   1  2,8   0\n   2  3,9   8\n   3  4,10  8\n   4  5,11  8')" ]
run topo pin --node-file $data -n 6 --json
check "more ranks than cores: nobody is bound, and it says so" json "j['bind'] == 'none' and '5 of 5' in j['note'] and {r['cpuset'] for r in j['ranks']} == {'1-5,8-11'} and len(j['ranks']) == 6"
run topo pin --node-file $data -n 6
check "the same for people, on stderr" [ "$rc:$err" = "0:muster topo pin: not bound: 6 ranks, 5 of 5 cores free" ]
run topo pin --node-file $data -np 2 --bind-to none --json
check "mpirun's spellings" json "[r['cpuset'] for r in j['ranks']] == ['1-5,8-11'] * 2 and j['note'] == ''"
run topo pin --synthetic 'pack:2 core:4 pu:2' --occupied 0-3 --cpus 0-7 -n 2 --json
check "a described node, other jobs, a mask" json "[r['cpuset'] for r in j['ranks']] == ['4', '6']"

timeout 60 "$muster" topo show --synthetic 'pack:128 core:128 pu:1' -n 16384 >"$tmp/out" 2>"$tmp/err"
check "the largest node is drawn while one waits" [ "$?:$(tail -n 1 "$tmp/out")" = "0:  core 16383: PU 16383*  <- rank 16383" ]

run topo pin -n 1 --bind none --json
check "this machine: the inherited mask" json "set(range(0)) | {c for part in j['ranks'][0]['cpuset'].split(',') for c in range(int(part.split('-')[0]), int(part.split('-')[-1]) + 1)} == __import__('os').sched_getaffinity(0)"
one=$(python3 -c 'import os; print(max(os.sched_getaffinity(0)))')
taskset -c "$one" "$muster" topo pin -n 1 --json >"$tmp/out" 2>"$tmp/err"
check "under taskset -c $one" json "j['ranks'][0]['cpuset'] == '$one'"

run topo show --node-file $data
check "show without devices says nothing of them" [ "$(grep -c 'GPU\|adapter' "$tmp/out")" = 0 ]
check "show marks what is allowed" [ "$rc:$(grep -c '\*' "$tmp/out"):$(grep 'core 1:' "$tmp/out")" = "0:6:    core 1: PU 1* 7" ]
run topo show --node-file $data --json
check "show as JSON" json "j['schema'] == 'muster.topo/1' and (j['cores'], j['pus'], j['slots'], j['numa_nodes']) == (5, 9, 5, 2) and j['cpuset'] == '1-5,8-11' and len(j['core_list']) == 6 and j['node_list'][1] == {'node': 8, 'cpuset': '3-5,9-11', 'memory': 8589934592}"

gpus=tests/data/node-4gpu.xml
run topo pin --node-file $gpus -n 3 --bind gpu
check "GPUs in a table" [ "$out" = "$(printf 'RANK  CPUS   NODES  GPU                 ADAPTER\n   0  0-2    0      0000:03:00.0 cuda1  0000:04:00.0 mlx5_0\n   1  3-5    0      0000:05:00.0        0000:04:00.0 mlx5_0\n   2  12-14  4      0000:81:00.0 rsmi0  0000:82:00.0 mlx5_1')" ]
run topo pin --node-file $gpus -n 2 --bind gpu --map numa --json
check "GPUs in JSON" json "j['bind'] == 'gpu' and j['map'] == 'numa' and [(r['gpu'], r['nic'], r['env']) for r in j['ranks']] == [({'pci': '0000:03:00.0', 'uuid': 'GPU-00000000-1111-2222-3333-444444444444'}, {'pci': '0000:04:00.0', 'name': 'mlx5_0'}, ['CUDA_VISIBLE_DEVICES=GPU-00000000-1111-2222-3333-444444444444', 'UCX_NET_DEVICES=mlx5_0:1']), ({'pci': '0000:81:00.0', 'uuid': 'f62596172e6212b'}, {'pci': '0000:82:00.0', 'name': 'mlx5_1'}, ['ROCR_VISIBLE_DEVICES=GPU-0f62596172e6212b', 'UCX_NET_DEVICES=mlx5_1:2'])]"
run topo pin --node-file $data -n 2 --bind numa --json
check "NUMA nodes" json "[(r['cpuset'], r['nodeset']) for r in j['ranks']] == [('1-2', '0'), ('3-5', '8')] and j['map'] is None"
run topo pin --node-file $data -n 2 --bind gpu
check "no GPU here: by cores, and it says so" [ "$rc:$err" = "0:muster topo pin: bound to cores: the node has no GPU" ]
run topo show --node-file $gpus -n 4 --bind gpu
check "show draws devices and ranks" [ "$(grep -c 'rank 1$' "$tmp/out"):$(grep -c 'PCI 0000:01:00.0' "$tmp/out"):$(grep -c 'rank 2-3$' "$tmp/out")" = 4:1:1 ]
run topo show --node-file $gpus --json
check "show has the devices in JSON" json "[g['pci'] for g in j['gpu_list']] == ['0000:03:00.0', '0000:05:00.0', '0000:81:00.0', '0000:a1:00.0'] and [(n['name'], n['fabric'], n['usable']) for n in j['nic_list']][-2:] == [('mlx5_1', True, True), ('mlx5_9', True, False)] and 'ranks' not in j"
run topo show --node-file $gpus -n 2 --bind gpu --json
check "and the ranks when they are asked for" json "[r['cpuset'] for r in j['ranks']] == ['0-2', '3-5'] and j['bind'] == 'gpu'"
run topo show --node-file $gpus -n 4 --bind gpu --svg "$tmp/node.svg"
svg() { # FILE TEXTS: well-formed, its texts among them, and a drawing for dark screens
    python3 - "$@" 2>>"$tmp/err" <<'END'
import sys, xml.etree.ElementTree as ET
root = ET.parse(sys.argv[1]).getroot()
texts = ["".join(t.itertext()) for t in root.iter("{http://www.w3.org/2000/svg}text")]
width, height = float(root.get("width")), float(root.get("height"))
inside = all(0 <= float(r.get("x", 0)) and float(r.get("x", 0)) + float(r.get("width")) <= width and
             0 <= float(r.get("y", 0)) and float(r.get("y", 0)) + float(r.get("height")) <= height
             for r in root.iter("{http://www.w3.org/2000/svg}rect"))
style = "".join(s.text for s in root.iter("{http://www.w3.org/2000/svg}style"))
missing = [t for t in sys.argv[2:] if t not in texts]
if missing or not inside or "prefers-color-scheme:dark" not in style:
    sys.exit("missing %s of %s, inside %s" % (missing, texts, inside))
END
}
check "show draws into a file" svg "$tmp/node.svg" 'NUMA node 4, 8 GiB' 'GPU cuda1' 'adapter mlx5_1' 'rank 2-3'
check "and prints nothing then" [ "$rc:$out:$err" = 0:: ]
run topo show --node-file $gpus --svg "$tmp/nowhere/node.svg"
check "a file that cannot be written is an error" [ "$rc:$err" = "1:muster topo show: --svg: cannot write $tmp/nowhere/node.svg: No such file or directory" ]
printf 'rank 1=a slot=1:0\nrank 0=a slot=p1,2\n' >"$tmp/ranks"
run topo pin --node-file $data --rankfile "$tmp/ranks" --json
check "a rank file" json "j['bind'] == 'rankfile' and [(r['cpuset'], r['nodeset']) for r in j['ranks']] == [('1-2', '0'), ('3', '8')]"
printf '\nrank 0=a slot=7:0\n' >"$tmp/far"
printf 'rank 0=+n4294967296 slot=0\n' >"$tmp/beyond"
printf 'rank 0=a+b slot=0\n' >"$tmp/nohost"
printf '<?xml version="1.0"?>\n<!DOCTYPE topology [<!ENTITY a "]>">]>\n<topology version="2.0"></topology>\n' >"$tmp/doctype.xml"
python3 -c 'print("<topology version=\"2.0\">" + "<object type=\"Group\">" * 300 + "</object>" * 300 + "</topology>")' >"$tmp/deep.xml"
printf 'rank 0=a slot=0\nrank 1=b slot=0\n' >"$tmp/two"
printf 'rank 0=a slot=0\nrank 1:b slot=0\n' >"$tmp/odd"

mkfifo "$tmp/pipe"
head -c 2000 $data >"$tmp/cut.xml"
sed 's/topology version="2.0"/topology version="3.0"/' $data >"$tmp/v3.xml"
echo "not XML at all" >"$tmp/text.xml"
echo '<system version="1"></system>' >"$tmp/nccl.xml"
echo '<graph></graph>' >"$tmp/graph.xml"
sed 's|</system>||' <<<'<system version="1"><cpu numaid="0" affinity="f"></cpu></system>' >"$tmp/cut-nccl.xml"
while IFS='|' read -r file says; do
    run topo pin -n 1 --node-file "$file"
    check "refused: $says" one_line "$says"
done <<END
$tmp/cut.xml|is truncated
$tmp/v3.xml|hwloc 3 XML
$tmp/text.xml|is not XML
$tmp/nccl.xml|holds no CPUs
$tmp/cut-nccl.xml|no </system> at its end: it is truncated
$tmp/graph.xml|its root is <graph>
$tmp/absent.xml|No such file or directory
$tmp|Is a directory
$tmp/pipe|$tmp/pipe is a pipe
END
cp $data "$tmp/own.xml"
while IFS='|' read -r args says; do
    # shellcheck disable=SC2086
    run topo $args
    check "refused: muster topo $args" one_line "$says"
done <<END
pin|Give -n N
pin -n 0|from 1
pin -n x|from 1
pin -n 1 --bind socket|core, numa, gpu or none
pin -n 1 --map socket|slot, node, numa or gpu
show --bind gpu|Give -n N, or leave --bind out
show --node-file $data --svg $tmp/pipe|--svg: $tmp/pipe is a pipe that nobody reads
show --node-file $tmp/own.xml --svg $tmp/../${tmp##*/}/own.xml|own.xml is the node's file: name another one
show --rankfile $tmp/odd --svg $tmp/odd|--svg: $tmp/odd is the rank file: name another one
show --node-file $data --svg=|--svg: the name of the file is empty
show --json --svg $tmp/both.svg|--json and --svg are two outputs
pin -n 1 --bind none --smt|leave --smt out
pin -n 1 --bind none --occupied 0|leave --occupied out
pin -n 1 --node-file $data --occupied 500,600-700|--occupied: $data has none of the CPUs '500,600-700'
pin -n 1 --node-file $data --occupied 1,700|--occupied: $data has no CPU 700
pin -n 1 --node-file $data --occupied 0-8192|--occupied: $data has no CPU 12
pin -n 1 --node-file $data --occupied 5 --cpus 1-2|--occupied: ranks may use no core of the CPUs '5' anyway: leave it out
show -n 1 --node-file $data --occupied 1-2 --bind none --map gpu|leave --occupied out
pin -n 1 --node-file $data --occupied=|has none of the CPUs ''
pin --rankfile $tmp/far|far:2: slot=7:0: this node has no package 7 with core 0
pin --rankfile $tmp/beyond|beyond:1: '+n4294967296' is no host, and none of a list, +n0 to +n65535
pin --rankfile $tmp/nohost|nohost:1: 'a+b' is no host
show --node-file $tmp/deep.xml|elements more than 256 deep
show --node-file $tmp/doctype.xml|damaged
pin --rankfile $tmp/two|two:2: another host than in line 1
pin --rankfile $tmp/odd|odd:2: 'rank 1:b slot=0'
pin --rankfile $tmp/absent|No such file or directory
pin --rankfile $tmp/pipe|rank file: $tmp/pipe is a pipe
pin --rankfile=|rank file: the name of the file is empty
show --node-file=|node file: the name of the file is empty
pin -n 3 --rankfile $tmp/ranks|3 ranks asked for
pin --bind core --rankfile $tmp/ranks|leave --bind and --map out
pin -n 1 --cpus 5-|expected something like
pin -n 1 --occupied 99999|expected something like
pin -n 1 --node-file a --synthetic b|give one of them
show --synthetic pu:16384|more than 1024 objects side by side among 16384 PUs take minutes; put levels between
pin -n 1 more|one word too many
pin -n 1 --jsn|--json
twist|show, pin, fabric, place, audit or export
END
python3 -c 'import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])' \
    "$muster" topo show --node-file "$gpus" >"$tmp/out" 2>"$tmp/err"
check "whoever starts it may ignore SIGCHLD" grep -q '4 GPUs' "$tmp/out"
run topo
check "without a subcommand: usage" [ "$rc" = 2 ]
run topo --help
check "help" [ "$rc:$err" = 0: ]
run topo pin --help
check "help of pin" grep -q -- --node-file "$tmp/out"
for args in 'show' 'show --json' 'pin -n 1' 'pin -n 1 --json' 'pin --help' "show --node-file $gpus --json"; do
    # shellcheck disable=SC2086
    "$muster" topo $args >/dev/full 2>"$tmp/err"
    check "a full disk under stdout is an error of one line: $args" [ $?:"$(<"$tmp/err")" = "1:muster: cannot write standard output: No space left on device" ]
done
echo "1..$n"
[ $bad = 0 ]
