#!/usr/bin/env python3
"""Kills a rank of an MPI job in its first 150 ms, again and again: while it is executed, connects to its keeper, wires
up. Each time the job ends within a bound, and nothing of it remains. Then the agent in a job's first 60 ms, which costs
nothing. TAP. SEED= and ROUNDS= in the environment; a
failing run prints its seed."""
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
MUSTER, HELLO = B + "/bin/muster", B + "/tests/mpi/hello"
SEED = int(os.environ.get("SEED", "0")) or random.randrange(1, 1 << 30)
tap.seed = SEED
ROUNDS = int(os.environ.get("ROUNDS", "25"))
AGENT_ROUNDS = int(os.environ.get("AGENT_ROUNDS", "5"))
WINDOW = 0.150
AGENT_WINDOW = 0.060
BOUND = 60  # seconds for a job whose keeper must be killed, on a machine that is busy with other things
rng = random.Random(SEED)
DIR = tempfile.mkdtemp(prefix="muster-early-")
ENV = dict(os.environ, MUSTER_HOME=DIR + "/home", MUSTER_RUN_ROOT=DIR + "/run", MUSTER_IDLE="3",
           TMPDIR=DIR + "/tmp")
os.mkdir(DIR + "/tmp")


def children(parent):
    """Living ones, of any state but zombie."""
    found = []
    for p in filter(str.isdigit, os.listdir("/proc")):
        try:
            state, ppid = open("/proc/%s/stat" % p).read().rsplit(") ", 1)[1].split()[:2]
        except (OSError, ValueError):
            continue
        if int(ppid) == parent and state != "Z":
            found.append(int(p))
    return found


def keepers():
    pids = []
    for lock in glob.glob(DIR + "/run/*/*/keeper.*.lock"):
        try:
            pids.append(int(open(lock).read() or 0))
        except (OSError, ValueError):
            pass
    return [p for p in pids if p > 1]


def ranks():
    return [r for k in keepers() for r in children(k)]


def remains(hashes, daemons):
    """Of jobs: not the daemons, their sockets and their locks."""
    left = []
    for p in filter(str.isdigit, os.listdir("/proc")):
        try:
            env = open("/proc/%s/environ" % p, "rb").read()
            args = open("/proc/%s/cmdline" % p, "rb").read().split(b"\0")
        except OSError:
            continue
        if int(p) == os.getpid() or (DIR + "/home").encode() not in env:
            continue
        if daemons or len(args) < 2 or args[1] not in (b"controller", b"agent"):
            left.append("process %s %s" % (p, b" ".join(args).decode()))
    for d in glob.glob(DIR + "/run/*/*"):
        left += [d + "/" + f for f in os.listdir(d) if daemons or f[0] in "jk"]
    return left + [p for p in glob.glob("/dev/shm/muster-*") if any(h in p for h in hashes)] + glob.glob(DIR + "/tmp/*")


def one_round(n):
    restarts = rng.randrange(2)
    hits = 1 + (rng.random() < 0.2)
    p = subprocess.Popen([MUSTER, "run", "-n", "4", "--oversubscribe", "--bind", "none", "--restarts", str(restarts),
                          HELLO, "150"], env=ENV, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    start = time.time()
    up = wait_for(lambda: ranks() or p.poll() is not None, BOUND, 0.002)
    at, killed = rng.uniform(0, WINDOW), 0
    time.sleep(at)
    mine = ranks() if up else []
    for victim in rng.sample(mine, min(hits, len(mine))):
        try:
            os.kill(victim, signal.SIGKILL)
            killed += 1
        except ProcessLookupError:
            pass
    try:
        text = p.communicate(timeout=BOUND)[0].decode(errors="replace")
    except subprocess.TimeoutExpired:
        p.kill()
        p.wait()
        return "round %d: the job has not ended %d s after %d ranks were killed at %.0f ms" % (n, BOUND, killed,
                                                                                              at * 1000), killed, 0
    took = time.time() - start
    good = p.returncode == 0 or (killed and not restarts and p.returncode == 137)
    if not good:
        return "round %d: exit code %d, %d killed at %.0f ms, --restarts %d\n%s" % (n, p.returncode, killed, at * 1000,
                                                                                   restarts, text), killed, took
    hashes = [os.path.basename(d) for d in glob.glob(DIR + "/run/*/*")]
    wait_for(lambda: not remains(hashes, False), BOUND)
    left = remains(hashes, False)
    return "round %d: left: %s" % (n, "; ".join(left)) if left else "", killed, took


def lock_holder(name):
    for lock in glob.glob(DIR + "/run/*/*/" + name):
        try:
            return int(open(lock).read() or 0)
        except (OSError, ValueError):
            pass
    return 0


def agent_round(n):
    """A pool of its own each time: a controller waits longer and longer for agents that do not live."""
    wait_for(lambda: not remains([], True), BOUND)
    shutil.rmtree(DIR + "/home", ignore_errors=True)
    mark = DIR + "/mark"
    if os.path.exists(mark):
        os.remove(mark)
    subprocess.run([MUSTER, "run", "-n", "1", "true"], env=ENV, stdin=subprocess.DEVNULL, timeout=BOUND)
    wait_for(lambda: not keepers(), BOUND)
    agent = wait_for(lambda: lock_holder("agent.lock"), BOUND)
    p = subprocess.Popen([MUSTER, "run", "-n", "1", "--restarts", "0", "sh", "-c", "echo x >>" + mark + "; sleep 0.2"],
                         env=ENV, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    at = rng.uniform(0, AGENT_WINDOW)
    if rng.random() < 0.5:  # from the first sign of the keeper on, or of the client
        wait_for(lambda: glob.glob(DIR + "/run/*/*/keeper.2.lock") or p.poll() is not None, BOUND, 0.002)
    time.sleep(at)
    os.kill(agent, signal.SIGKILL)
    try:
        text = p.communicate(timeout=BOUND)[0].decode(errors="replace")
    except subprocess.TimeoutExpired:
        p.kill()
        p.wait()
        return "agent round %d: the job has not ended, the agent was killed at %.0f ms" % (n, at * 1000)
    job = json.loads(subprocess.check_output([MUSTER, "status", "2", "--json"], env=ENV))["jobs"][0]
    ran = len(open(mark).readlines()) if os.path.exists(mark) else 0
    subprocess.run([MUSTER, "controller", "--stop"], env=ENV, stdout=subprocess.DEVNULL, timeout=BOUND)
    if p.returncode or job["attempt"] != 1 or ran != 1:
        return "agent round %d: killed at %.0f ms: exit code %d, attempt %d, ran %d times\n%s" % (
            n, at * 1000, p.returncode, job["attempt"], ran, text)
    return ""


def main():
    hits, worst, bad = 0, 0, []
    for n in range(ROUNDS):
        text, killed, took = one_round(n)
        hits += killed > 0
        worst = max(worst, took)
        if text:
            bad.append(text)
            if len(bad) == 3:
                break
    ok(not bad, "%d MPI jobs that lost a rank in their first 150 ms ended, and nothing remained" % ROUNDS,
       "\n".join(bad))
    ok(hits * 2 > ROUNDS, "most of them were hit", hits)
    # Not asserted on: how many keepers the agent had to kill.
    hung = sum(open(f).read().count("its keeper hangs") for f in glob.glob(DIR + "/home/*/log/agent.log"))
    print("# seed %d: %d of %d jobs hit, the slowest took %.1f s, keepers that hung: %d" % (SEED, hits, ROUNDS, worst,
                                                                                           hung))
    hashes = [os.path.basename(d) for d in glob.glob(DIR + "/run/*/*")]
    wait_for(lambda: not remains(hashes, True), BOUND)
    ok(not remains(hashes, True), "nothing is left once the pool is idle", "\n".join(remains(hashes, True)))

    ENV["MUSTER_IDLE"] = "60"  # the agent that is to be killed lives, however long it takes to come to it
    bad = [text for text in map(agent_round, range(AGENT_ROUNDS)) if text]
    ok(not bad, "kill -9 of the agent while it starts a job costs no attempt, and none runs twice", "\n".join(bad[:3]))
    wait_for(lambda: not remains([], True), BOUND)
    ok(not remains([], True), "nor is anything left of that", "\n".join(remains([], True)))


try:
    main()
finally:
    for p in filter(str.isdigit, os.listdir("/proc")):
        try:
            if int(p) != os.getpid() and (DIR + "/home").encode() in open("/proc/%s/environ" % p, "rb").read():
                os.kill(int(p), signal.SIGKILL)
        except OSError:
            pass
    shutil.rmtree(DIR, ignore_errors=True)
tap.done()
