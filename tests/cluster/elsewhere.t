#!/usr/bin/env bash
# Hosts that know better than the head: programs that only they have, second names; and an ssh whose controller dies.
. "$(dirname "$0")/cluster.sh"
export MUSTER_IDLE=30
unset MUSTER_ENGINE
cluster_up 2
ok $? "two hosts"
export MUSTER_SSH=$CLUSTER_SSH

# programs
cluster_exec h1 sh -c 'mkdir /tmp/p && printf "#!/bin/sh\necho here \$RANK \$(pwd)\n" >/tmp/p/prog && chmod +x /tmp/p/prog'
run_cmd timeout 60 "$muster" run -H h1:1 --wdir /tmp/p ./prog
is "$rc $out" "0 here 0 /tmp/p" "a program and a directory that only its host has" || note "$err"
run_cmd timeout 60 "$muster" run -H head:1,h1:1 -n 1 true : -n 1 --wdir /tmp/p ./prog
is "$rc $out" "0 here 1 /tmp/p" "with another one here" || note "$err"
run_cmd timeout 60 "$muster" run -H h1:1,h2:1 /tmp/p/prog
like "$rc $err" '127 .*failed: rank 1 on h2 cannot run /tmp/p/prog: no such file' "a host that does not have it says so"
run_cmd timeout 60 "$muster" run -H h1:1,head:1 /tmp/p/prog
like "$rc $err" '2 .*/tmp/p/prog: no such program' "nothing is started where this host would not"

# second names
wait_for 30 eval '! "$muster" nodes | grep -q "^h1 "' # the job's agent takes a moment to go
run_cmd timeout 60 "$muster" nodes add h1
is "$rc" 0 "a host of the pool" || note "$err"
run_cmd timeout 60 "$muster" nodes add 10.213.0.1
like "$rc $err" '1 .*host 10.213.0.1: this host is in the pool already, as h1: name it once' "by another name it is refused"
run_cmd "$muster" nodes
like "$out" '10\.213\.0\.1 +lost .*as h1: name it once' "it is listed with the reason"
run_cmd "$muster" nodes remove 10.213.0.1
is "$rc $("$muster" nodes | grep -c 10.213)" "0 0" "and goes when it is told to" || note "$err"
is "$("$muster" nodes | awk '$1 == "h1" { print $2 }')" up "the first name stays"
"$muster" nodes remove h1
cluster_exec h1 rm -r /tmp/p

# a controller that is killed while its ssh hangs
printf '#!/bin/sh\nsleep 7777 &\nexec sleep 7776\n' >"$tmp/hang" && chmod +x "$tmp/hang"
sleeps() { [ "$(pgrep -cxf "sleep $1")" = "$2" ]; }
MUSTER_START_TIMEOUT=300 timeout 60 "$muster" run --ssh "$tmp/hang" -H h2:1 true >"$tmp/run.out" 2>&1 &
run=$!
wait_for 30 sleeps 7777 1
first=$(pgrep -xf 'sleep 7777') second=''
kill -KILL "$(cat "$MUSTER_RUN_ROOT"/head/*/ctl.lock)"
is_second() { second=$(pgrep -xf 'sleep 7777') && [ "$(wc -w <<<"$second")" = 1 ] && [ "$second" != "$first" ]; }
wait_for 30 is_second
ok $? "the next controller ends what the ssh of one that was killed had started" || note "$(pgrep -af 'sleep 777')"
wait_for 30 sleeps 7776 1
ok $? "that ssh has ended, too" || note "$(pgrep -af 'sleep 777')"
kill -KILL "$(cat "$MUSTER_RUN_ROOT"/head/*/ctl.lock)"
kill -INT $run
kill -INT $run
wait $run
# who is told to end may just be followed by one that the agent has started
stopped() {
    "$muster" controller --stop --force >/dev/null 2>&1
    ! pgrep -f 'muster (controller|agent)' >/dev/null
}
wait_for 30 stopped && wait_for 30 sleeps '777[67]' 0
ok $? "nothing is left" || note "$(pgrep -af 'sleep 777')"
done_testing
