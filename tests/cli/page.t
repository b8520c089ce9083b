#!/usr/bin/env bash
# slow
# The status page in a browser: what it shows without and with a script, that it keeps itself up to date, that names stay
# text, and a large pool. PAGE_PICTURES=DIR keeps pictures for people to look at.
. "$(dirname "$0")/../lib.sh"
export MUSTER_IDLE=0 TMPDIR=$tmp
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome) || skip_all "chromium is not installed"
run_cmd timeout 60 "$muster" controller --metrics nowhere
[[ $err != *"needs libmicrohttpd"* ]] || skip_all "built without libmicrohttpd"
pictures=${PAGE_PICTURES:-$tmp/pictures}
mkdir -p "$pictures" "$tmp/large"
port=$(free_port)
page() { # NAME: the python on standard input passes; it has b (a browser), url, and muster(WORDS...)
    {
        cat <<'P'
import json, os, signal, subprocess, sys, time
sys.path.insert(0, "tests/cli")
from browser import Browser
program, url, pictures, tool = sys.argv[1:5]
def muster(*words, **more):
    return subprocess.run([tool, *words], capture_output=True, stdin=subprocess.DEVNULL, timeout=60, check=True, **more).stdout.decode().strip()
with Browser(program, 120) as b:
P
        sed 's/^/    /'
    } >"$tmp/page.py"
    local t=$SECONDS
    timeout -k 5 150 python3 "$tmp/page.py" "$browser" "${url:-http://127.0.0.1:$port}" "$pictures" "$muster" >"$tmp/page.out" 2>&1
    ok $? "$1" 2 && note "$((SECONDS - t)) s" || note "$(tail -n 5 "$tmp/page.out")" "$(tail -n 5 "$tmp/ctl.err" 2>/dev/null)"
}
serve() {
    rm -f "$tmp/ctl.err"
    "$muster" controller --foreground --metrics "$port" 2>"$tmp/ctl.err" &
    wait_for 30 grep -qs "metrics are served at" "$tmp/ctl.err"
}
serve
ok $? "it is served" || note "$(cat "$tmp/ctl.err")"

page "without jobs" <<'P'
b.open(url)
b.until("document.body.dataset.updates >= 2")
assert b.text("#live").startswith("live, "), b.text("#live")
assert b.text("#sum-nodes") == "1 of 1" and b.text("#sum-running") == "0", b.text("main")
assert b.value("document.getElementById('running').hidden") and b.text("#running-none") == "Nothing runs."
assert not b.troubles, b.troubles
P

# Three jobs: one makes steps, one has a name that would like to be more, one is held
page "three jobs appear, and are kept up to date" <<'P'
b.look(1200, 1000)
b.open(url)
b.until("document.body.dataset.updates >= 1")
bad = b"<script>pwned=1</script><img src=x onerror=pwned=1>\"'&amp;\n\x1b[31m\xff\xe2\x80\xae\xe2\x82\xac"
steps = [os.environ["B"] + "/examples/train_lm", "--no-ckpt", "--steps", "1000000000", "--log-every", "100000", "--hidden", "8", "--embed", "4",
         "--context", "4", "--layers", "1", "--batch", "4"]
assert muster("submit", "-n", "2", "--oversubscribe", "--name", "stepper", *steps) == "1"
assert muster("submit", "-n", "1", "--oversubscribe", "--hold", "--name", bad, "sh", "-c", "exit 3") == "2"
assert muster("submit", "-n", "1", "--hold", "--name", "later", "true") == "3"
b.until("document.getElementById('running').tBodies[0].rows.length === 1 && document.getElementById('waiting').tBodies[0].rows.length === 2")
b.until("document.querySelector('#running tbody').rows[0].cells[6].textContent > 0")
row = b.rows("running")[0]
assert row[0] == "1" and row[1] == "stepper" and row[3] == "running" and row[4] == "2", row
b.until("Number(document.querySelector('#running tbody').rows[0].cells[6].textContent) > %s" % row[6])
b.until("Number(document.querySelector('#running tbody').rows[0].cells[7].textContent) > 0")
b.until("document.querySelector('#running svg .curve')")
waiting = b.rows("waiting")
shown = "<script>pwned=1</script><img src=x onerror=pwned=1>\"'&amp;\\n\\x1b[31m\\xff\\xe2\\x80\\xae\u20ac"
assert [r[2] for r in waiting] == [shown, "later"] and waiting[0][4] == "held", waiting
assert b.value("document.querySelectorAll('main script, main img').length") == 0 and b.value("typeof pwned") == "undefined"
assert b.rows("events")[-1][1] == "submitted", b.rows("events")
b.picture(pictures + "/desktop.png")

# a rank dies: a recovery, without loading the page again
b.value("window.same = 1")
pids = subprocess.run(["pgrep", "-f", "train_lm.*--no-ckpt"], capture_output=True, text=True).stdout.split()
mine = [p for p in pids if ("MUSTER_HOME=" + os.environ["MUSTER_HOME"]).encode() in open("/proc/%s/environ" % p, "rb").read().split(b"\0")
        and b"RANK=0" in open("/proc/%s/environ" % p, "rb").read().split(b"\0")]
assert len(mine) == 1, mine
os.kill(int(mine[0]), signal.SIGKILL)
b.until("document.getElementById('sum-recoveries').textContent === '1'")
b.until("document.querySelector('#running tbody').rows[0].cells[9].textContent === '1'")
b.until("[...document.querySelectorAll('#events td')].some(c => c.textContent === 'rank-lost')")
b.until("document.querySelector('.chart .mark')")
assert b.value("same") == 1

# its own page
b.open(url + "/job/1")
b.until("document.body.dataset.updates >= 1")
assert b.text("#sum-state") == "running" and b.text("#sum-restarts") == "1", b.text("main")
assert b.text("#sum-save") == "-", b.text("main")
b.until("document.querySelector('#parts tbody')?.rows[0]?.cells[4].textContent.trim() === '2 of 2'")
parts = b.rows("parts")
assert len(parts) == 1 and parts[0][0] == "0-1" and parts[0][4] == "2 of 2", parts
b.until("document.querySelector('.chart .mark') && document.querySelector('.chart .curve')")
assert not b.troubles, b.troubles
b.picture(pictures + "/job.png")
b.look(390, 844, dark=True, phone=True)
b.picture(pictures + "/job-phone-dark.png")
P

page "without a script" <<'P'
b.scripts(False)
b.look(390, 844, phone=True)
b.open(url)
assert b.text("#sum-nodes") == "1 of 1" and b.text("#sum-running") == "1" and b.text("#sum-recoveries") == "1", b.text("main")
row = b.rows("running")[0]
assert row[1] == "stepper" and int(row[6]) > 0 and row[9] == "1", row
assert len(b.rows("waiting")) == 2 and b.text("#map li b") and b.text("#live").startswith("as of 2"), b.text("#live")
step = int(row[6])
b.until("Number(document.querySelector('#running tbody').rows[0].cells[6].textContent) > %d" % step) # it loads itself again
b.open(url + "/job/2")
assert b.text("#name").startswith("<script>pwned") and b.text("#sum-state") == "held", b.text("main")
b.picture(pictures + "/no-script.png")
P

page "a controller that goes and comes back" <<'P'
b.look(1200, 900, dark=True)
b.open(url)
b.until("document.body.dataset.updates >= 1")
pid = [p for p in os.listdir("/proc") if p.isdigit() and os.path.exists("/proc/%s/cmdline" % p) and
       open("/proc/%s/cmdline" % p, "rb").read().split(b"\0")[1:3] == [b"controller", b"--foreground"] and
       ("MUSTER_HOME=" + os.environ["MUSTER_HOME"]).encode() in open("/proc/%s/environ" % p, "rb").read().split(b"\0")]
assert len(pid) == 1, pid
b.offline(True)
b.until("document.getElementById('live').className === 'off'")
assert "no answer since" in b.text("#live"), b.text("#live")
os.kill(int(pid[0]), signal.SIGKILL)
b.offline(False)
muster("jobs", env=dict(os.environ, MUSTER_METRICS=url.split(":")[-1])) # there is another one
b.until("document.getElementById('live').className === 'on' && document.getElementById('sum-nodes').textContent === '1 of 1'")
b.until("document.querySelector('#running tbody').rows.length === 1")
b.picture(pictures + "/desktop-dark.png")
P
end() { timeout 60 "$muster" controller --stop --force >/dev/null 2>&1 && wait_for 5 no_leftovers; }
wait_for 60 end # one that an agent has started may have waited for the lock of this one

# With a token: a password, then words
(umask 077 && head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$MUSTER_HOME/metrics.token")
serve
"$muster" submit -n 1 --hold --name secret true >/dev/null
TOKEN=$(<"$MUSTER_HOME/metrics.token") page "a token is a password" <<'P'
b.login("anybody", os.environ["TOKEN"])
b.open(url)
b.until("document.body.dataset.updates >= 2")
assert "Reason" in b.text("#waiting thead") and "held" in b.rows("waiting")[0][-1], b.rows("waiting")
assert b.rows("events")[0][-1].endswith("of true"), b.rows("events")
P
wait_for 60 end

# A thousand nodes and more jobs, as the unit test makes them
"$B/tests/unit/launcher_page" "$tmp/large" >/dev/null
ok $? "the documents of a large pool"
large=$(free_port)
python3 -m http.server --bind 127.0.0.1 --directory "$tmp/large" "$large" >/dev/null 2>&1 &
server=$!
wait_for 30 curl -s -o /dev/null "http://127.0.0.1:$large/"
url=http://127.0.0.1:$large page "a thousand nodes and jobs" <<'P'
for width, phone in ((390, True), (1200, False)):
    b.look(width, 844, phone=phone)
    b.open(url)
    b.until("document.body.dataset.updates >= 1")
    assert b.value("document.querySelectorAll('#map li').length") == 1000
    assert len(b.rows("running")) == 1000 and len(b.rows("waiting")) == 500
    assert b.rows("running")[7][1] == "n<7>" and b.rows("waiting")[0][3] == "u<", b.rows("waiting")[0]
    assert b.value("document.documentElement.scrollWidth") <= width, "wider than the screen"
    took = b.value("(async () => { const n = Number(document.body.dataset.updates), t = performance.now();"
                   " while (Number(document.body.dataset.updates) === n) await new Promise(r => setTimeout(r, 5)); return performance.now() - t })()")
    assert took < 60000, took
    b.picture(pictures + "/large-%d.png" % width)
assert not b.troubles, b.troubles
P
kill "$server" 2>/dev/null
wait "$server" 2>/dev/null
[ "$(find "$pictures" -name '*.png' -size +8k | wc -l)" -ge 6 ]
ok $? "pictures were taken"
is "$(find "$tmp" -maxdepth 1 -name 'browser-*')" "" "nothing is left of the browser"
done_testing
