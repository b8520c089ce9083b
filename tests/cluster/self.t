#!/usr/bin/env bash
# The test cluster itself: what it promises to the tests that use it.
. "$(dirname "$0")/cluster.sh"

is "$(hostname)" head "the test runs on the head"
cluster_up 4
ok $? "four hosts come up" || { done_testing; }
is "$CLUSTER_HOSTS" "h1 h2 h3 h4" "and are listed"
run_cmd cluster_up 4
is "$rc:$err" "1:cluster: cluster_up: the cluster is up" "they come up once"

# Names, ssh, addresses
run_cmd cluster_exec h2 uname -n
is "$rc:$out" 0:h2 "cluster_exec is on the host"
run_cmd cluster_exec h2 sh -c 'pwd; exit 7'
is "$rc:$out" "7:$root" "in this directory, with its exit status"
run_cmd cluster_exec h9 true
is "$rc:$err" "1:cluster: no host 'h9'; there are: h1 h2 h3 h4 " "a host that there is not"
run_cmd cluster_ssh h3 uname -n
is "$rc:$out:$err" 0:h3: "ssh from the head" || note "$err"
run_cmd ssh 10.213.0.4 uname -n
is "$rc:$out:$err" 0:h4: "a plain ssh, to an address" || note "$err"
# shellcheck disable=SC2086
run_cmd cluster_exec h1 $CLUSTER_SSH h2 ssh h3 ssh h4 uname -n
is "$rc:$out:$err" 0:h4: "ssh from host to host" || note "$err"
run_cmd cluster_exec h1 getent hosts head h4
like "$out" '10\.213\.0\.254 +head.10\.213\.0\.4 +h4' "names"
run_cmd getent hosts h1
like "$out" '10\.213\.0\.1 +h1' "on the head, too"
start=$SECONDS
run_cmd cluster_exec h1 getent hosts nosuch
[ "$rc" != 0 ] && [ $((SECONDS - start)) -lt 30 ]
ok $? "an unknown name is unknown at once"

# What is a host's own, and what is shared
echo shared >"$tmp/shared"
run_cmd cluster_exec h1 sh -c "cat $tmp/shared; echo >/tmp/own; echo >/dev/shm/own; echo >/run/own; ls -d $muster"
is "$rc:$out" "0:shared"$'\n'"$muster" "the test's files and the build tree are shared" || note "$err"
for h in head h2; do
    in_host() { if [ $h = head ]; then "$@"; else cluster_exec $h "$@"; fi; }
    run_cmd in_host ls /tmp/own /dev/shm/own /run/own
    is "$rc:$out" 2: "/tmp, /dev/shm and /run are not ($h)"
done
run_cmd cluster_exec h1 ps -e -o comm=
is "$(sort -u <<<"$out" | tr '\n' ' ')" "bash ps sshd " "a host sees its own processes"
isnt "$(cluster_exec h1 readlink /proc/self/ns/ipc)" "$(readlink /proc/self/ns/ipc)" "its IPC is its own"
run_cmd cluster_exec h1 bash -c 'exec 3<>/dev/tcp/127.0.0.1/22; read -r line <&3; echo "$line"'
like "$out" '^SSH-2' "it has a loopback"
boot_id=/proc/sys/kernel/random/boot_id
isnt "$(cluster_exec h1 cat $boot_id)" "$(cluster_exec h2 cat $boot_id)" "boot ids differ"
cluster_exec h1 sh -c '(true &)'
no_zombie() { [[ $(cluster_exec h1 ps -e -o stat=) != *Z* ]]; }
wait_for 30 no_zombie
ok $? "no zombie stays" || note "$(cluster_exec h1 ps -e)"

# What is left is told
cluster_exec h3 setsid -f sleep 1234
cluster_exec h3 mkdir /dev/shm/left
run_cmd cluster_orphans
like "$out" '^h1: file /dev/shm/own.h1: file /run/own.h1: file /tmp/own.h3: process [0-9]+ .* sleep 1234.h3: file /dev/shm/left$' \
    "cluster_orphans"
run_cmd leftovers
like "$out" 'sleep 1234' "lib.sh looks there"
cluster_exec h1 rm /tmp/own /dev/shm/own /run/own

# Stop and go on
state_of() { cluster_ps h3 | awk '/sleep 1234/ { print substr($3, 1, 1) }'; }
in_state() { [[ $(state_of) =~ ^[$1]$ ]]; } # a process is stopped when it comes to it
cluster_stop h3 'sleep 12.4'
is $? 0 "stop a process by its command"
wait_for 30 in_state T
ok $? "it is stopped" || note "$(state_of)"
cluster_cont h3 "$(cluster_ps h3 | awk '/sleep 1234/ { print $1 }')"
wait_for 30 in_state RS
ok $? "it goes on, by its number" || note "$(state_of)"
run_cmd cluster_stop h3 nosuchprocess
is "$rc:$err" "1:cluster: no process 'nosuchprocess' in h3" "a process that there is not"
cluster_stop h3
stopped_all() { ! cluster_exec h3 ps -C sshd,sleep -o stat= | grep -qv '^T'; }
wait_for 30 stopped_all
ok $? "a whole host is stopped" || note "$(cluster_ps h3)"
run_cmd timeout 1 $CLUSTER_SSH h3 true
is "$rc" 124 "its sshd as well"
cluster_cont h3
run_cmd cluster_ssh h3 uname -n
is "$rc:$out" 0:h3 "and goes on"

# A TCP connection between h1 and h2 that says each byte that it gets
cat >"$tmp/talk.py" <<'END'
import socket, sys, time
def say(word):
    print(word, flush=True)
if sys.argv[1] == "listen":
    s = socket.create_server(("0.0.0.0", 7000)); say("ready"); c = s.accept()[0]
else:
    c = socket.create_connection((sys.argv[1], 7000)); say("ready")
c.setblocking(False)
n = 0
while True:
    try:
        c.send(b"x")
        data = c.recv(4096)
        if not data: say("closed"); break
        n += len(data); say("got")
    except BlockingIOError: pass
    except OSError as e: say("error " + e.strerror); break
    time.sleep(0.05)
END
talk() { # HOST ARG: starts an end of the connection; what it says goes to a file
    cluster_exec "$1" python3 "$tmp/talk.py" "$2" >"$tmp/$1.said" 2>&1 &
}
said() { wc -l <"$tmp/$1.said"; }
hears() { # HOST [SECONDS]: whether it gets something from now on
    local n
    n=$(said "$1")
    wait_for "${2:-1}" eval "[ \$(said $1) -gt $((n + 1)) ]"
}
bad_word() { grep -hE 'closed|error|Trace' "$tmp/h1.said" "$tmp/h2.said"; }
talk h2 listen
wait_for 30 grep -q ready "$tmp/h2.said"
talk h1 h2
hears h1 60 && hears h2 60
ok $? "two hosts talk" || note "$(cat "$tmp"/*.said)"

cluster_cut h2
sleep 0.2
hears h1
is $? 1 "a host that is cut off is not heard"
hears h2
is $? 1 "and hears nothing"
is "$(bad_word)" "" "nobody is told"
run_cmd timeout 1 $CLUSTER_SSH h2 true
is "$rc:$err" 124: "a connection to it finds silence"
run_cmd cluster_ssh h1 true
is "$rc" 0 "others go on"
cluster_heal h2
hears h1 60 && hears h2 60
ok $? "healed, it goes on" || note "$(bad_word)"
cluster_cut h1 h2
sleep 0.2
hears h1
is $? 1 "a pair that is cut"
run_cmd cluster_ssh h3 ssh h2 ssh h3 ssh h1 uname -n
is "$rc:$out" 0:h1 "others reach both" || note "$err"
cluster_heal h1 h2
hears h1 60
ok $? "healed, too" || note "$(bad_word)"

cluster_cut head
run_cmd timeout 1 $CLUSTER_SSH h1 true
is "$rc" 124 "the head is cut off"
run_cmd cluster_exec h1 ssh h2 uname -n
is "$rc:$out" 0:h2 "hosts reach one another then"
cluster_heal head
run_cmd cluster_ssh h1 true
is "$rc" 0 "and the head again"

# One way: datagrams, which need no answer
send() { cluster_exec "$1" python3 -c 'import socket, sys
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(sys.argv[2].encode(), (sys.argv[1], 7001))' "$2" "$3"; }
cat >"$tmp/hear.py" <<'END'
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("0.0.0.0", 7001))
print("ready", flush=True)
while True: print(s.recv(100).decode(), flush=True)
END
for h in h1 h2 h4; do
    cluster_exec $h python3 "$tmp/hear.py" >"$tmp/$h.heard" 2>&1 &
    wait_for 30 grep -q ready "$tmp/$h.heard"
done
word=0
reaches() { # FROM TO
    word=$((word + 1))
    send "$1" "$2" "word $word" || note "cannot send"
    wait_for "${3:-30}" grep -qx "word $word" "$tmp/$2.heard"
}
cluster_cut --one-way h1 h2
reaches h2 h1 && reaches h1 h4
ok $? "cut one way, the other way is open"
reaches h1 h2 0.5
is $? 1 "and this one is not"
cluster_heal h1
reaches h1 h2
ok $? "healed"
cluster_cut --one-way h1
reaches h1 h2 0.5 || reaches h1 h4 0.5
is $? 1 "nothing leaves a host"
reaches h2 h1
ok $? "but it gets everything"
cluster_heal
cluster_cut --one-way all h1
reaches h2 h1 0.5
is $? 1 "nothing reaches a host"
reaches h1 h2
ok $? "but it is heard"
cluster_heal
run_cmd cluster_cut h1 h8
like "$rc:$err" "^1:cluster: no host 'h8'" "a cut from a host that there is not"

if cluster_can_delay; then
    cluster_delay h4 200
    start=${EPOCHREALTIME/./}
    cluster_ssh h4 true
    [ $((${EPOCHREALTIME/./} - start)) -gt 800000 ]
    ok $? "a slow link"
    cluster_heal h4
else
    skip "kernel without netem"
fi

if cluster_can_lose; then
    cluster_lose h4 50
    ok $? "a lossy link"
    cluster_exec h1 python3 -c 'import socket
for i in range(200): socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("10.213.0.4", 7001))'
    # who hears this has heard, or not, all that was sent before it
    sent() { send h1 h4 end; grep -qx end "$tmp/h4.heard"; }
    wait_for 30 sent
    n=$(grep -cx x "$tmp/h4.heard")
    [ $n -gt 40 ] && [ $n -lt 160 ]
    ok $? "loses half of what comes" || note "200 sent, $n heard"
    cluster_heal h4
    cluster_exec h4 tc qdisc show dev eth0 | grep -q clsact
    is $? 1 "and is healed"
    run_cmd cluster_ssh h4 true
    is "$rc" 0 "and works"
else
    skip "kernel without cls_bpf" 4
fi

# Power loss
hears h1 60
ok $? "the connection has lived through all that" || note "$(bad_word)"
old_id=$(cluster_exec h2 cat $boot_id)
cluster_exec h2 sh -c 'echo >/tmp/own; echo >/dev/shm/own'
cluster_kill_host h2
ok $? "a host dies"
sleep 0.2
hears h1
is $? 1 "it is not heard any more"
is "$(bad_word)" "" "and has not said good-bye"
run_cmd cluster_exec h2 true
is "$rc:$err" "1:cluster: h2 is down" "it is known to be down"
run_cmd cluster_kill_host h2
is "$rc" 1 "nobody dies twice"
cluster_start_host h2
ok $? "it starts again"
isnt "$(cluster_exec h2 cat $boot_id)" "$old_id" "with another boot id"
run_cmd cluster_ssh h2 ls /tmp/own /dev/shm/own
is "$rc:$out" 2: "and without its files"
wait_for 30 grep -q error "$tmp/h1.said"
like "$(cat "$tmp/h1.said")" 'error Connection reset by peer$' "it knows nothing of its old connections"
run_cmd cluster_exec h3 ssh h2 ssh h3 uname -n
is "$rc:$out" 0:h3 "it is there for the others" || note "$err"
cluster_cut h2
cluster_kill_host h2
cluster_start_host h2
run_cmd timeout 1 $CLUSTER_SSH h2 true
is "$rc" 124 "a cut outlives a boot"
cluster_heal h2
run_cmd "$root/tests/cluster/cluster.sh" ssh h2 uname -n
is "$rc:$out" 0:h2 "verbs work as commands" || note "$err"

# The peer of the benchmarks
run_cmd cluster_mpirun -H h1:2,h2:2 hostname
is "$rc:$(sort <<<"$out" | tr '\n' ' ')" "0:h1 h1 h2 h2 " "mpirun starts processes" || note "$err"
run_cmd cluster_mpirun -H h1:2,h2:2,h4:1 "$B/tests/mpi/hello"
is "$rc" 0 "MPI works over it" || note "$out" "$err"

cluster_down
ok $? "all hosts go"
is "$(ip -o link | grep -vcE ' (lo|cluster):')" 0 "their links as well"
is "$(ps -e -o args= | grep -cE '[s]shd|--[h]ost')" 0 "and their processes"
cluster_up 1 --setenv "CLUSTER_WORD=some words" && run_cmd cluster_ssh h1 'echo "$CLUSTER_WORD"'
is "$rc:$out" "0:some words" "it comes up again, and its sessions get their variables"
done_testing
