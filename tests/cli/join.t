#!/usr/bin/env bash
# Agents that join by hand: a node of another name on this machine, over TCP like one that is far away.
. "$(dirname "$0")/../lib.sh"
export MUSTER_IDLE=3

# Lists first, looks then: the words of a grep that runs beside would be found, too.
agents() { local list; list=$(pool_processes); grep -c ' agent ' <<<"$list"; }
agent_of() { local list; list=$(pool_processes); sed -n "s/^\([0-9]*\) .* agent .*$1.*/\1/p" <<<"$list"; }
is_gone() { ! kill -0 "$1" 2>/dev/null; }
port=$(free_port)

# what can be known to be wrong
bad() { # PATTERN ARGUMENTS
    local want=$1
    shift
    run_cmd timeout 60 "$muster" agent "$@"
    [ "$rc" != 0 ] && [ "$(wc -l <"$tmp/.err")" = 1 ] && [[ $err =~ $want ]]
    ok $? "muster agent $*: $err" || note "rc=$rc out=$out want: $want"
}
bad 'not an address' --join :1
bad 'port is missing' --join somewhere
bad '--node goes with --join' --node x
bad '--detach goes with --join' --detach
bad 'opposites' --join h:1 --detach --foreground
bad 'not a name' --join h:1 --node 'a b'
bad 'no operand' --join h:1 x
bad "bring the pool's key here, or say --key FILE: there is no pool key" --join "127.0.0.1:$port"
bad '/nosuch' --join "127.0.0.1:$port" --key /nosuch
bad 'rejoin' --rejoin
run_cmd "$muster" controller --listen nonsense
is "$rc" 2 "a controller that cannot listen there does not start"
like "$err" '--listen .*a port is missing' "and says why"
is "$(find "$MUSTER_HOME" -name pool.key)" '' "nobody has made a key yet"

"$muster" controller --listen "127.0.0.1:$port" >"$tmp/ctl.out" 2>&1 &
wait_for 30 test -e "$MUSTER_HOME/pool.key"
is "$(stat -c %a "$MUSTER_HOME/pool.key")" 600 "the controller listens and has made the key, mode 0600"
cp "$MUSTER_HOME/pool.key" "$tmp/key"

"$muster" agent --join "127.0.0.1:$port" --node far --slots 3 2>"$tmp/far.err" &
far=$!
wait_for 30 node_is far up
ok $? "an agent that is started by hand joins" || note "$(cat "$tmp/far.err")"
run_cmd timeout 60 "$muster" run -N 2 -n 2 sh -c 'echo $MUSTER_NODE'
is "$rc $(sort <<<"$out" | tr '\n' ' ')" "0 far $(uname -n) " "ranks run on both nodes"
unlike "$(tr '\0' ' ' <"/proc/$far/cmdline" && tr '\0' ' ' <"/proc/$far/environ")" "$(cut -d' ' -f3 "$tmp/key")" \
    "the key is in no argument and no variable"

# the controller dies: agents find the next one
job=$("$muster" submit -N 2 -n 2 --restarts 0 sh -c "until [ -e $tmp/stop ]; do sleep 0.1; done")
wait_for 30 job_is "$job" running
kill -9 "$(cat "$MUSTER_RUN_ROOT/$(uname -n)"/*/ctl.lock)"
wait_for 30 node_is far up
ok $? "kill -9 of the controller: the agent joins the next one"

# the agent dies: a keeper starts another one, which knows how to join
kill -9 "$far"
wait "$far" 2>/dev/null
wait_for 30 eval '[ -n "$(agent_of --rejoin)" ]'
ok $? "kill -9 of the agent: a keeper starts another one"
wait_for 30 node_is far up
ok $? "which joins again"
run_cmd "$muster" status "$job" --json
like "$out" '"state":"running".*"attempt":1,' "the job has not noticed"
files=("$MUSTER_HOME/$(uname -n)"/joined-*/join*)
is "${#files[@]} $(stat -c %a "${files[@]}" | sort -u)" "2 600" "what it knows is in two files of mode 0600"

# one by hand takes its place again
was=$(agent_of --rejoin)
"$muster" agent --join "127.0.0.1:$port" --node far --slots 3 2>"$tmp/far.err" &
far=$!
wait_for 30 is_gone "$was"
ok $? "an agent by hand takes the place of the one that the keeper has started"
wait_for 30 node_is far up
touch "$tmp/stop"
wait_for 30 job_is "$job" completed
ok $? "the job ends as if nothing had been" || note "$("$muster" status "$job"; "$muster" events "$job")"

# as an engine starts them
start() { # NODE POOL [KEY]: through descriptor 0, detached
    timeout 60 "$muster" agent --join "127.0.0.1:$port" --node "$1" --pool "$2" --key-fd 0 --detach <"${3:-$tmp/key}" >"$tmp/.out" 2>"$tmp/.err"
    rc=$?
    err=$(cat "$tmp/.err")
}
start third 0123abcd
is "$rc $err" '0 ' "an agent detaches once it has joined"
node_is third up
ok $? "and is in the pool then"
start third 0123abcd
is "$rc $err" '0 ' "starting it again is no error"
wait_for 30 eval '[ "$(agents)" = 3 ]'
ok $? "and no second agent" || note "$(pool_processes)"
start other 0123abcd
like "$rc $err" '^2 .*already, as third: name it once' "under another name it is"
sed 's/ [0-9a-f]\{8\}/ 00000000/' "$tmp/key" >"$tmp/bad.key"
start fourth 0123abce "$tmp/bad.key"
like "$rc $err" 'key is damaged' "a damaged key"
start fourth 0123abce /dev/null
like "$rc $err" 'no pool key came' "no key"
MUSTER_HOME=$tmp/elsewhere "$muster" agent --join "127.0.0.1:$port" --key "$tmp/key" --node x >/dev/null 2>&1 &
x=$!
wait_for 30 node_is x up
ok $? "--key names the pool key"
kill "$x"

# the controller ends: those of engines end with it, that by hand stays
run_cmd timeout 60 "$muster" controller --stop
is "$rc" 0 "the controller, which does not idle while it has nodes, is told to stop"
wait_for 30 eval '[ "$(agents)" = 1 ]'
ok $? "told farewell, agents of engines end; the one by hand stays" || note "$(pool_processes)"
kill -0 "$far"
ok $? "it is still there"
is "$(find "$MUSTER_HOME" -path '*joined-0123abcd/join*')" '' "and what the other one knew is gone"
kill "$far"
wait "$far"
is $? 0 "SIGTERM ends it"
done_testing
