#!/usr/bin/env bash
# What the node is made of: gathered, kept with its history over controllers, compared with what somebody has approved.
. "$(dirname "$0")/../lib.sh"
export MUSTER_INVENTORY_ROOT=$tmp/root MUSTER_INVENTORY=0.3
host=$(uname -n)
made() { # FILE TEXT: below the root, as a whole
    mkdir -p "$tmp/root/$(dirname "$1")"
    echo "$2" >"$tmp/root/.new"
    mv "$tmp/root/.new" "$tmp/root/$1"
}
differs() { "$muster" nodes diff --baseline | grep -q "$1"; }
alike() { "$muster" nodes diff --baseline >/dev/null; }
made proc/sys/kernel/osrelease 6.1.0
made proc/sys/vm/swappiness 60
made sys/class/dmi/id/product_serial S1234

run_cmd "$muster" nodes inventory
like "$rc $out" "^0 NODE .*$host .*6.1.0 +-$" "without a pool it begins one, and waits for its node"
run_cmd "$muster" nodes inventory "$host"
like "$rc $out" "^0 KEY +VALUE.*id.dmi.serial +S1234.*kernel.release +6.1.0.*muster.version +[0-9.]+.*sysctl.vm.swappiness +60" "all of one node"
unlike "$out" "APPROVED" "of which nothing was approved"
run_cmd "$muster" nodes inventory nosuch
like "$rc $out$err" "^2 muster nodes inventory: there is no inventory of nosuch; .muster nodes inventory. lists" "a node that is not there"
run_cmd "$muster" nodes inventory --history
like "$rc $err" "^2 muster nodes inventory: --history is of one node: name it" "a history is of one node"
run_cmd "$muster" nodes diff
is "$rc $out" "0 there is one node, and nothing to compare it with" "one node is like all others"
run_cmd "$muster" nodes diff "$host"
like "$rc $err" "^2 muster nodes diff: name two nodes or more" "and with which is it to be compared?"
run_cmd "$muster" nodes diff --baseline
like "$rc $out" "^1 .*$host .*nothing was approved" "nothing was approved"
run_cmd "$muster" nodes --json
like "$out" '"drift":null' "so there is nothing to differ from"

run_cmd "$muster" submit -n 1 --require-baseline true
like "$rc $err" "^2 muster submit: --require-baseline: nobody has approved what the pool's nodes are made of; .muster inventory approve. does" "so no job can require it"
run_cmd "$muster" inventory approve --why because
like "$rc $err" "^2 muster inventory approve: say who approves and why: --by NAME --why TEXT" "somebody answers for it"
run_cmd "$muster" inventory approve --by ada
like "$rc $err" "^2 muster inventory approve: say who" "and has a reason"
run_cmd "$muster" inventory approve --by ada --why because nosuch
like "$rc $err" "^2 muster inventory approve: there is no inventory of nosuch" "for a node that is there"
run_cmd "$muster" inventory
like "$rc $err" "^2 muster inventory: an argument is missing" "inventory by itself does nothing"
run_cmd "$muster" inventory approve --by 'Ada L.' --why $'accepted\e[31m'
is "$rc $out$err" "0 " "approved"
run_cmd "$muster" nodes diff --baseline
is "$rc $out" "0 all nodes are as they were approved" "it is as it was approved"
run_cmd "$muster" nodes inventory "$host"
like "$out" 'approved at 20[0-9-]* [0-9:]* by Ada L\.: accepted.x1b\[31m' "by whom and why, with nothing that a terminal would obey"

made proc/sys/kernel/osrelease 6.2.0
wait_for 30 differs kernel.release
run_cmd "$muster" nodes diff --baseline
like "$rc $out" "^1 NODE +KEY +APPROVED +IS.*$host +kernel.release +6.1.0 +6.2.0$" "a change is seen" || note "$err"
run_cmd "$muster" nodes
like "$out" "$host +up .*not as approved: kernel.release was 6.1.0, is 6.2.0" "muster nodes says it"
like "$("$muster" nodes --json)" '"drift":1' "and its JSON"
run_cmd "$muster" nodes diff --baseline --json
is "$out" "{\"schema\":\"muster.diff/1\",\"differences\":[{\"node\":\"$host\",\"key\":\"kernel.release\",\"value\":\"6.2.0\",\"other\":\"6.1.0\"}]}" "for programs"

# the next controller
"$muster" controller --stop
wait_for 30 no_leftovers
export MUSTER_INVENTORY=0
run_cmd "$muster" nodes diff --baseline
like "$rc $out" "^1 .*kernel.release +6.1.0 +6.2.0" "the next controller knows it, though no agent looks" || note "$err"
run_cmd "$muster" nodes inventory --history "$host"
like "$rc $out" "^0 TIME +KEY +WAS +IS.*oldest that is kept.*kernel.release +6.1.0 +6.2.0$" "and when it was"
"$muster" controller --stop
wait_for 30 no_leftovers
export MUSTER_INVENTORY=0.3
made sys/class/dmi/id/product_serial S9
"$muster" nodes >/dev/null
wait_for 30 differs id.dmi.serial
ok $? "another serial number is another machine"
made sys/class/dmi/id/product_serial S1234
made proc/sys/kernel/osrelease 6.1.0
wait_for 30 alike
ok $? "put back as it was it is what was approved" || note "$("$muster" nodes diff --baseline)"
made proc/sys/kernel/osrelease 6.3.0
wait_for 30 differs 6.3.0
"$muster" inventory approve --by bob --why 'security update' "$host"
wait_for 30 alike
ok $? "or approved anew"
is "$("$muster" audit --json | grep -o '"what":"inventory approve"' | wc -l)" 3 "who has approved is in the audit log"
like "$("$muster" audit)" "inventory approve .* refused .*nosuch.*inventory approve .* done .*all by Ada L.*inventory approve .*$host:\* by bob: security update" "with what came of it"

# jobs that want it as it was approved
run_cmd "$muster" run -n 1 --require-baseline true
is "$rc $err" "0 " "a job that wants its nodes as they were approved"
made proc/sys/kernel/osrelease 6.4.0
wait_for 30 differs 6.4.0
run_cmd "$muster" submit -n 1 --require-baseline true
id=$out
like "$("$muster" status "$id")" "waiting for 1 slot with --require-baseline.*1 node is not as it was approved, $host: kernel.release was 6.3.0, is 6.4.0" "waits while they are not"
run_cmd "$muster" submit -n 1 --require-baseline --dry-run true
like "$out$err" "not as it was approved" "a dry run says so, too"
run_cmd "$muster" run -n 1 true
is "$rc" 0 "others run"
run_cmd "$muster" submit -n 1000 --require-baseline true
like "$rc $err" "^2 muster submit: 1000 ranks asked for, the pool has" "one that could never run is told so"
"$muster" inventory approve --by bob --why again
wait_for 30 eval '"$muster" status "$id" | grep -q completed'
ok $? "and starts once they are" || note "$("$muster" status "$id")"

# what was approved is withdrawn
run_cmd "$muster" inventory withdraw --by bob
like "$rc $err" "^2 muster inventory withdraw: say who withdraws and why: --by NAME --why TEXT" "to withdraw it takes a name and a reason, too"
run_cmd "$muster" inventory withdraw --by bob --why mistaken nosuch
like "$rc $err" "^2 muster inventory withdraw: nothing was approved of nosuch" "and something that was approved"
run_cmd "$muster" inventory withdraw --by bob --why mistaken "$host"
is "$rc $out$err" "0 " "withdrawn"
run_cmd "$muster" nodes diff --baseline
like "$rc $out" "^1 .*$host .*nothing was approved" "nothing is approved then"
run_cmd "$muster" submit -n 1 --require-baseline true
like "$rc $err" "^2 .*nobody has approved" "and no job can require it"
run_cmd "$muster" inventory withdraw --by bob --why mistaken
like "$rc $err" "^2 muster inventory withdraw: nothing was approved of any node of the pool" "that it is done already is said"
like "$("$muster" audit)" "inventory withdraw .* done .*$host:\* by bob: mistaken" "the audit log has it"

# a store that is lost: the agent has it still, the journal what was approved
"$muster" inventory approve --by carol --why 'as it should be'
"$muster" submit -n 1 --oversubscribe sleep 60 >/dev/null
export MUSTER_INVENTORY=0.3
kill -9 "$(sed -n 1p "$MUSTER_RUN_ROOT"/*/*/ctl.lock)"
rm "$MUSTER_HOME/$host"/jobs.db*
wait_for 30 eval '"$muster" nodes inventory "$host" 2>/dev/null | grep -q "kernel.release  *6.4.0  *the same"'
ok $? "a controller that has lost all is told by the agent that lives on" || note "$("$muster" nodes inventory "$host" 2>&1)"
run_cmd "$muster" nodes inventory "$host"
like "$out" 'approved at 20[0-9-]* [0-9:]* by carol: as it should be' "and has from its journal what was approved"

# a job hears of what happens to its node; what a node cannot tell is left out
"$muster" submit -n 1 --oversubscribe sleep 60 >"$tmp/id"
wait_for 30 eval '"$muster" status "$(cat "$tmp/id")" | grep -q running'
rm -r "$tmp/root/sys"
wait_for 30 eval '"$muster" events "$(cat "$tmp/id")" | grep -q "node-changed .*id.dmi.serial is gone, was S1234"'
ok $? "in its events" || note "$("$muster" events "$(cat "$tmp/id")")"
"$muster" cancel -f "$(cat "$tmp/id")" $(seq "$(cat "$tmp/id")") >/dev/null 2>&1 # an older one was adopted
done_testing
