#!/usr/bin/env bash
# slow
# Who may do what: every command for every role, the jobs of others, the file and its mistakes.
. "$(dirname "$0")/../lib.sh"
log=$MUSTER_HOME/$(uname -n)/log/controller.log
logged() { grep -Eq "$1" "$log"; }
since=0
is_told() { tail -n +$((since + 1)) "$log" 2>/dev/null | grep -Eq "$1"; }
told() { # PATTERN NAME: a line of the log since the last rules came
    wait_for 30 is_told "$1"
    ok $? "$2" 2 || note "$(tail -n 5 "$log")"
}
rules() { # of the file; waits until the controller has read it
    [ ! -e "$log" ] || since=$(wc -l <"$log")
    cat >"$MUSTER_HOME/.access.new"
    mv "$MUSTER_HOME/.access.new" "$MUSTER_HOME/access"
    wait_for 30 is_told ' access (info: read again|error: .*; the rules stay as they are)' || note "the file is not looked at"
}
mkdir -p "$MUSTER_HOME" "$tmp/open"
chmod 700 "$MUSTER_HOME"
export MUSTER_IDLE=5
mine=$("$muster" submit -n 1 --oversubscribe sleep 3000)

# the file, of which the pool's account needs nothing
rules <<'END'
others = viewer
user ada = boss
END
told "access error: .*/access:2:12: 'boss' is no role: none, viewer, user, operator or admin; the rules stay as they are" "a mistake is said with its place"
run_cmd "$muster" doctor --json
like "$out" '"name":"access","ok":false,"found":"[^"]*/access:2:12: .boss. is no role' "by doctor, too"
rules <<<"user no-such-account-here = admin"
logged "nobody here is called 'no-such-account-here': the rule of that name holds for nobody"
ok $? "a name that nobody has"
run_cmd "$muster" doctor
like "$out" "access +ok +.*1 rule.*nobody here is called 'no-such-account-here'" "by doctor, too"
run_cmd "$muster" jobs
is "$rc" 0 "and the pool's account is let in, whatever it says"
chmod 666 "$MUSTER_HOME/access"
touch "$MUSTER_HOME/access"
wait_for 30 logged "access: others than the pool's account could have written it"
ok $? "one that others could have written is not believed"
rm "$MUSTER_HOME/access"
rules <<<"socket = $tmp/open/ctl"
told "listening for other accounts at $tmp/open/ctl" "a socket for other accounts"
run_cmd env MUSTER_POOL="$tmp/open/ctl" "$muster" jobs
like "$rc $out" "^0 .*sleep" "serves the pool's own account, too"
run_cmd env MUSTER_POOL="$tmp/none" "$muster" jobs
like "$rc $err" "^[12] muster jobs: .*$tmp/none" "no socket"
chmod 777 "$tmp/open"
run_cmd env MUSTER_POOL="$tmp/open/ctl" "$muster" jobs
like "$rc $err" "^2 muster jobs: MUSTER_POOL: .*others than the pool's account could put another socket there" "in a place that others could write it is not believed"
chmod 755 "$tmp/open"

# the socket's place
rm "$tmp/open/ctl"
wait_for 30 test -S "$tmp/open/ctl"
ok $? "a socket that was removed is made again"
rules <<<"socket = $tmp/later/ctl"
told "later: No such file.*other accounts do not reach this pool" "no directory for it: said"
[ ! -e "$tmp/open/ctl" ]
ok $? "and the one before is gone"
mkdir -m 755 "$tmp/later"
wait_for 30 test -S "$tmp/later/ctl"
ok $? "one that comes later is found"
python3 -c 'import socket, sys, time
s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); print("listens", flush=True); time.sleep(600)' "$tmp/open/other" >"$tmp/other.out" &
other=$!
wait_for 30 grep -qs listens "$tmp/other.out"
rules <<<"socket = $tmp/open/other"
told "$tmp/open/other: somebody listens there already" "a socket of somebody else is left alone"
rules <<<"socket = $(echo "$MUSTER_RUN_ROOT"/*/*/ctl.sock)"
told "ctl.sock: somebody listens there already" "so is the pool's own"
run_cmd "$muster" jobs
is "$rc" 0 "which still answers"
kill "$other"
wait "$other" 2>/dev/null
ln -sf access "$MUSTER_HOME/access"
wait_for 30 logged 'access error: .*/access: Too many levels of symbolic links'
ok $? "a link to itself is told of"
rm "$MUSTER_HOME/access"

roles() { # ROLE of daemon, which is the other account of these tests
    rules <<END
socket = $tmp/open/ctl
user daemon = $1
${2:-}
END
}
as() { # COMMAND...: as that one
    run_cmd setpriv --reuid daemon --regid daemon --clear-groups env -C "$tmp/open" MUSTER_POOL="$tmp/open/ctl" MUSTER_HOME="$tmp/other" \
        MUSTER_RUN_ROOT="$tmp/other" "$@"
}
prepare() {
    chmod 755 "$tmp"
    cp "$muster" "$tmp/muster" # that one may have no way to where it was built
    muster=$tmp/muster
    mkdir -p "$tmp/other"
    chown daemon "$tmp/other"
    chmod 700 "$tmp/other"
}

# what is asked, the least role, what it says when it may: an exit code that is not a refusal
table() {
    cat <<'END'
jobs	viewer	muster jobs
status	viewer	muster status JOB
events	viewer	muster events JOB
nodes	viewer	muster nodes
nodes inventory, nodes diff	viewer	muster nodes inventory nosuch
submit --dry-run	viewer	muster submit -n 1 --dry-run true
submit	user	muster submit -n 1 true
run	user	muster run -n 1 --oversubscribe true
cancel	user	muster cancel OWN
hold, release	user	muster hold OWN
requeue	user	muster requeue OWN
nodes drain	operator	muster nodes drain --reason r nosuch
nodes resume	operator	muster nodes resume nosuch
nodes check	operator	muster nodes check nosuch
nodes label	operator	muster nodes label x nosuch
nodes add	admin	muster nodes add --ssh false nosuch
nodes remove	admin	muster nodes remove nosuch
inventory approve	admin	muster inventory approve --by b --why w nosuch
inventory withdraw	admin	muster inventory withdraw --by b --why w nosuch
controller --stop	admin	STOP
store backup	admin	muster store backup
audit	admin	muster audit
END
}
rank() { case $1 in none) echo 0 ;; viewer) echo 1 ;; user) echo 2 ;; operator) echo 3 ;; admin) echo 4 ;; esac }

if [ "$(id -u)" != 0 ]; then
    skip "needs root to be another user"
elif ! command -v setpriv >/dev/null; then
    skip "setpriv is not installed"
else
    prepare
    roles user
    as "$muster" submit -n 1 --hold true
    own=$out
    is "$rc $("$muster" status "$own" --json | python3 -c 'import json,sys; print(json.load(sys.stdin)["jobs"][0]["user"])')" "0 daemon" "a job has the name that the kernel knows"
    as env USER=root LOGNAME=root "$muster" submit -n 1 --hold true
    is "$("$muster" status "$out" --json | python3 -c 'import json,sys; print(json.load(sys.stdin)["jobs"][0]["held_by"])')" "daemon" "whatever its environment says"
    # jobs of others
    for cmd in cancel hold requeue; do
        as "$muster" $cmd "$mine"
        is "$rc $err" "2 muster $cmd: job $mine is root's, and daemon has the role user in this pool: ask an operator" "$cmd of somebody else's job"
    done
    logged "access warn: refused, uid $(id -u daemon), pid [0-9]+: job $mine is root's"
    ok $? "is in the log"
    is "$(table | cut -f1 | sort)" "$(sed -n '/^| command | least role/,/^$/s/^| `\([^`]*\)`.*/\1/p' docs/operations.md | sort)" "all commands of the documentation are tried here"
    for role in none viewer user operator admin; do
        roles $role
        wrong=
        while IFS=$'\t' read -r name least words; do
            words=${words//JOB/$mine}
            words=${words//OWN/$own}
            if [ "$words" = STOP ]; then # one that ends would be in the way: jobs run, so that it says
                as "$muster" controller --stop
            else
                read -ra args <<<"${words#muster }"
                as "$muster" "${args[@]}"
            fi
            if [ "$(rank $role)" -ge "$(rank "$least")" ]; then
                [[ $err != *"has the role"* && $err != *"no role"* ]] || wrong+="$name is refused: $err"$'\n'
            elif [ "$rc" = 0 ] || [[ $err != *"daemon has the role $role in this pool: "*" takes $least"* && $err != *"daemon has no role in this pool"* ]]; then
                wrong+="$name: $rc $err"$'\n'
            elif [ "$rc" != 2 ] && [ "$name" != "controller --stop" ]; then
                wrong+="$name: exit code $rc"$'\n'
            fi
        done < <(table)
        is "$wrong" "" "$(table | wc -l) commands as $role"
    done

    as "$muster" inventory approve --by ada --why accepted
    like "$rc $("$muster" nodes inventory --json)" '^0 .*"by":"ada \(daemon\)","why":"accepted"' "who approves for somebody is named, too" || note "$err"

    roles user
    as "$muster" jobs
    like "$out" "^.*root.*" "they are seen"
    roles user "users-see = own"
    as "$muster" jobs --all --json
    like "$out" '"user":"daemon"' "where users see their own jobs"
    unlike "$out" '"user":"root"' "they see no others"
    theirs=$out
    as "$muster" top --json
    is "$rc $(python3 -c 'import json, sys
theirs, top = map(json.loads, sys.argv[1:])
print({e["job"] for e in top["events"]} - {j["id"] for j in theirs["jobs"]})' "$theirs" "$out")" "0 set()" "nor what happens to them"
    like "$out" '"events":\[\{' "but what happens to theirs"
    as "$muster" status "$mine"
    like "$rc $err" "^1 muster status: there is no job $mine" "not by their number"
    as "$muster" events "$mine"
    like "$rc $err" "^1 muster events: there is no job $mine" "nor by what has happened to them"
    as "$muster" cancel "$mine"
    like "$rc $err" "^1 muster cancel: there is no job $mine" "nor by what can be done to them"
    as "$muster" cancel 4711
    like "$rc $err" "^1 muster cancel: there is no job 4711" "which is what is said of none"
    roles user "users-touch = all"
    as "$muster" hold "$mine"
    like "$rc $err" "^1 muster hold: job $mine is running" "where users touch all jobs they are let through"
    roles operator
    as "$muster" hold "$mine"
    like "$rc $err" "^1 muster hold: job $mine is running" "and so are operators"

    # groups, others, and rules that change
    rules <<END
socket = $tmp/open/ctl
group daemon = viewer
END
    as "$muster" jobs
    is "$rc" 0 "a role by group"
    rules <<END
socket = $tmp/open/ctl
group daemon = admin
user daemon = none
others = admin
END
    as "$muster" jobs
    like "$rc $err" "^2 muster jobs: daemon has no role in this pool; its owner gives one" "which a rule for the user takes away"
    rules <<<"nonsense"
    as "$muster" jobs
    like "$rc $err" "^2 muster jobs: daemon has no role" "a broken file leaves the last good rules"
    told "access:1:1: 'nonsense' has no '='.*the rules stay as they are" "and is said"

    # who lies about himself, and daemons of other accounts
    cat >"$tmp/liar.py" <<'END'
import os, pwd, socket, struct, sys
def field(n, v):
    b = v.encode() if isinstance(v, str) else struct.pack("<I" if v < 1 << 32 and n in u32 else "<Q", v)
    return struct.pack("<BI", n, len(b)) + b
def frame(kind, wide, **fields):
    global u32
    u32 = wide
    body = struct.pack("<H", kind) + b"".join(field(int(k[1:]), v) for k, v in fields.items())
    return struct.pack("<I", len(body)) + body
me = pwd.getpwnam("daemon")
os.setgroups([])
os.setgid(me.pw_gid)
os.setuid(me.pw_uid)
s = socket.socket(socket.AF_UNIX)
s.settimeout(30)
s.connect(sys.argv[1])
s.sendall(frame(1, {1, 4}, f1=1, f2=sys.argv[2], f4=7, f8="root"))  # hello
print(s.recv(65536)[4:])
if len(sys.argv) > 3:
    s.sendall(frame(27, {2}, f1=int(sys.argv[3]), f2=1, f3="root"))  # hold
    print(s.recv(65536)[4:])
END
    roles user
    as "$muster" submit -n 1 --hold true
    as "$muster" submit -n 1 --hold --after "$out" true
    own=$out
    as "$muster" release "$own"
    python3 "$tmp/liar.py" "$tmp/open/ctl" client "$own" >"$tmp/.liar" 2>&1 || note "$(cat "$tmp/.liar")"
    like "$("$muster" status "$own" --json)" '"held_by":"daemon"' "the name that somebody says he has is not believed" || note "$(cat "$tmp/.liar")"
    # who has no role cannot keep others out
    roles none "user nobody = admin"
    python3 -c 'import os, pwd, socket, sys, time
me = pwd.getpwnam("daemon")
os.setgroups([])
os.setgid(me.pw_gid)
os.setuid(me.pw_uid)
v = []
for i in range(1000):
    s = socket.socket(socket.AF_UNIX)
    s.setblocking(False)
    try:
        s.connect(sys.argv[1])
    except OSError:
        time.sleep(0.01)
    v.append(s)
    if i > 400: v.pop(0).close()
time.sleep(600)' "$tmp/open/ctl" &
    many=$!
    wait_for 30 logged 'there are too many'
    ok $? "more connections than one may have are refused"
    run_cmd setpriv --reuid nobody --clear-groups --regid "$(id -g nobody)" env MUSTER_POOL="$tmp/open/ctl" \
        MUSTER_HOME="$tmp/nobody" MUSTER_RUN_ROOT="$tmp/nobody" timeout 60 "$muster" jobs
    is "$rc" 0 "a thousand connections of somebody without a role keep nobody else out" || note "$err"
    run_cmd env MUSTER_POOL="$tmp/open/ctl" timeout 60 "$muster" jobs
    is "$rc" 0 "nor the pool's own account" || note "$err"
    kill "$many"
    wait "$many" 2>/dev/null
    [ "$(grep -c 'there are too many' "$log")" -le 60 ]
    ok $? "and the log is not filled with them"
    roles admin
    python3 "$tmp/liar.py" "$tmp/open/ctl" agent >"$tmp/.liar" 2>&1
    like "$(cat "$tmp/.liar")" "no daemon of another account joins" "an agent of another account is not let in"
    rules <<<"others = admin"
    as "$muster" jobs
    like "$rc $err" "^[12] muster jobs: MUSTER_POOL: .*$tmp/open/ctl" "without a socket nobody comes in"
fi
read -ra left <<<"$("$muster" jobs --json | python3 -c 'import json,sys; print(*(j["id"] for j in json.load(sys.stdin)["jobs"]))')"
"$muster" cancel --force "${left[@]}" >/dev/null
stop_pool
[ ! -e "$tmp/open/ctl" ]
ok $? "the socket goes with the controller"
done_testing
