#!/usr/bin/env bash
# muster topo fabric, place, audit and export, on files and on a simulated fabric.
. "$(dirname "$0")/../lib.sh"

json() { python3 -c "import json,sys; j=json.loads(sys.argv[1]); sys.exit(0 if ($1) else 1)" "$out"; }
net() { # LEAVES HOSTS SPINES: a fat tree as ibsim reads it
    python3 - "$@" <<'END'
import sys
leaves, hosts, spines = map(int, sys.argv[1:])
for l in range(leaves):
    print(f'Switch 36 "leaf{l}"')
    for h in range(hosts): print(f'[{h + 1}] "n{l * hosts + h}"[1]')
    for s in range(spines): print(f'[{hosts + s + 1}] "spine{s}"[{l + 1}]')
    print()
for s in range(spines):
    print(f'Switch 36 "spine{s}"')
    for l in range(leaves): print(f'[{l + 1}] "leaf{l}"[{hosts + s + 1}]')
    print()
for h in range(leaves * hosts):
    print(f'Hca 1 "n{h}"\n[1] "leaf{h // hosts}"[{h % hosts + 1}]\n')
END
}
net 4 4 3 >"$tmp/net"
printf '# drained\nn[0-2]\nn5 down since Monday\n\nghost\n' >"$tmp/occupied"

run_cmd "$muster" topo fabric --fabric-file "$tmp/net"
like "$out" '16 hosts, 16 adapters, 7 switches, 28 cables, 1 subnet; places as a tree' "fabric says what is there"
run_cmd "$muster" topo fabric --fabric-file "$tmp/net" --json
json "j['schema'] == 'muster.fabric/1' and j['levels'] == [4, 3] and j['tree'] and [len(u['hosts']) for u in j['units']] == [4] * 4"
ok $? "the same as JSON"

run_cmd "$muster" topo fabric --fabric-file "$tmp/net" --svg "$tmp/net.svg"
is "$rc:$out:$err" "0::" "or as a drawing, and nothing else"
python3 - "$tmp/net.svg" 2>"$tmp/why" <<'END'
import sys, xml.etree.ElementTree as ET
root = ET.parse(sys.argv[1]).getroot()
count = lambda tag, cls: sum(e.get("class") == cls for e in root.iter("{http://www.w3.org/2000/svg}" + tag))
texts = ["".join(t.itertext()) for t in root.iter("{http://www.w3.org/2000/svg}text")]
got = count("rect", "switch"), count("rect", "gpu"), count("rect", "box"), count("line", "w1"), "leaf3" in texts, "level 2" in texts
sys.exit(None if got == (7, 16, 4, 12 + 4, True, True) else str(got))
END
ok $? "with 7 switches, 16 hosts in 4 units and their cables" || note "$(<"$tmp/why")"
sed $'s/"leaf3"/"<b>\\&\xef\xbf\xbe\xef\xbf\xbf\xed\xa0\x80\x07\xff"/' "$tmp/net" >"$tmp/odd-net"
run_cmd "$muster" topo fabric --fabric-file "$tmp/odd-net" --svg "$tmp/odd.svg"
python3 -c 'import sys, xml.etree.ElementTree as ET
sys.exit(not any((e.text or "").startswith("<b>&") for e in ET.parse(sys.argv[1]).iter()))' "$tmp/odd.svg"
ok $? "names cannot make a drawing that is no XML" || note "$err"
run_cmd "$muster" topo audit --fabric-file "$tmp/net" --svg x
is "$rc" 2 "only fabric draws"
run_cmd "$muster" topo place --fabric-file "$tmp/net" -N 6 --json
json "j['schema'] == 'muster.place/1' and len(set(j['nodes'])) == 6 and j['cost'] == 4 and j['bound'] == 4 and j['optimal']"
ok $? "six nodes are on two leaves" || note "$out"
run_cmd "$muster" topo place --fabric-file "$tmp/net" -N 8 --occupied "$tmp/occupied" --group-size 4 --json
json "not {'n0','n1','n2','n5'} & set(j['nodes']) and j['cost'] == 4 and j['groups_split'] == 0"
ok $? "occupied nodes are left out, groups of four stay on their leaf" || note "$out"
like "$err" 'occupied: 1 name is not in the fabric \(ghost\)' "a name that is not there is said"
printf '\xef\xbb\xbfn0\r\nn1\r\n' >"$tmp/windows"
run_cmd "$muster" topo place --fabric-file "$tmp/net" -N 14 --occupied "$tmp/windows" --json
json "not {'n0','n1'} & set(j['nodes'])"
ok $? "a byte-order mark and CRLF are no part of a name" || note "$out" "$err"
run_cmd "$muster" topo place --fabric-file "$tmp/net" -N 1 --occupied "$tmp/occupied"
is "$out" "$(printf '1 node, cost 0, optimal: bound 0\nRANK  NODE  LEAF   HOPS\n   0  n3    leaf0     0')" \
    "one node: the leaf that it fills, as a table"
run_cmd "$muster" topo export --fabric-file "$tmp/net" -N 2
is "$out" "$(printf 'n0\nn1')" "a hostfile in the order of ranks"

run_cmd "$muster" topo export --as topology.conf --fabric-file "$tmp/net"
printf '%s\n' "$out" >"$tmp/topology.conf"
is "$(sed -n 2p <<<"$out")" "SwitchName=l1-0 Nodes=n0,n1,n2,n3" "a topology.conf is written"
run_cmd "$muster" topo place --fabric-file "$tmp/topology.conf" -N 6 --json
json "j['nodes'] == ['n0','n1','n2','n3','n4','n5'] and j['cost'] == j['bound'] == 4"
ok $? "and read" || note "$out"

name=$'x\nSwitchName=q Nodes=z\\'
cp "$tmp/net" "$tmp/$name"
run_cmd "$muster" topo export --as topology.conf --fabric-file "$tmp/$name"
printf '%s\n' "$out" >"$tmp/named.conf"
run_cmd "$muster" topo fabric --fabric-file "$tmp/named.conf"
like "$out" ': 16 hosts, 16 adapters, 5 switches' "whatever the fabric's file is called" || note "$err"
printf 'SwitchName="a" Nodes="n0,n1"\tLinkSpeed="2 x"# two\n' >"$tmp/quoted.conf"
run_cmd "$muster" topo place --fabric-file "$tmp/quoted.conf" -N 2 --json
json "j['nodes'] == ['n0','n1']"
ok $? "values may be quoted" || note "$out" "$err"

while read -r name; do
    sed "s/\"n3\"/\"$name\"/" "$tmp/net" >"$tmp/odd"
    run_cmd "$muster" topo export --fabric-file "$tmp/odd" -N 4
    is "$rc:$out:$err" "2::muster topo export: host '$name' cannot stand in a hostfile; --guids names it otherwise" \
        "no hostfile with $name"
    run_cmd "$muster" topo export --fabric-file "$tmp/odd" --as topology.conf
    is "$rc:$out:$err" "2::muster topo export: host '$name' cannot stand in a topology.conf; --guids names it otherwise" \
        "no topology.conf with it either"
done <<'END'
#c
a:4
a,b
-oX
+n0
n[0-3]
u@h
END

run_cmd "$muster" topo audit --fabric-file "$tmp/net" --json
json "j['schema'] == 'muster.audit/1' and j['findings'] == [] and len(j['units']) == 4 and j['units'][0]['rails'] == 1"
ok $? "nothing is invented on a sound fabric" || note "$out"
sed -e '/^\[6\] "spine1"\[2\]$/d' -e '/^\[2\] "leaf1"\[6\]$/d' "$tmp/net" >"$tmp/dead"
run_cmd "$muster" topo audit --fabric-file "$tmp/dead" --json
json "[(f['kind'], f['host'], f['port']) for f in j['findings']] == [('dead-link', 'leaf1', 6)] and 'spine1' in j['findings'][0]['detail']"
ok $? "a dead link is found" || note "$out"
run_cmd "$muster" topo audit --fabric-file "$tmp/dead"
like "$out" 'dead-link  leaf1     6  lacks a cable to spine1; 3 of 4 switches like it have 1' "and shown"

# Two rails in two files, with the hosts' names in a list of GUIDs.
for r in 0 1; do
    printf 'switchguid=0x%s\nSwitch 4 "S%s"\n' "1$r" $r
    for h in 1 2 3; do printf '[%d] "H%d%d"[1]\n' $h $r $h; done
    for h in 1 2 3; do printf 'caguid=0xa%d%d\nCa 1 "H%d%d" # "mlx5_%d"\n[1] "S%d"[%d]\n' $r $h $r $h $r $r $h; done
done >"$tmp/rails"
sed -n '1,14p' "$tmp/rails" >"$tmp/rail0"
sed -n '15,$p' "$tmp/rails" >"$tmp/rail1"
for h in 1 2 3; do printf '0000:0000:0000:0a0%d host%d\n0xa1%d host%d\n' $h $h $h $h; done >"$tmp/guids"
run_cmd "$muster" topo fabric --fabric-file "$tmp/rail0" --fabric-file "$tmp/rail1" --guids "$tmp/guids" --json
json "j['hosts'] == 3 and j['subnets'] == 2 and j['units'] == [{'hosts': ['host1', 'host2', 'host3'], 'rails': 2}]"
ok $? "several subnets, hosts by GUID" || note "$out" "$err"
is "$err" "" "all of them are named"
run_cmd "$muster" topo export --fabric-file "$tmp/rail0" -N 2
is "$(wc -l <<<"$out"):$err" "2:muster topo export: 3 adapters have no host name (H01, ...) and each counts as a host; --guids names their hosts" \
    "adapters that stand for hosts are said"
head -n 1 "$tmp/guids" >"$tmp/someguids"
sed -n 3p "$tmp/guids" >>"$tmp/someguids"
run_cmd "$muster" topo export --as topology.conf --fabric-file "$tmp/rail0" --guids "$tmp/someguids"
is "$err" "muster topo export: adapter H03 has no host name and counts as a host; --guids names its host" "and a single one"

head -c 300 "$tmp/net" >"$tmp/cut"
printf 'SwitchName=a Switches=b\nSwitchName=b Switches=a\n' >"$tmp/cycle"
cat "$tmp/net" "$tmp/net" >"$tmp/twice"
printf 'n[0-\n' >"$tmp/badlist"
printf 'x y\n' >"$tmp/badguids"
printf 'n0\0n1\nn2\n' >"$tmp/zero"
printf '0x5 a\0b\n0x6 c\n' >"$tmp/zeroguids"
printf '0x77 host1\n0x10 host2\n' >"$tmp/otherguids" # 0x10 is a switch's
yes 'n[1-500000]' | head -n 50 >"$tmp/many"
printf 'SwitchName=a Nodes=n0 Nodes=n1\n' >"$tmp/again.conf"
printf 'SwitchName=a Nodes="n0\n' >"$tmp/open.conf"
printf 'SwitchName=a Nodes="n0 n1"\n' >"$tmp/blank.conf"
printf 'SwitchName=a\nSwitchName=b Switches="a"Nodes=n1\n' >"$tmp/joined.conf"
printf 'SwitchName=a Nodes=n"0"\n' >"$tmp/inner.conf"
mkfifo "$tmp/pipe"
ln "$tmp/net" "$tmp/same"
ln -s guids "$tmp/sameguids"
python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])' "$tmp/socket"
while IFS='|' read -r args says; do
    # shellcheck disable=SC2086
    run_cmd "$muster" topo $args
    [ "$rc" = 2 ] && [ -z "$out" ] && [ "$(wc -l <<<"$err")" = 1 ] && [[ $err == *"$says"* ]]
    ok $? "refused: $says" || note "$rc $out $err"
done <<END
fabric --fabric-file $tmp/cut|is truncated
fabric --fabric-file $tmp/cycle|a cycle: switch
fabric --fabric-file $tmp/twice|is there twice, first on line
fabric --fabric-file $tmp/absent|No such file
fabric --fabric-file $tmp/net --fabric-file $tmp/topology.conf|cannot be mixed
fabric --fabric-file $tmp/net --guids $tmp/badguids|expected a node GUID and a host name
fabric --fabric-file $tmp/net --device mlx5_0|is for the running fabric
fabric --timeout 0|must be from 1ms
fabric --fabric-file $tmp/net --timeout 5s|--timeout is for the running fabric
place --fabric-file $tmp/net -N 2 --timeout 5s|--timeout is for the running fabric
audit --fabric-file $tmp/net --timeout 5s|--timeout is for the running fabric
export --fabric-file $tmp/net -N 2 --timeout 5s|--timeout is for the running fabric
fabric --fabric-file $tmp/net --json --svg $tmp/both.svg|--json and --svg are two outputs
fabric --fabric-file $tmp/topology.conf --guids $tmp/guids|--guids: nothing in $tmp/topology.conf has a GUID
fabric --fabric-file $tmp/rail0 --guids $tmp/otherguids|--guids: $tmp/otherguids names no adapter of $tmp/rail0
export --as topology.conf --fabric-file $tmp/net --group-size 2|are for a hostfile
place --fabric-file $tmp/net|Give -N NODES
fabric --fabric-file $tmp/again.conf|again.conf:1: two times Nodes on a line
fabric --fabric-file $tmp/blank.conf|blank.conf:1: a blank in Nodes: names are separated by commas
fabric --fabric-file $tmp/joined.conf|joined.conf:2: a quote stands around all of a value or not at all
fabric --fabric-file $tmp/inner.conf|inner.conf:1: a quote stands around all of a value or not at all
fabric --fabric-file $tmp/open.conf|open.conf:1: a quote is not closed
fabric --fabric-file $tmp/net --svg $tmp/pipe|--svg: $tmp/pipe is a pipe that nobody reads
fabric --fabric-file $tmp/net --svg $tmp/socket|--svg: $tmp/socket is a socket: name a file
fabric --fabric-file $tmp/rail0 --fabric-file $tmp/net --svg $tmp/same|--svg: $tmp/same is the fabric's file: name another one
fabric --fabric-file $tmp/rail0 --guids $tmp/guids --svg $tmp/sameguids|--svg: $tmp/sameguids is the file of --guids
fabric --fabric-file $tmp/net --svg=|--svg: the name of the file is empty
fabric --fabric-file $tmp/net --guids $tmp/zeroguids|GUID file: $tmp/zeroguids: is not text
place --fabric-file $tmp/net -N 2 --occupied $tmp/zero|--occupied: $tmp/zero: is not text
place --fabric-file $tmp/net -N 2 --occupied $tmp/many|many:9: more than 4194304 names in all
place --fabric-file $tmp/net -N 2 --occupied $tmp/badlist|is not a list of names
place --fabric-file $tmp/net -N 2 --occupied $tmp/absent|--occupied: cannot read $tmp/absent: No such file
place --fabric-file $tmp/net -N 2 --occupied $tmp/pipe|--occupied: $tmp/pipe is a pipe
place --fabric-file $tmp/net -N 2 --occupied=|--occupied: the name of the file is empty
export --fabric-file $tmp/net -N 2 --occupied $tmp/absent|--occupied: cannot read $tmp/absent: No such file
export --fabric-file $tmp/net -N 2 --occupied $tmp|Is a directory
fabric --fabric-file $tmp/net --guids $tmp/absent|GUID file: cannot read $tmp/absent: No such file
fabric --guids $tmp/absent|GUID file: cannot read $tmp/absent: No such file
fabric --fabric-file $tmp/pipe|fabric file: $tmp/pipe is a pipe
fabric --fabric-file=|fabric file: the name of the file is empty
place --fabric-file $tmp/net -N 2 more|one word too many
audit --fabric-file $tmp/topology.conf|no cables to look at
export --fabric-file $tmp/net|Give -N NODES
export --as topology.conf --fabric-file $tmp/net -N 2|are for a hostfile
END
run_cmd "$muster" topo place --fabric-file "$tmp/net" -N 17
is "$rc:$err" "1:muster topo place: 16 nodes are free; 17 are wanted" "more nodes than there are"
for args in fabric 'fabric --json' 'place -N 2' 'place -N 16 --json' audit 'export -N 2'; do
    # shellcheck disable=SC2086
    "$muster" topo $args --fabric-file "$tmp/net" >/dev/full 2>"$tmp/.err"
    is "$?:$(<"$tmp/.err")" "1:muster: cannot write standard output: No space left on device" "a full disk: $args"
done
for sub in fabric place audit export; do
    run_cmd "$muster" topo $sub --help
    [ "$rc" = 0 ] && [[ $out == *--fabric-file* ]]
    ok $? "help of $sub"
done

# --- what the pool says of its fabric -----------------------------------------------------------------------------

sees() { "$muster" nodes | grep -qE -- "$1"; }
export MUSTER_FABRIC=$tmp/pipe
wait_for 30 sees "^fabric: .*/pipe is a pipe: write its text into a file; jobs are placed without it"
ok $? "a pipe is no fabric" || note "$("$muster" nodes)"
rm "$tmp/pipe"
cp "$tmp/net" "$tmp/pipe"
wait_for 30 sees "^fabric: $tmp/pipe, 16 hosts, a tree"
ok $? "what takes its place is read" || note "$("$muster" nodes)"
mkfifo "$tmp/guid-pipe"
"$muster" controller --stop
export MUSTER_FABRIC_GUIDS=$tmp/guid-pipe
wait_for 30 sees "^fabric: GUID file: .*/guid-pipe is a pipe"
ok $? "nor is a pipe a list of GUIDs" || note "$("$muster" nodes)"
unset MUSTER_FABRIC_GUIDS
"$muster" controller --stop

mkdir "$tmp/lib"
cat >"$tmp/lib/ibnd.c" <<END
#include <unistd.h>
void *ibnd_discover_fabric(char *device, int port, void *from, void *config)
{
    while (access("$tmp/go", F_OK))
        usleep(10000);
    return 0;
}
END
export MUSTER_FABRIC=live
${CC:-gcc} -shared -fPIC -o "$tmp/lib/libibnetdisc.so.5" "$tmp/lib/ibnd.c" || note "cannot compile"
run_cmd env LD_LIBRARY_PATH="$tmp/lib" "$muster" nodes
like "$rc:$out" "^0:.*fabric: the live fabric, being read" "while it is being read, that is said"
run_cmd "$muster" nodes --json
json "j['fabric']['reading'] and j['fabric']['trouble'] is None and j['fabric']['hosts'] is None"
ok $? "the same as JSON" || note "$out"
"$muster" controller --stop
start=$SECONDS
run_cmd env LD_LIBRARY_PATH="$tmp/lib" "$muster" nodes
like "$rc:$((SECONDS - start < 60)):$out" "^0:1:.*fabric: the live fabric, being read" \
    "a controller that ends while it reads leaves nothing in the way of the next one" || note "$err"
touch "$tmp/go"
wait_for 30 sees "^fabric: no InfiniBand subnet can be discovered"
ok $? "and then why it cannot be had" || note "$("$muster" nodes)"
"$muster" controller --stop
unset MUSTER_FABRIC

# --- the running fabric, simulated ------------------------------------------------------------------------------

preload=$(ls /usr/lib/*/umad2sim/libumad2sim.so 2>/dev/null)
if ! command -v ibsim >/dev/null || [ -z "$preload" ]; then
    skip "ibsim is not installed" 5
    done_testing
fi
case $B in */san-*)
    skip "the client of ibsim crashes in a sanitizer build" 5
    done_testing
    ;;
esac
cd "$tmp" || exit 2 # the simulator's client leaves a directory there
export IBSIM_SOCKNAME=muster-$$
sim() { # ARGS...: muster on a host of the simulated fabric. The client's destructor does not like sanitizers
    run_cmd env SIM_HOST=n5 ASAN_OPTIONS=detect_leaks=0:verify_asan_link_order=0 LD_PRELOAD="$preload" timeout 60 "$muster" topo "$@"
}
start=$SECONDS
sim fabric --timeout 1s
is "$rc:$err" "1:muster topo fabric: the fabric does not answer: its discovery took more than 1000 ms" \
    "a fabric that does not answer"
[ $((SECONDS - start)) -lt 50 ]
ok $? "is not waited for"

ibsim -s -n "$tmp/net" >"$tmp/ibsim.log" 2>&1 &
server=$!
found() { sim fabric --json --timeout 10s && [ "$rc" = 0 ]; }
wait_for 60 found
json "j['source'] == 'the live fabric' and j['hosts'] == 16 and j['levels'] == [4, 3] and j['cables'] == 28"
ok $? "the running fabric is discovered" || note "$out" "$err"
sim place -N 8 --group-size 4 --json
json "len(set(j['nodes'])) == 8 and j['cost'] == j['bound'] == 4 and j['groups_split'] == 0"
ok $? "and placed on" || note "$out" "$err"
sim audit --json
json "j['findings'] == []"
ok $? "and audited" || note "$out" "$err"
kill $server
wait $server 2>/dev/null
cd "$root" || exit 2
done_testing
