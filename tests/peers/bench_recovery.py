"""Recovery of a job over several hosts, measured from outside: time from the fault to the first step that the next
attempt completed. The example job writes the wall clock after each step, to a file for each attempt; the start of the
ranks, the model and the checkpoint are included. Each trial is a run of its own, which must end with the weights of an
undisturbed one.

Peers: `muster run` with a spare host, and a shell loop around mpirun on the first four hosts that answer, with Open MPI
tuned (no grace before SIGKILL, keepalives of a second, its network named). Both run the same binary with the same
options on the same five hosts. Trials alternate; the seed fixes victims and moments."""
import glob
import math
import os
import random
import shutil
import statistics
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)) + "/../cluster")
import faults as f

TRIALS, SEED = int(os.environ.get("TRIALS", "20")), int(os.environ.get("SEED", "1"))
LIMIT = 60  # seconds; who has not come back then never does
STEPS, INTERVAL = 240, 20
HANG = 3  # seconds, deadline for a rank that is stopped
PEERS = ("muster", "mpirun")
TMP = os.environ["MUSTER_HOME"] + "/../bench"

# name: what happens, bounds in seconds for muster's median and worst
FAULTS = {
    "rank": ("a rank is killed", 0.6, 1.2),
    "keeper": ("a node's keeper or orted is killed", 0.6, 1.2),
    "agent": ("a node's agent or orted is killed", None, None),
    "host": ("a host dies, connections close", 0.6, 1.2),
    "power": ("a host loses its power, silently", None, 2.0),
    "cut": ("a host's link is cut silently", None, 2.0),
    "stop": ("a rank is stopped, --hang-timeout %d" % HANG, None, HANG + 1.0),
}


def strike(fault, peer, rng):
    """Does it to a random host of the job; the host and the time."""
    host = rng.choice([h for h in f.HOSTS if f.processes("rank", h)])
    if fault in ("rank", "stop"):
        pid = rng.choice(f.processes("rank", host))
    elif fault in ("keeper", "agent"):
        pid = f.processes(fault if peer == "muster" else "orted", host)[0]
    t = time.time()
    if fault in ("host", "power", "cut"):
        f.verb({"host": "crash_host", "power": "kill_host", "cut": "cut"}[fault], host)
    else:
        os.kill(pid, f.signal.SIGSTOP if fault == "stop" else f.signal.SIGKILL)
    return host, t


def heal(fault, host):
    if fault in ("host", "power"):
        f.verb("start_host", host)
    elif fault == "cut":
        f.verb("heal", host)


def clean():
    """What mpirun leaves: processes on hosts that it has lost, and files."""
    orphans = [p for kind in ("rank", "orted") for p in f.processes(kind)]
    for p in orphans:
        f.kill(p)
    for h in f.HOSTS:
        root = "/proc/%d/root" % f.first_process(h)
        for path in glob.glob(root + "/dev/shm/vader_segment.*") + glob.glob(root + "/tmp/ompi.*"):
            shutil.rmtree(path, ignore_errors=True) if os.path.isdir(path) else os.unlink(path)
    return len(orphans)


def gap(steps, begin, end):
    """The longest time between two steps."""
    walls = [s[1] for s in steps if begin <= s[1] <= end]
    return max([b - a for a, b in zip(walls, walls[1:])] or [math.nan])


def parts(job, t):
    """From the fault to its event, to the next attempt's start, to its first step."""
    times = []
    for kinds in (("rank-lost", "keeper-lost", "node-lost", "hang"), ("attempt-start",), ("first-step",)):
        after = [e["t"] for e in job.events() if e["kind"] in kinds and e["t"] > (times or [t - 0.01])[-1]]
        if not after:
            return None
        times.append(min(after))
    return [times[0] - t, times[1] - times[0], times[2] - times[1]]


class Results:
    def __init__(self):
        self.times = {p: [] for p in PEERS}
        self.parts, self.calm, self.orphans = [], [], 0


def trial(fault, peer, rng, want, res, name):
    job = f.Job(peer, TMP + "/" + name, STEPS, INTERVAL,
                ("--restarts", "100", *(("--hang-timeout", str(HANG)) if fault == "stop" else ())))
    host = None
    try:
        job.at(rng.randrange(INTERVAL + 1, STEPS // 2))
        time.sleep(rng.uniform(0, 0.05))
        attempt = job.attempt()
        host, t = strike(fault, peer, rng)
        if fault == "agent" and peer == "muster":
            job.at(STEPS)
            took = gap(job.steps(), t - 0.5, t + 3)
            res.calm.append(gap(job.steps(), 0, t))
            if job.attempt() != attempt:
                raise f.Fault("an agent was killed and the job was restarted")
        else:
            first = job.next_step(attempt, LIMIT)
            took = first - t if first else math.inf
        heal(fault, host)
        host = None
        if took < math.inf:
            got = job.end(120)
            if got != want:
                raise f.Fault("%s after %s: weights %s, undisturbed %s" % (peer, fault, got, want))
            if peer == "muster" and fault != "agent":
                res.parts.append(parts(job, t))
    except f.Fault as e:
        raise f.Fault("%s\n%s\n%s" % (e, f.muster("events", str(job.id())) if peer == "muster" else "", f.logs()))
    finally:
        if host:
            heal(fault, host)
        job.stop()
        left = clean()
    if peer == "muster" and left:
        raise f.Fault("%d processes of the job are left after %s" % (left, fault))
    res.orphans += left > 0
    res.times[peer].append(took)
    shutil.rmtree(job.dir)
    f.all_up()


def numbers(v):
    return " ".join("%8.3f" % x if x < math.inf else "%8s" % (">%d" % LIMIT) for x in (statistics.median(v), min(v), max(v)))


def row(fault, res):
    what, median, worst = FAULTS[fault]
    a, b = res.times["muster"], res.times["mpirun"]
    ratio = "%7.3f" % (statistics.median(a) / statistics.median(b)) if b and statistics.median(b) < math.inf else "      -"
    bound = "-"
    if worst:
        good = (not median or statistics.median(a) <= median) and max(a) <= worst
        bound = "%s / %.1f %s" % (median or "-", worst, "held" if good else "NOT HELD")
    if fault == "agent":
        what = "agent: longest gap of steps | orted"
    print("%-36s %s   %s   %s   %s" % (what, numbers(a), numbers(b) if b else "%26s" % "never notices", ratio, bound))
    if res.calm:
        print("    longest gap of steps before the agent was killed: median %.3f, worst %.3f" %
              (statistics.median(res.calm), max(res.calm)))
    known = [p for p in res.parts if p]
    if known:
        print("    muster: fault to event %.3f (worst %.3f), to next attempt %.3f, to first step %.3f (medians)" %
              (statistics.median(p[0] for p in known), max(p[0] for p in known), statistics.median(p[1] for p in known),
               statistics.median(p[2] for p in known)))
    if res.orphans:
        print("    mpirun: processes were left on hosts after %d of %d trials" % (res.orphans, len(b)))
    sys.stdout.flush()


def main():
    names = os.environ.get("FAULTS", ",".join(FAULTS)).split(",")
    for n in names:
        if n not in FAULTS:
            raise f.Fault("FAULTS: no fault '%s'; there are %s" % (n, ",".join(FAULTS)))
    f.pool()
    want = None
    for peer in PEERS:
        job = f.Job(peer, TMP + "/calm-" + peer, STEPS, INTERVAL)
        got = job.end(120)
        want = want or got
        if got != want:
            raise f.Fault("%s: weights %s, muster's %s" % (peer, got, want))
        clean()
    print("seed %d, %d trials each, %d steps, load %s" % (SEED, TRIALS, STEPS, " ".join("%.1f" % x for x in os.getloadavg())))
    print("%-36s %26s   %26s   %7s   %s" % ("seconds: median min max", "muster", "mpirun, tuned, in a loop", "ratio",
                                          "bound: median / worst"))
    for fault in names:
        rng = random.Random("%d %s" % (SEED, fault))
        res = Results()
        for i in range(TRIALS):
            for peer in PEERS[:1] if fault == "stop" else PEERS:
                trial(fault, peer, rng, want, res, "%s-%d-%s" % (fault, i, peer))
            print("%s, trial %d of %d: %s" % (fault, i + 1, TRIALS, " ".join("%s %.3f" % (p, t[-1]) for p, t in res.times.items()
                                                                         if t)), file=sys.stderr, flush=True)
        row(fault, res)


try:
    main()
except f.Fault as e:
    sys.exit("bench_recovery.py: seed %d: %s" % (SEED, e))
finally:
    f.muster("controller", "--stop", "--force", check=False)
