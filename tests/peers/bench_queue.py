"""What a long queue costs, measured from outside with a real controller, one job at a time on all slots of this machine:
the commands from their start to their end; from the last thing that a job's program does to the controller's decision
that another one starts, and to the first thing that its program does (shells that print the time; processes that end
and start are part of it). The same with a short queue is printed beside it."""
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

B, TRIALS, QUEUED = os.path.abspath(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
MUSTER = B + "/bin/muster"
DIR = tempfile.mkdtemp(prefix="muster-bench-")
ENV = dict(os.environ, MUSTER_HOME=DIR + "/home", MUSTER_RUN_ROOT=DIR + "/run", MUSTER_IDLE="60", TIMES=DIR + "/times")
PROGRAM = '[ "$RANK" = 0 ] || exit 0; s=$EPOCHREALTIME; echo "$MUSTER_JOB $s $EPOCHREALTIME" >>"$TIMES"'
BOUNDS = {"muster submit": 20, "muster jobs": 50, "end of a job to the next's start": 50}


def run(*args):
    t = time.monotonic()
    out = subprocess.run([MUSTER, *args], env=ENV, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    return 1e3 * (time.monotonic() - t), out.stdout


def row(name, queued, v):
    bound = BOUNDS.get(name)
    v = sorted(v)
    print("%-36s %7d %5d %9.2f %9.2f %9.2f   %s" % (name, queued, len(v), statistics.median(v), v[0], v[-1],
          "" if not bound else "< %d ms: %s" % (bound, "holds" if statistics.median(v) < bound else "does not hold")), flush=True)


def submit(slots, *words):
    return int(run("submit", "-n", str(slots), *words)[1])


def times():
    try:
        return [[float(x) for x in line.split()] for line in open(ENV["TIMES"])]
    except OSError:
        return []


def case(slots, queued):
    """Behind a job that has all slots so many wait, then they run one after another."""
    open(ENV["TIMES"], "w").close()
    first = submit(slots, "sleep", "100000")
    for i in range(queued):
        submit(slots, "bash", "-c", PROGRAM)
        if sys.stderr.isatty() and i % 50 == 49:
            print("\r%d of %d jobs queued " % (i + 1, queued), end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    row("muster submit", queued, [run("submit", "-n", str(slots), "bash", "-c", PROGRAM)[0] for _ in range(TRIALS)])
    row("muster jobs", queued, [run("jobs")[0] for _ in range(TRIALS)])
    row("muster jobs --json", queued, [run("jobs", "--json")[0] for _ in range(TRIALS)])
    run("cancel", "--force", str(first))
    end = time.monotonic() + 120
    while len(times()) < TRIALS + 1:
        if time.monotonic() > end:
            raise SystemExit("the queue does not get on")
        time.sleep(0.05)
    ran = times()[:TRIALS + 1]
    began = []
    for a in ran[1:]:
        began += [e["t"] for e in json.loads(run("events", "%d" % a[0], "--json")[1])["events"] if e["kind"] == "attempt-start"]
    row("end of a job to the next's start", queued, [1e3 * (t - a[2]) for a, t in zip(ran, began)])
    row("  and to its program's first line", queued, [1e3 * (b[1] - a[2]) for a, b in zip(ran, ran[1:])])
    left = [str(j["id"]) for j in json.loads(run("jobs", "--json")[1])["jobs"]]
    for i in range(0, len(left), 200):
        subprocess.run([MUSTER, "cancel", "--force", *left[i:i + 200]], env=ENV, capture_output=True)


def main():
    run("run", "-n", "1", "true")
    slots = json.loads(run("nodes", "--json")[1])["nodes"][0]["slots"]
    print("%-36s %7s %5s %9s %9s %9s" % ("milliseconds", "queued", "n", "median", "min", "max"))
    case(slots, 10)
    case(slots, QUEUED)


try:
    main()
finally:
    subprocess.run([MUSTER, "controller", "--stop", "--force"], env=ENV, capture_output=True)
    shutil.rmtree(DIR, ignore_errors=True)
