"""Restart after a killed rank, measured from outside: time from kill(2) to the first step that the next attempt
completed (the example job writes the wall clock after each step; loading of model and checkpoint is included).

Peers: `muster run`, and `until mpirun ...; do :; done` with Open MPI tuned (shared-memory transports only, no grace
before SIGKILL). Both run the same binary with the same checkpoints. Trials alternate; the seed fixes victims and
moments. Also printed: `muster run -n 2 true` and a 2-rank MPI hello against mpirun."""
import glob
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)) + "/..")
from tap import wait_for

B, TRIALS, SEED = os.path.abspath(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
MUSTER, TRAIN = B + "/bin/muster", B + "/examples/train_lm"
RANKS = 4
ENV = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", MUSTER_IDLE="60")
MPIRUN = ["mpirun", "--oversubscribe", "--bind-to", "none", "--mca", "btl", "self,vader", "--mca", "pml", "ob1",
          "--mca", "odls_base_sigkill_timeout", "0", "--mca", "mpi_yield_when_idle", "1"]


KILLS = []


def debris():
    """What a killed mpirun leaves behind; muster's ranks use directories of their own."""
    return {p for p in glob.glob("/dev/shm/vader_segment.*") + glob.glob("/tmp/ompi.*") if os.stat(p).st_uid == os.getuid()}


BEFORE = debris()


def pids_of(marker):
    found = []
    for p in filter(str.isdigit, os.listdir("/proc")):
        try:
            args = open("/proc/%s/cmdline" % p, "rb").read().split(b"\0")
        except OSError:
            continue
        if args and args[0] == TRAIN.encode() and marker.encode() in args:
            found.append(int(p))
    return found


def steps(path):
    try:
        return [(float(a), int(b)) for a, b in (line.split() for line in open(path))]
    except (OSError, ValueError):
        return []


def trial(kind, rng, dir):
    path = tempfile.mkdtemp(dir=dir)
    marker = path + "/steps"
    prog = [TRAIN, "--steps", "100000", "--log-every", "1000", "--step-time-file", marker]
    if kind == "muster":
        cmd = [MUSTER, "run", "-n", str(RANKS), "--oversubscribe", "--bind", "none", "--ckpt-dir", path + "/ckpt", "-q"] + prog
    else:
        loop = " ".join(MPIRUN + ["-np", str(RANKS)] + prog + ["--ckpt", "interval=20steps,dir=" + path + "/ckpt"])
        cmd = ["sh", "-c", "until " + loop + "; do :; done"]
    job = subprocess.Popen(cmd, env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        if not wait_for(lambda: len(steps(marker)) >= 25, 60, 0.002):
            raise RuntimeError(kind + ": does not train")
        time.sleep(rng.uniform(0, 1.5))
        victims = pids_of(marker)
        if len(victims) != RANKS:
            raise RuntimeError("%s: %d ranks found" % (kind, len(victims)))
        victim = rng.choice(victims)
        t = time.time()
        os.kill(victim, signal.SIGKILL)
        # ranks of the old attempt may still finish a step: the next attempt is known by a step number that goes back,
        # or by a gap in which its ranks are new
        seen = len(steps(marker))

        def restarted():
            if set(pids_of(marker)) & set(victims):
                return None
            got = [s for s in steps(marker)[seen:] if s[0] > t]
            fresh = [s for i, s in enumerate(got) if s[0] - (got[i - 1][0] if i else t) > 0.1 or
                     (i and s[1] <= got[i - 1][1])]
            return fresh[0] if fresh else None

        first = wait_for(restarted, 60, 0.002)
        if not first:
            raise RuntimeError(kind + ": did not come back in 60 s")
        KILLS.append((kind, t))
        return first[0] - t
    finally:
        if kind == "muster":
            job.send_signal(signal.SIGTERM)
        else:
            os.killpg(job.pid, signal.SIGKILL)
        job.wait(timeout=30)
        wait_for(lambda: not pids_of(marker), 20)
        for p in pids_of(marker):
            os.kill(p, signal.SIGKILL)


def seconds(cmd):
    t = time.time()
    subprocess.run(cmd, env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return time.time() - t


def row(name, a, b):
    ma, mb = statistics.median(a), statistics.median(b)
    print("%-34s %8.3f %8.3f %8.3f   %8.3f %8.3f %8.3f   %6.2f" %
          (name, ma, min(a), max(a), mb, min(b), max(b), ma / mb), flush=True)


def main():
    dir = tempfile.mkdtemp(prefix="muster-bench-")
    ENV["MUSTER_HOME"] = dir + "/home"
    rng = random.Random(SEED)
    try:
        print("%-34s %26s   %26s   %6s" % ("seconds: median min max", "muster", "mpirun, tuned", "ratio"))
        times = {"muster": [], "mpirun": []}
        for i in range(TRIALS):
            for kind in times:
                times[kind].append(trial(kind, rng, dir))
            print("trial %d of %d: muster %.3f mpirun %.3f" % (i + 1, TRIALS, times["muster"][-1], times["mpirun"][-1]),
                  file=sys.stderr, flush=True)
        row("kill to first step, %d ranks, n=%d" % (RANKS, TRIALS), times["muster"], times["mpirun"])
        events, lost = [], []
        jobs = json.loads(subprocess.check_output([MUSTER, "jobs", "--all", "--json"], env=ENV))["jobs"]
        for j in jobs:
            for e in json.loads(subprocess.check_output([MUSTER, "events", str(j["id"]), "--json"], env=ENV))["events"]:
                events.append(e["kind"])
                if e["kind"] == "rank-lost":
                    lost.append(e["t"])
        seen = [1e3 * min(t - k for t in lost if t > k - 0.01) for kind, k in KILLS if kind == "muster"]
        print("muster's detection, kill to event: median %.1f ms, worst %.1f ms" % (statistics.median(seen), max(seen)))
        print("muster's events: %d rank-lost, %d restored" % (events.count("rank-lost"), events.count("restored")))
        seconds([MUSTER, "run", "-n", "2", "true"])  # the controller is up
        hello = B + "/tests/mpi/hello"
        cases = [("launch: -n 2 true", ["true"]), ("launch: 2-rank MPI hello", [hello])]
        for name, prog in cases:
            a, b = [], []
            for _ in range(15):
                a.append(seconds([MUSTER, "run", "-n", "2"] + prog))
                b.append(seconds(["mpirun", "-np", "2"] + prog))
            row(name, a, b)
    finally:
        subprocess.run([MUSTER, "controller", "--stop", "--force"], env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        shutil.rmtree(dir, ignore_errors=True)
        for path in debris() - BEFORE:
            shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)


main()
