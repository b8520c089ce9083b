#!/usr/bin/env python3
# slow
"""Kills each kind of process while a real job trains, and looks at what is left. TAP. SEED= and ROUNDS= in the
environment; a failing run prints its seed."""
import glob
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)) + "/..")
import tap
from tap import ok, wait_for

B = os.path.abspath(os.environ.get("B", "build/default"))
MUSTER, TRAIN = B + "/bin/muster", B + "/examples/train_lm"
SEED = int(os.environ.get("SEED", "0")) or random.randrange(1, 1 << 30)
tap.seed = SEED
ROUNDS = int(os.environ.get("ROUNDS", "6"))
rng = random.Random(SEED)
DIR = tempfile.mkdtemp(prefix="muster-fault-")
ENV = dict(os.environ, MUSTER_HOME=DIR + "/home", MUSTER_RUN_ROOT=DIR + "/run", MUSTER_IDLE="2")
UID = os.getuid()
before = set(glob.glob("/dev/shm/*") + glob.glob("/tmp/ompi.*") + glob.glob("/tmp/pmix-*"))


def processes(role=None):
    """pids of this pool's processes: those whose environment names our MUSTER_HOME (ranks keep it through MUSTER_TAG)."""
    found = {}
    for p in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.stat("/proc/" + p).st_uid != UID or open("/proc/%s/stat" % p).read().split(") ")[1][0] == "Z":
                continue
            env = open("/proc/%s/environ" % p, "rb").read()
            args = open("/proc/%s/cmdline" % p, "rb").read().split(b"\0")
        except OSError:
            continue
        if int(p) == os.getpid() or (DIR + "/home").encode() not in env + b"".join(args):
            continue
        kind = "other"
        if os.path.basename(args[0]) == b"muster" and len(args) > 1:
            kind = args[1].decode()
        elif args[0] == TRAIN.encode():
            kind = "rank"
        if role in (None, kind):
            found[int(p)] = kind
    return found


pools = set()  # hashes of our pools: the directories that another one makes meanwhile are its own


def of_others(paths):
    """Those that processes of other MPI jobs have mapped, and the directories of mpirun while another one runs."""
    found, mine = set(), processes()
    for p in filter(str.isdigit, os.listdir("/proc")):
        try:
            if int(p) in mine:
                continue
            maps, comm = open("/proc/%s/maps" % p).read(), open("/proc/%s/comm" % p).read().strip()
        except OSError:
            continue
        found |= {x for x in paths if x.startswith("/dev/shm/") and x in maps or
                  x.startswith("/tmp/") and comm in ("mpirun", "orterun", "prterun", "orted", "prted")}
    return found


def is_ours(path):
    try:
        return os.stat(path).st_uid == UID
    except OSError:  # gone since
        return False


def leftovers():
    paths = set(glob.glob("/dev/shm/*") + glob.glob("/tmp/ompi.*") + glob.glob("/tmp/pmix-*")) - before
    paths = {p for p in paths if is_ours(p) and
             (not p.startswith("/dev/shm/muster-") or any(h in p for h in pools))}
    paths -= of_others(paths) if paths else set()
    run = [os.path.join(d, f) for d, _, fs in os.walk(DIR + "/run") for f in fs]
    return sorted(paths) + run + ["%d %s" % x for x in processes().items()]


def nothing_left(when):
    wait_for(lambda: not leftovers(), 30)
    ok(not leftovers(), "nothing is left " + when, leftovers())


class Job:
    """A training run of 4 ranks. Steps as (wall, step) from the file that rank 0 writes."""

    def __init__(self, name, steps=1500, extra=(), restarts="100"):
        self.dir = tempfile.mkdtemp(prefix=name + ".", dir=DIR)
        self.out = open(self.dir + "/out", "w+")
        self.marker = self.dir + "/steps"
        self.p = subprocess.Popen([MUSTER, "run", "-n", "4", "--oversubscribe", "--bind", "none",
                                   *(["--restarts", restarts] if restarts else []), "--ckpt-dir", self.dir + "/ckpt", *extra, TRAIN, "--steps", str(steps), "--hidden", "96", "--embed", "8", "--context", "8", "--batch", "64", "--ckpt", "interval=100steps",
                                   "--step-time-file", self.marker], env=ENV, stdout=self.out, stderr=subprocess.STDOUT)

    def steps(self):
        try:
            return [int(line.split()[1]) for line in open(self.marker)]
        except (OSError, IndexError, ValueError):
            return []

    def at(self, n, seconds=60):
        pools.update(os.path.basename(d) for d in glob.glob(DIR + "/run/*/*"))
        return wait_for(lambda: len(self.steps()) >= n or self.p.poll() is not None, seconds) and self.p.poll() is None

    def text(self):
        self.out.flush()
        return open(self.dir + "/out").read()

    def end(self, seconds=max(120, int(os.environ.get("MUSTER_TEST_LIMIT", "0")) // 2)):
        try:
            return self.p.wait(seconds)
        except subprocess.TimeoutExpired:
            self.p.kill()
            return "timeout"

    def hash(self):
        return [line.split()[2] for line in self.text().splitlines() if line.startswith("weights sha256")][-1:]


def events(kind):
    jobs = json.loads(subprocess.check_output([MUSTER, "jobs", "--all", "--json"], env=ENV))["jobs"]
    job = max(j["id"] for j in jobs)
    return [e for e in json.loads(subprocess.check_output([MUSTER, "events", str(job), "--json"], env=ENV))["events"]
            if e["kind"] == kind]


def kill_one(role):
    pids = sorted(processes(role))
    if not pids:
        return False
    try:
        os.kill(rng.choice(pids), signal.SIGKILL)
    except ProcessLookupError:  # it has just ended by itself
        return False
    return True


def main():
    calm = Job("calm")
    rc = calm.end()
    ok(rc == 0 and calm.hash(), "an undisturbed run ends with 0 and a hash", calm.text()[-2000:])
    want = calm.hash()
    nothing_left("after it")

    for role in ("controller", "agent"):
        j = Job(role)
        ok(j.at(rng.randrange(50, 600)) and kill_one(role), "kill -9 of the %s while it trains" % role, j.text()[-2000:])
        rc = j.end()
        steps = j.steps()
        ok(rc == 0 and j.hash() == want, "the job ends as if nothing had been", "%s %s" % (rc, j.text()[-2000:]))
        ok(steps == list(range(steps[0], steps[0] + len(steps))), "and lost no step")

    j = Job("both")
    ok(j.at(200) and kill_one("controller") and kill_one("agent"), "kill -9 of controller and agent at once")
    rc = j.end()
    ok(rc == 0 and j.hash() == want and j.steps() == list(range(1, len(j.steps()) + 1)), "no step and no job lost",
       "%s %s" % (rc, j.text()[-2000:]))

    for role, kind in (("rank", "rank-lost"), ("keeper", "keeper-lost")):
        j = Job(role)
        ok(j.at(rng.randrange(150, 600)) and kill_one(role), "kill -9 of a %s" % role)
        rc = j.end()
        ok(rc == 0 and j.hash() == want, "costs a restart from the checkpoint, the weights are the same",
           "%s %s" % (rc, j.text()[-3000:]))
        ok(events(kind) and events("restored"), "and the events say so", events(kind))

    for _ in range(5):  # on a busy machine they may have joined before we look
        j = Job("early", restarts=None)
        early = wait_for(lambda: kill_one("rank"), 60) and not j.steps()
        if early:
            break
        j.end()
    ok(early, "kill -9 of a rank before it has joined")
    rc = j.end()
    ok(rc == 0 and j.hash() == want and events("rank-lost"), "a job that can resume starts again",
       "%s %s" % (rc, j.text()[-3000:]))

    length = 2500 if ROUNDS < 20 else 150 * ROUNDS
    j = Job("random", steps=length)
    kills = []
    for _ in range(ROUNDS):
        if not j.at(len(j.steps()) + rng.randrange(20, 200)):
            break
        role = rng.choice(("rank", "rank", "keeper", "agent", "controller"))
        if kill_one(role):
            kills.append(role)
        if rng.random() < 0.3 and kill_one(rng.choice(("rank", "agent", "controller"))):
            kills.append("and another")
    rc = j.end(900)
    calm = Job("calm2", steps=length)
    calm.end(600)
    ok(rc == 0 and j.hash() == calm.hash() and j.hash(), "random kills in a row: %s" % " ".join(kills),
       "%s %s" % (rc, j.text()[-3000:]))
    nothing_left("after all that")

    j = Job("client", steps=100000)
    j.at(50)
    j.p.kill()
    j.p.wait()
    ok(wait_for(lambda: not processes("rank"), 60), "a killed client's job is cancelled after a grace", processes())
    ok(wait_for(lambda: events("cancelled"), 30), "and recorded as cancelled")
    nothing_left("after that")

    j = Job("ctrl-c", steps=100000)
    j.at(50)
    j.p.send_signal(signal.SIGINT)
    rc = j.end(60)
    ok(rc == 130, "Ctrl-C ends the job with 130", "%s %s" % (rc, j.text()[-2000:]))
    nothing_left("after Ctrl-C")

    j = Job("all", steps=100000)
    j.at(50)
    for _ in range(3):
        for p in processes():
            try:
                os.kill(p, signal.SIGKILL)
            except OSError:
                pass
    j.p.wait()
    ok(wait_for(lambda: not processes(), 30), "kill -9 of everything at once leaves no process", processes())
    said = wait_for(lambda: "waits for its client (muster run) to come back; if none does in 10.0 s, the job ends" in
                    subprocess.check_output([MUSTER, "jobs"], env=ENV, text=True), 30)
    ok(said, "the next start says what the job waits for", subprocess.check_output([MUSTER, "jobs"], env=ENV, text=True))
    rc = subprocess.run([MUSTER, "run", "-n", "1", "true"], env=ENV, timeout=60).returncode
    ok(rc == 0, "and works")
    wait_for(lambda: not processes(), 30)
    nothing_left("once it has cleaned up and is idle")


try:
    main()
finally:
    for p in processes():
        try:
            os.kill(p, signal.SIGKILL)
        except OSError:
            pass
    shutil.rmtree(DIR, ignore_errors=True)
tap.done()
