#!/usr/bin/env bash
# muster top: one picture where nobody looks, a picture after the other on a terminal, which is then as it was.
. "$(dirname "$0")/../lib.sh"
export tmp
here=$(uname -n)

run_cmd timeout 60 "$muster" top
is "$rc:$err" "0:" "without a pool"
like "$out" $'nodes: 0 of 0 up.*\nno nodes\n.*no jobs are queued or running' "there is nothing to see"
[ ! -e "$MUSTER_HOME" ]
ok $? "and none is made"

"$muster" run -n 1 --name stepper "$B/examples/train_lm" --no-ckpt --steps 1000000000 --log-every 100000 --hidden 8 --embed 4 \
    --context 4 --layers 1 --batch 4 >"$tmp/run.out" 2>&1 &
run=$!
wait_for 30 sh -c "$muster jobs --json | grep -q '\"step\":[0-9]'"
ok $? "a job makes steps" || note "$(cat "$tmp/run.out")"
"$muster" submit -n 1 --hold true >/dev/null
run_cmd timeout 60 "$muster" top
is "$rc:$err" "0:" "with a job"
like "$out" "slots: 1 of [0-9]+ used.* jobs: 1 running, 1 waiting" "sums"
like "$out" "NODE +STATE.*$here +up +[0-9]+ +1 +#" "the node"
like "$out" $'JOB +NAME.* SAVE +TIME.*\n +1 +stepper +[a-z]+ +running +1 +[^ ]+ +[0-9]+ +[0-9.]+ +0 .*\n +2 +true .* queued' "the jobs, with steps a second"
unlike "$out" $'\033' "nothing but text"
like "$out" $'\n *AGO +EVENT +JOB +RANK +NODE +DETAIL\n.* submitted +2 .*first-step +1 ' "the newest events"
run_cmd timeout 60 "$muster" top --json
python3 - "$tmp/.out" <<'P'
import json, sys
j = json.load(open(sys.argv[1]))
assert j["schema"] == "muster.top/1" and j["slots"]["used"] == 1 and j["t"] > 1e9, j
job = [x for x in j["jobs"] if x["id"] == 1][0]
assert job["step_rate"] > 1 and job["restarts"] == 0, job
assert [x for x in j["jobs"] if x["id"] == 2][0]["step_rate"] is None
assert j["nodes"][0]["state"] == "up"
assert {e["kind"] for e in j["events"]} >= {"submitted", "started", "first-step"}, j["events"]
P
ok $? "top --json" || note "$out"

cat >"$tmp/terminal.py" <<'P'
"""Runs `muster top` on a terminal: KEY or -SIGNAL to end it. Prints the last picture."""
import fcntl, os, pty, select, signal, struct, sys, termios, time
how, argv = sys.argv[1], sys.argv[2:]
go, set = os.pipe()
pid, fd = pty.fork()
if pid == 0:
    os.read(go, 1)
    os.environ["TERM"] = "xterm"
    os.execv(argv[0], argv)
fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 12, 50, 0, 0))
os.write(set, b"x")
before = termios.tcgetattr(fd)
seen, asked, until = b"", 0, time.time() + 50
while time.time() < until:
    if not select.select([fd], [], [], 0.1)[0]:
        continue
    try:
        piece = os.read(fd, 65536)
    except OSError:
        break
    if not piece:
        break
    seen += piece
    if seen.count(b"\x1b[H") >= 4 and not asked: # the clearing, and three pictures
        asked = seen.count(b"\x1b[H")
        raw = termios.tcgetattr(fd)
        assert not raw[3] & termios.ICANON and not raw[3] & termios.ECHO, "it hears single keys"
        if how.startswith("-"):
            os.kill(pid, int(how[1:]))
        else:
            os.write(fd, how.encode().decode("unicode_escape").encode())
status = os.waitpid(pid, 0)[1]
assert asked, "no pictures: %r" % seen
assert os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0, status
assert b"\x1b[?1049h" in seen and seen.rstrip().endswith(b"\x1b[?25h\x1b[?1049l"), seen[-80:]
last = seen.split(b"\x1b[H")[-1].split(b"\x1b[?25h")[0]
lines = last.decode().replace("\x1b[K", "").replace("\x1b[J", "").replace("\x1b[0m", "").split("\r\n")
assert len(lines) <= 12 and max(map(len, lines)) <= 50, lines
print("\n".join(lines))
P
for how in q '\x03' -15 -1; do
    run_cmd timeout 60 python3 "$tmp/terminal.py" "$how" "$muster" top -d 0.2
    is "$rc:$err" "0:" "on a terminal, ended by $how"
done
like "$out" "muster top.*NODE.*$here.*JOB.*stepper" "the picture"
run_cmd timeout 60 python3 - "$muster" <<'P'
import os, pty, select, sys, time
pid, fd = pty.fork()
if pid == 0:
    os.environ["TERM"] = "xterm"
    os.execvp("sh", ["sh", "-c", "stty -a >$tmp/before; \"$0\" top -d 0.2; stty -a >$tmp/after; cmp $tmp/before $tmp/after && echo SAME".replace("$tmp", os.environ["tmp"]), sys.argv[1]])
seen, sent, until = b"", False, time.time() + 50
while time.time() < until:
    if not select.select([fd], [], [], 0.1)[0]:
        continue
    try:
        piece = os.read(fd, 65536)
    except OSError:
        break
    seen += piece
    if seen.count(b"\x1b[H") >= 3 and not sent:
        sent = True
        os.write(fd, b"q")
os.waitpid(pid, 0)
assert b"SAME" in seen, seen[-300:]
P
is "$rc:$err" "0:" "the terminal is set as before"
# A terminal that knows no sequences gets none
cat >"$tmp/dumb.py" <<'P'
import os, pty, sys
kind, argv = sys.argv[1], sys.argv[2:]
pid, fd = pty.fork()
if pid == 0:
    os.environ.pop("TERM", None)
    if kind:
        os.environ["TERM"] = kind
    os.execv(argv[0], argv)
seen = b""
try:
    while piece := os.read(fd, 65536):
        seen += piece
except OSError:
    pass
status = os.waitpid(pid, 0)[1]
sys.stdout.write(seen.decode())
sys.exit(os.WEXITSTATUS(status))
P
for term in dumb ''; do
    run_cmd timeout 60 python3 "$tmp/dumb.py" "$term" "$muster" top -d 0.2
    is "$rc:$err" "0:" "on a terminal with TERM='$term' it ends by itself"
    like "$out" "muster top.*NODE.*JOB +NAME.*stepper" "with a picture"
    unlike "$out" $'\033' "of nothing but text"
done
"$muster" cancel 1 2 >/dev/null
wait "$run"
run_cmd "$muster" controller --stop
done_testing
