#!/usr/bin/env bash
# MUSTER_POOL: commands that reach a controller through TLS, with the pool key of their own home.
. "$(dirname "$0")/../lib.sh"
unset SLURM_JOB_ID
port=$(free_port)
"$muster" controller --idle 0 --listen "127.0.0.1:$port" >"$tmp/ctl.out" 2>&1 &
ctl=$!
listens() { grep -qi "^[^:]*: [0-9a-f]*:$(printf %04x "$port") [0-9a-f:]* 0A " /proc/net/tcp; }
wait_for 30 listens

has_lines() { [ "$(wc -l <"$tmp/run.out")" -gt "$1" ]; }
far() { # ARGUMENTS: a command of another home
    MUSTER_HOME=$tmp/far MUSTER_POOL=${pool:-127.0.0.1:$port} run_cmd timeout 60 "$muster" "$@"
}
far jobs
is "$rc" 2 "without the key"
like "$err" "MUSTER_POOL=127.0.0.1:$port: the key of that pool is needed here: there is no pool key $tmp/far/pool.key" "says what is missing"
mkdir -p "$tmp/far"
sed 's/ [0-9a-f]\{4\}/ 0000/' "$MUSTER_HOME/pool.key" >"$tmp/far/pool.key"
far jobs
like "$rc $err" '2 .*open to others' "a key that others can read is refused"
chmod 600 "$tmp/far/pool.key"
far jobs
like "$rc $err" '2 .*damaged' "a damaged one, too"
MUSTER_HOME=$tmp/third run_cmd timeout 60 "$muster" controller --listen "127.0.0.1:$port"
is "$rc" 2 "the port is taken"
like "$err" 'cannot listen on 127.0.0.1:[0-9]+: Address already in use' "and said"
cp "$tmp/third/pool.key" "$tmp/far/pool.key"
far jobs
like "$rc $err" '2 .*the pool keys differ' "the key of another pool"
cp "$MUSTER_HOME/pool.key" "$tmp/far/pool.key"
pool=nonsense far jobs
like "$rc $err" '2 .*MUSTER_POOL=nonsense: a port is missing' "an address that is none"
pool=127.0.0.1:1 far jobs
like "$rc $err" '1 .*cannot connect to 127.0.0.1:1: Connection refused; is there a muster controller --listen' "nobody there"

far nodes
like "$rc $out" "^0 .*$(uname -n) +up" "the pool's nodes"
far run -n 2 sh -c 'echo out $RANK; echo err >&2; cat'
is "$rc $(sort <<<"$out" | tr '\n' ,)$err" $'0 out 0,out 1,err\nerr' "a job with its output"
far run -n 1 sh -c 'exit 7'
is "$rc" 7 "its exit code"
MUSTER_HOME=$tmp/far MUSTER_POOL=127.0.0.1:$port timeout 60 "$muster" run -n 1 sh -c 'wc -c' < <(head -c 3000000 /dev/zero) >"$tmp/.out"
is "$(cat "$tmp/.out")" 3000000 "3 MB of input"
MUSTER_HOME=$tmp/far MUSTER_POOL=127.0.0.1:$port timeout 60 "$muster" run -n 1 head -c 5000000 /dev/zero >"$tmp/.out"
is "$(wc -c <"$tmp/.out")" 5000000 "5 MB of output"
far submit -n 1 sleep 100
job=$out
far cancel "$job"
is "$rc" 0 "cancelling"
is "$(ls "$tmp/far") $(find "$MUSTER_RUN_ROOT" -mindepth 2 -maxdepth 2 -empty)" 'pool.key ' "nothing of it is kept there, nor is a place for daemons made"
MUSTER_HOME=$tmp/far MUSTER_POOL=127.0.0.1:$port timeout 60 "$muster" run -n 1 sh -c "until [ -e $tmp/go ]; do echo tick; sleep 0.1; done; echo done" >"$tmp/run.out" 2>"$tmp/run.err" &
run=$!
wait_for 30 test -s "$tmp/run.out"
kill -9 "$ctl"
ticks=$(wc -l <"$tmp/run.out")
wait_for 60 has_lines $((ticks + 3))
touch "$tmp/go"
wait "$run"
is "$? $(tail -n 1 "$tmp/run.out")" "0 done" "kill -9 of the controller: a watched job goes on, the next one is found" || note "$(cat "$tmp/run.err")"
run_cmd timeout 60 "$muster" controller --stop
is "$rc" 0 "the end"
done_testing
