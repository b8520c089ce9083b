#!/usr/bin/env bash
# What hosts are made of: which is not as the others are, which is not as it was approved, and which jobs get it.
. "$(dirname "$0")/cluster.sh"

# each host has its own /tmp: what it is made of is said there
cluster_up 3 --setenv MUSTER_INVENTORY=0.3 --setenv MUSTER_INVENTORY_ROOT=/tmp/root
ok $? "three hosts" || done_testing
export MUSTER_SSH=$CLUSTER_SSH MUSTER_FANOUT=1 MUSTER_INVENTORY=0.3 MUSTER_INVENTORY_ROOT=$tmp/head
made() { # HOST FILE TEXT
    cluster_exec "$1" sh -c 'mkdir -p "/tmp/root/${1%/*}"; echo "$2" >/tmp/root/.new; mv /tmp/root/.new "/tmp/root/$1"' sh "$2" "$3"
}
says() { "$muster" nodes diff "${@:2}" | grep -Eq -- "$1"; }
told() { [ "$("$muster" nodes inventory --json | grep -o '"kernel.release"' | wc -l)" -ge "$1" ]; }
nodes_of() { "$muster" jobs --all --json | python3 -c "import json, sys; print(*[j['nodes'] for j in json.load(sys.stdin)['jobs'] if j['id'] == $1][0])"; }
mkdir -p "$tmp/head"
for h in h1 h2 h3; do
    made $h proc/sys/kernel/osrelease 6.1.0
    made $h sys/class/dmi/id/bios_version 2.18
    made $h sys/class/dmi/id/product_serial "S-$h"
done
made h2 sys/class/dmi/id/bios_version 2.17

run_cmd "$muster" nodes add h1:2 h2:2 h3:2
is "$rc" 0 "hosts are added to the pool" || note "$err"
wait_for 30 told 3
ok $? "all of them tell, whichever way they reach the controller" || note "$("$muster" nodes inventory)"
run_cmd "$muster" nodes diff h1 h2 h3
is "$rc $(tail -n +2 <<<"$out" | tr -s ' ')" "1 h2 dmi.bios_version 2.18 2.17" "one has another firmware; serial numbers are no difference" || note "$out$err"
run_cmd "$muster" nodes diff h2 h3
like "$rc $out" "^1 KEY +h2 +h3.*dmi.bios_version +2.17 +2.18$" "two side by side" || note "$out$err"
run_cmd "$muster" nodes diff h1 h3
is "$rc $out" "0 the nodes are alike" "two that are alike"

run_cmd "$muster" inventory approve --by ada --why accepted
is "$rc" 0 "they are approved as they are" || note "$err"
made h3 proc/sys/kernel/osrelease 6.2.0
made h1 sys/class/dmi/id/product_serial S-other
wait_for 30 says 'h3 +kernel.release +6.1.0 +6.2.0' --baseline h3 && wait_for 30 says 'h1 +id.dmi.serial' --baseline
ok $? "what changes is seen" || note "$("$muster" nodes diff --baseline)"
run_cmd "$muster" nodes diff --baseline h2
is "$rc $out" "0 all nodes are as they were approved" "the other is as it was"

# jobs
run_cmd "$muster" submit -n 2 -N 1 --require-baseline --label x true
like "$rc $err" "^2 .*no node has label x" "a job that could never run is told the reason"
"$muster" nodes label here h1 h2 h3
id=$("$muster" submit -n 2 -N 1 --require-baseline --label here true)
wait_for 30 job_is "$id" completed
is "$(nodes_of "$id")" h2 "a job that requires it gets the one that is as it was approved"
id=$("$muster" submit -n 4 -N 2 --require-baseline --label here true)
like "$("$muster" status "$id")" "waiting for 4 slots.*2 nodes are not as they were approved, h[13]: " "one for two of them waits, and says for which"
cluster_crash_host h1
cluster_start_host h1
for f in "proc/sys/kernel/osrelease 6.1.0" "sys/class/dmi/id/bios_version 2.18" "sys/class/dmi/id/product_serial S-h1"; do
    # shellcheck disable=SC2086
    made h1 $f
done
"$muster" nodes resume h1
wait_for 30 job_is "$id" completed
ok $? "until a host comes back as it was approved" || note "$("$muster" nodes)" "$("$muster" status "$id")"
is "$(nodes_of "$id" | tr ' ' '\n' | sort | tr '\n' ' ')" "h1 h2 " "which it gets"

run_cmd "$muster" nodes remove h1 h2 h3 --force
is "$rc" 0 "hosts leave the pool" || note "$err"
run_cmd "$muster" nodes inventory h3
like "$rc $out" "^0 .*kernel.release +6.2.0 +6.1.0" "what they are made of is still known"
wait_for 30 eval '! pgrep -f "[m]uster agent --join"'
ok $? "and their agents end" || note "$(pgrep -af "[m]uster agent")"
"$muster" controller --stop --force
for h in h1 h2 h3; do cluster_exec $h rm -rf /tmp/root; done
done_testing
