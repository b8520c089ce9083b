#!/usr/bin/env python3
"""Faults of the test doubles of NCCL and CUDA, at random ranks and operations under muster run --on-failure=keep: every
survivor gets the typed error, with the rank and the operation, in time; nobody hangs. TAP. ROUNDS of each kind and SEED
in the environment; ONLY: a regular expression of kinds; NOISE: ms that a rank may be told later than it could be."""
import glob
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)) + "/..")
import tap
from tap import ok

B = os.path.abspath(os.environ.get("B", "build/default"))
SEED = int(os.environ.get("SEED", "0")) or random.randrange(1, 1 << 30)
tap.seed = SEED
ROUNDS = int(os.environ.get("ROUNDS", "1"))
ENODE, EPEER, ETIMEOUT, EMISMATCH, EABORTED = -9, -4, -5, -3, -6
TIMEOUT, START = 2.0, 0.5  # s
NOISE = int(os.environ.get("NOISE", "20000"))  # ms; as the machine has others to serve
AGAIN = 5  # s, from an attempt's start over a rank's death to the next one's results
PATIENT = {"MUSTER_TIMEOUT": "30", "MUSTER_NCCL_START": "10"}  # where nothing is to be late
DIR = tempfile.mkdtemp(prefix="muster-gpu-faults-")
ENV = dict(os.environ)
ENV.update(MUSTER_HOME=DIR + "/home", MUSTER_RUN_ROOT=DIR + "/run", MUSTER_IDLE="2", MUSTER_TIMEOUT=str(TIMEOUT),
           MUSTER_NCCL_START=str(START), MUSTER_CUDA_LIB=B + "/tests/doubles/libcuda.so.1",
           MUSTER_NCCL_LIB=B + "/tests/doubles/libnccl.so.2", MUSTER_KERNELS_LIB=B + "/tests/doubles/libmuster_cuda.so")
WHO = r"rank %d on \S+"
TOLD = WHO + r": (muster_\w+ in GPU memory, operation \d+ of rank \d: )?"  # by NCCL's peers, or in a call of host memory
DEAD, HANG = 1000, TIMEOUT * 1000 + 1000
told = {}  # kind: ms of each rank that was told

# kind: fault of the doubles, mode of the program, (code, text) of survivors and of the rank itself (None: it is dead, or
# as the others), ms at most, whether the operation is named. R: the rank, S: the one after it, K: the operation.
KINDS = {
    "die": ("die,rank=R,op=K", "loop 50", (EPEER, WHO + " was killed by signal 9"), None, DEAD, True),
    "late": ("", "late R K", (ETIMEOUT, WHO + " has not enqueued it in 2 s"), (ETIMEOUT, WHO + " has not enq"), HANG, True),
    "late, and the abort hangs": ("abort-hang", "late R K", (ETIMEOUT, WHO + " has not enqueued it"), (ETIMEOUT, WHO), HANG, True),
    "differs": ("", "differs R K", (EMISMATCH, WHO + " calls "), (EMISMATCH, WHO + " calls muster_broadcast"), DEAD, True),
    "never-arrives": ("never-arrives,rank=R,op=K", "loop 50", (ETIMEOUT, "all ranks have enqueued it"), (ETIMEOUT, ""), HANG, True),
    "async-error": ("async-error,rank=R,op=K", "loop 50", (EPEER, WHO + ": NCCL 2.28.9: .*remote"), (EPEER, WHO), DEAD, True),
    "cuda-error": ("cuda-error,rank=R,op=K", "loop 50", (EPEER, WHO + ": the GPU has failed: CUDA_ERROR_LAUNCH_FAILED"), (ENODE, "the GPU"), DEAD, True),
    "async-error while NCCL is at work": ("in-progress,rank=R,op=K,ms=200;async-error,rank=R,op=K", "loop 50", (EPEER, WHO + ": NCCL 2.28.9: .*remote"), (EPEER, WHO), DEAD, True),
    "cuda-error while another rank asks NCCL": ("enqueue-hang,rank=R,op=K,ms=100;cuda-error,rank=R,op=K;query-hang,rank=S,op=K,ms=400;async-error,rank=S,op=K", "loop 50", (EPEER, WHO + ": the GPU has failed: CUDA_ERROR_LAUNCH_FAILED"), (ENODE, "the GPU"), DEAD, True),
    "enqueue-error": ("enqueue-error,rank=R,op=K", "loop 50", (EPEER, WHO + ": NCCL 2.28.9: it was refused"), (ENODE, "it was refused: internal"), DEAD, True),
    "enqueue-error in a group": ("enqueue-error,rank=R,op=K", "group 50", (EPEER, WHO + ": NCCL 2.28.9: it was refused"), (ENODE, "it was refused: internal"), DEAD, True),
    "enqueue-error of one that is ahead": ("slow,rank=R,op=2,ms=300;enqueue-error,rank=R,op=K", "ahead 50", (EPEER, WHO + ": NCCL 2.28.9: it was refused"), (ENODE, "it was refused: internal"), DEAD, True),
    "differs while NCCL is at work": ("in-progress,op=K,ms=60000", "differs R K", (EMISMATCH, WHO + " calls "), (EMISMATCH, WHO + " calls muster_broadcast"), DEAD, True),
    "late while NCCL is at work": ("in-progress,op=K,ms=60000", "late R K", (ETIMEOUT, WHO + " has not enqueued it in 2 s"), (ETIMEOUT, WHO + " has not enq"), HANG, True),
    "enqueue-hang": ("enqueue-hang,rank=R,op=K,ms=4500", "loop 50", (ETIMEOUT, "it has not ended in 2 s"), (ETIMEOUT, ""), 4500 + DEAD, True),
    "die in a bucket": ("die,rank=R,op=K", "wire 50", (EPEER, WHO + " was killed by signal 9"), None, DEAD, None),
    "never-arrives in a bucket": ("never-arrives,rank=R,op=K", "wire 50", (ETIMEOUT, "all ranks have enqueued it"), (ETIMEOUT, ""), HANG, None),
    "enqueue-error in a bucket": ("enqueue-error,rank=R,op=K", "wire 50", (EPEER, TOLD + "NCCL 2.28.9: it was refused"), (ENODE, "it was refused: internal"), DEAD, None),
    "kernel-error": ("kernel-error,rank=R,op=K", "wire 50", (EPEER, TOLD + "kernel (narrow|fold|widen): "), (ENODE, "kernel (narrow|fold|widen): an error of the double"), DEAD, None),
    "query-hang": ("query-hang,rank=R,op=K,ms=12000", "loop 100000", (ETIMEOUT, WHO), (ETIMEOUT, "NCCL does not answer on " + WHO), 2 * HANG, None),
    "query-hang while muster_test is called": ("query-hang,rank=R,op=K,ms=30000", "poll 100000", (ETIMEOUT, WHO), (ETIMEOUT, "NCCL does not answer on " + WHO), 2 * HANG, None),
    "in-progress": ("in-progress,rank=R,op=K,ms=4500", "loop 50", (ETIMEOUT, "(?=.*in 2 s).*(in 2 s on |: )" + WHO), (ETIMEOUT, WHO), HANG, None),
    "id-hang": ("id-hang,ms=30000", "loop 50", (ETIMEOUT, r"rank 0 on \S+: NCCL 2.28.9 gives no unique id in 0.5 s"), (ETIMEOUT, "gives no unique id in 0.5 s"), START * 1000 + 1000, False),
    "init-hang": ("init-hang,rank=R", "loop 50", (ETIMEOUT, "in 3 tries: "), (ETIMEOUT, "in 3 tries"), 3 * START * 1000 + 2000, False),
    "init-error": ("init-error,rank=R", "loop 50", (EPEER, "in 3 tries: " + WHO), (ENODE, "in 3 tries: " + WHO), 3 * START * 1000 + 2000, False),
    "init-hang once": ("init-hang,rank=R,times=1", "loop 50", None, None, 0, False),
    "slow": ("slow,rank=R,op=K,times=3,ms=150", "loop 50", None, None, 0, False),
}


stalled = 0.0  # s, the longest that this process was not run when it was due


def watch_clock():
    """A rank told too late is one thing, a machine that stood still is another."""
    global stalled
    while True:
        began = time.monotonic()
        time.sleep(0.01)
        stalled = max(stalled, time.monotonic() - began - 0.01)


def run(args, fault, limit, **more):
    return subprocess.run([B + "/bin/muster", "run", "--oversubscribe"] + args, env=dict(ENV, MUSTER_DOUBLE=fault, **more),
                          capture_output=True, text=True, timeout=limit)


def pool_lives():
    for name in glob.glob("/proc/[0-9]*/environ"):
        try:
            with open(name, "rb") as f:
                if ("MUSTER_HOME=%s/home" % DIR).encode() in f.read().split(b"\0"):
                    return True
        except OSError:
            pass
    return False


def round_of(kind, n):
    fault, mode, others, own, bound, named = KINDS[kind]
    rng = random.Random("%d %s %d" % (SEED, kind, n))
    ranks = rng.choice([2, 3, 4])
    victim, op = rng.randrange(ranks), rng.randrange(2, 30)  # the first one brings NCCL up
    fault, mode = [t.replace("R", str(victim)).replace("S", str((victim + 1) % ranks)).replace("K", str(op)) for t in (fault, mode)]
    more = {"GPU_RANKS_DONE": "%s/done:%d" % (DIR, ranks - (own is None))}
    if others is None or others[0] != ETIMEOUT:
        more.update(PATIENT)
    if kind.startswith("id-"):
        victim = 0  # who asks for it
    if kind.startswith("init-"):
        more["MUSTER_NCCL_START"] = str(START if others else 3)
    for _ in range(4):  # the short deadline is also that of the start, which a loaded machine may miss
        try:
            open(DIR + "/done", "w").close()
            p = run(["-n", str(ranks), "--on-failure=keep", B + "/tests/fault/gpu_ranks"] + mode.split(), fault, 100, **more)
        except subprocess.TimeoutExpired as e:
            return "hangs: %s" % e.stdout
        if "called muster_init within" not in p.stdout + p.stderr:
            break
    said = {int(m[0]): (int(m[1]), int(m[2]), int(m[3]), m[4]) for m in
            re.findall(r"FAILED rank=(\d+) code=(-\d+) ms=(\d+) later=(-?\d+) (.*)", p.stdout)}
    what = "%s %s, %d ranks: " % (fault, mode, ranks) + p.stdout + p.stderr
    if others is None:
        return None if p.stdout.count("ALL WELL") == ranks and p.returncode == 0 else what
    want = {r: others for r in range(ranks)}
    want[victim] = own
    for r, w in want.items():
        if w is None:
            continue
        if r not in said:
            return "rank %d says nothing: " % r + what
        code, ms, later, text = said[r]
        told.setdefault(kind, []).append(ms)
        pattern = w[1] % victim if "%d" in w[1] else w[1]
        if code != w[0] or not re.search(pattern, text) or ms > bound + NOISE or later != (code if named is False else EABORTED):
            return "rank %d, %s: " % (r, pattern) + what
        # Who dies in one has ended that before it; another one may still be at that.
        at = "(%d|%d)" % (op, op - 1) if kind == "die" else "%d" % op
        if named and not re.search(r"operation %s of rank %d: " % (at, r), text):
            return "rank %d names another operation: " % r + what
    return None


def main():
    global stalled
    threading.Thread(target=watch_clock, daemon=True).start()
    for kind in KINDS:
        if not re.search(os.environ.get("ONLY", "."), kind):
            continue
        bad = None
        for n in range(ROUNDS):
            stalled = 0.0
            bad = round_of(kind, n)
            if bad:
                break
        ok(not bad, "%s, %d times" % (kind, ROUNDS), "round %d (the machine stood still for %d ms at most): %s" % (n, stalled * 1e3, bad))
        if kind in told:
            print("# told after %d ms (median), %d (worst) of %d" % (statistics.median(told[kind]), max(told[kind]), KINDS[kind][4]))
    bad, took = None, []
    while not bad and len(took) < ROUNDS:
        began = time.monotonic()
        p = run(["-n", "3", "--restarts", "1", B + "/tests/fault/gpu_ranks", "loop", "50"], "die,rank=1,op=20", 100, **PATIENT)
        took.append(time.monotonic() - began)
        if p.returncode or p.stdout.count("ALL WELL") != 3 or took[-1] > AGAIN + NOISE / 1000:
            bad = "%.1f s\n" % took[-1] + p.stdout + p.stderr
    ok(not bad, "a rank dies, the next attempt computes what it should, %d times" % ROUNDS, bad)
    print("# both attempts: %.2f s (median), %.2f (worst) of %d" % (statistics.median(took), max(took), AGAIN))


def blamed():
    """Without --on-failure=keep the launcher says who it was: at the library's deadline, and at its own."""
    args = ["-n", "3", "--restarts", "0", B + "/tests/fault/gpu_ranks", "late", "1", "7"]
    p = run(args, "", 40)
    ok(p.returncode and re.search(r"failed first +rank 1 on ", p.stderr), "who is late is the failure", p.stdout + p.stderr)
    ENV["MUSTER_TIMEOUT"] = "30"
    p = run(["--hang-timeout", "1s"] + args, "", 40)
    ok(p.returncode and re.search(r"failed first +rank 1 on .*all-reduce", p.stderr), "who hangs is found", p.stdout + p.stderr)


def recorded():
    """The flight recorder has what each rank had enqueued on the GPU, and what became of it."""
    p = run(["-n", "3", "--on-failure=keep", B + "/tests/fault/gpu_ranks", "differs", "1", "7"], "", 40)
    jobs = subprocess.run([B + "/bin/muster", "jobs", "--all", "--json"], env=ENV, capture_output=True, text=True, timeout=40)
    job = max(j["id"] for j in json.loads(jobs.stdout)["jobs"])
    p = subprocess.run([B + "/bin/muster", "events", "--flight", "--json", str(job)], env=ENV, capture_output=True, text=True, timeout=40)
    seen = {}
    for r in json.loads(p.stdout or '{"records": []}')["records"]:
        if r["started"] is None:  # of those in GPU memory that is not known
            seen.setdefault(r["rank"], {})[r["number"]] = (r["op"], r["state"])
    want = [(("broadcast" if rank == 1 else "all-reduce"), "failed") for rank in range(3)]
    ok([seen.get(rank, {}).get(7) for rank in range(3)] == want and all(seen[rank][6][1] == "completed" for rank in range(3)),
       "the flight recorder shows who called something else", p.stdout[:3000] + p.stderr)


try:
    main()
    blamed()
    recorded()
finally:
    tap.wait_for(lambda: not pool_lives(), 10)  # it would make its directories again
    shutil.rmtree(DIR, ignore_errors=True)
tap.done()
