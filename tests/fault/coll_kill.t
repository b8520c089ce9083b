#!/usr/bin/env python3
"""Kills or stops a rank at a random moment inside random collectives, and looks at what the others are told, when, and
whether their memory is left alone. TAP. ROUNDS, SEED and BOUND_MS in the environment; a failing round prints its seed.
HOSTS: hosts of the pool of MUSTER_HOME with the number of ranks of each, h1:3,h2:1; without it a pool of one's own, and stops only with STOPS; HOW: kill or stop in all rounds.
NODES: a letter for each rank; those with different ones are told that they are on different nodes. Without HOSTS and NODES they are drawn."""
import mmap
import os
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)) + "/..")
import tap
from tap import ok

B = os.path.abspath(os.environ.get("B", "build/default"))
SEED = int(os.environ.get("SEED", "0")) or random.randrange(1, 1 << 30)
tap.seed = SEED
ROUNDS = int(os.environ.get("ROUNDS", "12"))
BOUND_MS = float(os.environ.get("BOUND_MS", "20000"))  # a death is known; how soon is for make soak-coll
TIMEOUT = 2.0
# Open MPI ends a process that is just writing to one that dies. What muster run says must still be right.
OMPI_ENDS = "pml_ob1_sendreq.c"
EPEER, ETIMEOUT, EABORTED = -4, -5, -6
DIR = tempfile.mkdtemp(prefix="muster-coll-kill-")
HOSTS = os.environ.get("HOSTS")
ENV = dict(os.environ)
if not HOSTS:
    ENV.update(MUSTER_HOME=DIR + "/home", MUSTER_RUN_ROOT=DIR + "/run", MUSTER_IDLE="2")


def seen(m, rank):
    done, ns, code, later, later_ns, intact, calls = struct.unpack_from("<QQqqQQQ", m, 16 + 640 * rank)
    text = m[16 + 640 * rank + 56:16 + 640 * (rank + 1)].split(b"\0")[0].decode()
    return done, ns, code, later, later_ns, intact, calls, text


def go_on(path, p, others):
    """Ranks elsewhere do not see the process that was stopped, and their frames to it may end with them; from here all are seen."""
    end = time.monotonic() + 50
    while p.poll() is None and time.monotonic() < end:
        with open(path, "r+b") as f, mmap.mmap(f.fileno(), 0) as m:
            if all(seen(m, r)[0] for r in others):
                subprocess.run(["pkill", "-CONT", "-f", "coll_kill " + path])
                return
        time.sleep(0.02)


def round_of(n, times):
    rng = random.Random(SEED * 100003 + n)
    ranks, how = rng.choice([2, 3, 4, 5]), rng.choice(["kill", "stop"])
    if os.environ.get("NODES"):
        ranks = len(os.environ["NODES"])
    if HOSTS:
        ranks = sum(int(h.split(":")[1]) for h in HOSTS.split(","))
        how = how if "STOPS" in os.environ else "kill"
    how = os.environ.get("HOW") or how
    victim, delay, seed = rng.randrange(ranks), int(10 ** rng.uniform(3, 5.3)), rng.randrange(1, 1 << 30)
    nodes = rng.choice(["", "".join(rng.choice("ab") for _ in range(ranks))])
    nodes = "" if HOSTS else os.environ.get("NODES", nodes)
    domains = "0011" if ranks == 4 and not nodes and not HOSTS and seed % 2 else ""
    path = DIR + "/seen"
    with open(path, "wb") as f:
        f.truncate(16 + 640 * 16)
    env = dict(ENV, MUSTER_TIMEOUT=str(TIMEOUT)) if how == "stop" else ENV
    if domains:
        env = dict(env, COLL_DOMAINS=domains, MUSTER_TUNE="4096,65536,4096")
    where = ["-H", HOSTS] if HOSTS else ["-n", str(ranks)]
    args = [B + "/bin/muster", "run"] + where + ["--oversubscribe", "--on-failure=keep",
            "bash", "-c", 'm=${1:$RANK:1} && [ -z "$m" ] || export MUSTER_SHM_HOST=$m; [ -z "${COLL_DOMAINS-}" ] || export MUSTER_SHM_DOMAIN=${COLL_DOMAINS:$RANK:1}; exec "${@:2}"', "node", nodes, B + "/tests/fault/coll_kill", path, str(seed), "halt" if (HOSTS or nodes) and how == "stop" else how, str(victim), str(delay)]
    try:
        p = subprocess.Popen(args, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if (HOSTS or nodes) and how == "stop":
            go_on(path, p, [r for r in range(ranks) if r != victim])
        said, code = p.communicate(timeout=120)[0].decode(), p.returncode
    except subprocess.TimeoutExpired as e:
        p.kill()
        said, code = (e.stdout or b"").decode(), "none after 120 s"
    wrong, ended = [], 0
    with open(path, "r+b") as f, mmap.mmap(f.fileno(), 0) as m:
        # Who was ended by Open MPI has died, too, and may be the one of whom others hear first.
        taken = [r for r in range(ranks) if HOSTS and how == "kill" and OMPI_ENDS in said and not seen(m, r)[0]]
        dead = "|".join(map(str, {victim, *taken}))
        for r in range(ranks):
            done, ns, rc, later, later_ns, intact, calls, text = seen(m, r)
            if r == victim and how == "kill":
                continue
            took = ns / 1e6
            who = "rank %d: %d after %.1f ms, %d calls: %s" % (r, rc, took, calls, text)
            if not done:
                ended += 1
                if not (HOSTS and how == "kill" and ended <= said.count(OMPI_ENDS)):
                    wrong.append("rank %d did not come back: %s" % (r, said))
                continue
            if rc != (EPEER if how == "kill" else ETIMEOUT):
                wrong.append(who)
            elif not re.search(r"\brank (%s) on " % dead, text.split(": ", 1)[-1]) or (
                    how == "stop" and "hearing from rank %d on " % victim not in text):
                wrong.append("another rank is named: " + who)
            if r != victim:
                times[how].append(took)
                late = BOUND_MS if how == "kill" else TIMEOUT * 1000 + max(2000, BOUND_MS)
                if took > late:
                    wrong.append("late: " + who)
            if later != EABORTED or later_ns > max(1000, BOUND_MS) * 1e6:
                wrong.append("rank %d: the next call returned %d after %.1f ms" % (r, later, later_ns / 1e6))
            if not intact:
                wrong.append("rank %d: memory was written to after the failure" % r)
    if code != (137 if how == "kill" else 0) or (how == "kill" and "rank %d on " % victim not in said):
        wrong.append("muster run ended with %s: %s" % (code, said))
    name = "%d: %s of rank %d of %d%s after %.1f ms" % (n, how, victim, ranks, nodes and " on nodes " + nodes or domains and " in domains " + domains, delay / 1000)
    return name, wrong


times = {"kill": [], "stop": []}
bad = 0
try:
    first = int(os.environ.get("ROUND", "0"))
    for n in range(first, first + ROUNDS):
        for _ in range(5):
            name, wrong = round_of(n, times)
            if "ranks called muster_init" not in "".join(wrong):
                break  # else the machine was too busy for the deadline, which bounds the start, too
        if ROUNDS <= 50 or wrong:
            ok(not wrong, name, "SEED=%d ROUND=%d ROUNDS=1\n" % (SEED, n) + "\n".join(wrong))
        bad += bool(wrong)
    ok(not bad, "%d rounds, seed %d" % (ROUNDS, SEED), "%d bad" % bad)
    for how, t in sorted(times.items()):
        t.sort()
        if t:
            print("# %s: known after median %.2f ms, 90 %% %.2f ms, 99 %% %.2f ms, 99.9 %% %.2f ms, at most %.2f ms (%d survivors)" %
                  ((how,) + tuple(t[int(len(t) * q)] for q in (0.5, 0.9, 0.99, 0.999)) + (t[-1], len(t))))
finally:
    if not HOSTS:  # a pool that ends by itself a little later writes into its home until then
        subprocess.run([B + "/bin/muster", "controller", "--stop", "--force"], env=ENV, capture_output=True, timeout=60)
    shutil.rmtree(DIR, ignore_errors=True)
tap.done()
