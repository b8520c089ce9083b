#!/usr/bin/env bash
# Processes of ranks that belong to another user: root's pool ends them, another user's says what it cannot end.
. "$(dirname "$0")/../lib.sh"
[ "$(id -u)" = 0 ] || skip_all "needs root to become other users"
nobody=65534

gone() { [ "$(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -c1)" = "" ]; }
owned() { [ -n "$1" ] && [ "$(stat -c %u "/proc/$1" 2>/dev/null)" = "$2" ]; }
up() { # UID FILE...: all are there, and are that user's
    local f uid=$1
    shift
    for f in "$@"; do [ -s "$f" ] && owned "$(cat "$f")" "$uid" || return 1; done
}

mkdir "$tmp/d"
run_cmd "$muster" submit -n 1 sh -c 'o=$1 d=$2 u=$3
    setsid $o $u $d/tagged &
    setsid $o $u $d/bare -i &
    (setsid $o $u $d/orphan -i &)
    su -s /bin/sh nobody -c "sleep 61.$4" &
    su -l -s /bin/sh nobody -c "sleep 62.$4" &
    exec $o $u $d/rank' - "$B/tests/fault/owner" "$tmp/d" $nobody $$
is "$rc" 0 "root's pool has a job that becomes others" || note "$err"
both() { pgrep -u $nobody -f "^sleep 61.$$" && pgrep -u $nobody -f "^sleep 62.$$"; } >/dev/null
wait_for 30 up $nobody "$tmp"/d/{tagged,bare,orphan,rank} && wait_for 30 both
ok $? "its rank, children, children without environment, and su's run as another user" || note "$(ls "$tmp/d")"
others=$(cat "$tmp"/d/* && pgrep -u $nobody -f "^sleep 6[12].$$")
run_cmd "$muster" cancel "$out"
all_gone() { local p; for p in $others; do gone "$p" || return 1; done; }
wait_for 30 all_gone
ok $? "a cancel ends all of them" || note "$(ps -o pid,ppid,user,args $others)"

# A pool of nobody's own, with a program that makes root of it.
home=$tmp/nobody
mkdir -m 711 "$home" "$home/bin"
chmod 711 "$tmp"
cp "$muster" "$B/tests/fault/owner" "$home/bin/"
chown root:$nobody "$home/bin/owner"
chmod 4750 "$home/bin/owner"
mkdir "$home/d"
chown $nobody "$home" "$home/d"
as_nobody() { (cd "$home" && exec setpriv --reuid $nobody --regid $nobody --clear-groups \
    env -u TMPDIR HOME="$home" MUSTER_HOME="$home/state" MUSTER_RUN_ROOT="$home/run" timeout -k 5 60 "$@"); }
if ! as_nobody "$home/bin/muster" --version >/dev/null 2>&1; then
    note "another user cannot reach $home"
fi
as_nobody "$home/bin/owner" 0 "$home/d/probe" &
probe=$!
tried() { [ -s "$home/d/probe" ] || ! kill -0 $probe 2>/dev/null; }
wait_for 30 tried
if ! owned "$(cat "$home/d/probe" 2>/dev/null)" 0; then
    skip "set-user-ID programs have no effect here" 7
    wait
    done_testing
fi
kill -KILL "$(cat "$home/d/probe")"
wait
run_cmd as_nobody "$home/bin/muster" run -n 1 sh -c 'setsid "$1" 0 "$2" -i & until [ -s "$2" ]; do sleep 0.02; done' \
    - "$home/bin/owner" "$home/d/child"
child=$(cat "$home/d/child")
owned "$child" 0
ok $? "a job of another user leaves a process of root's" || note "$out" "$err"
is "$rc" 0 "and ends"
like "$err" "process that ranks started cannot be ended, as another user's: $child \(owner\) of user root; end it by hand" \
    "and says which process and whose"
run_cmd as_nobody "$home/bin/muster" submit -n 1 "$home/bin/owner" 0 "$home/d/rank"
wait_for 30 up 0 "$home/d/rank"
ok $? "a rank that becomes root's"
run_cmd as_nobody "$home/bin/muster" cancel --force "$out"
over() { ! as_nobody "$home/bin/muster" jobs | grep -q owner; }
wait_for 30 over
ok $? "cannot be ended either, and is not waited for" || note "$(as_nobody "$home/bin/muster" jobs --all)"
wait_for 30 grep -q "cannot be ended, as another user's: $(cat "$home/d/rank") (owner) of user root" "$home"/state/*/log/keeper.2.log
ok $? "which the keeper's log says"
kill -KILL "$child" "$(cat "$home/d/rank")"
no_daemons() { ! grep -qszxF "MUSTER_HOME=$home/state" /proc/[0-9]*/environ; }
wait_for 30 no_daemons
ok $? "nothing of that pool is left" || note "$(pgrep -u $nobody -a)"
done_testing
