#!/usr/bin/env python3
"""A random trace of submissions, cancellations, holds, releases, requeues and preemptions, while the controller is killed
again and again: no job is lost, none runs twice, no slot is leaked, a preempted job goes on from its checkpoint. TAP.
SEED= and OPS= in the environment; a failing run prints its seed."""
import glob
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)) + "/..")
import tap
from tap import ok, wait_for

B = os.path.abspath(os.environ.get("B", "build/default"))
MUSTER, TRAIN = B + "/bin/muster", B + "/examples/train_lm"
SEED = int(os.environ.get("SEED", "0")) or random.randrange(1, 1 << 30)
tap.seed = SEED
OPS = int(os.environ.get("OPS", "70"))
rng = random.Random(SEED)
DIR = tempfile.mkdtemp(prefix="muster-queue-")
ENV = dict(os.environ, MUSTER_HOME=DIR + "/home", MUSTER_RUN_ROOT=DIR + "/run", MUSTER_IDLE="2")
PATIENCE = max(90, int(os.environ.get("MUSTER_TEST_LIMIT", "0")) // 3)
NO = re.compile("only a job that waits|has already|has ended|is ending|does not wait|is not held")
# One line as it starts, one as it ends; another attempt that still lives has the lock.
PROGRAM = """exec 9>"$DIR/lock.$TOKEN"; flock -n 9 || echo "twice $TOKEN $MUSTER_ATTEMPT" >>"$DIR/log"
echo "start $TOKEN $MUSTER_ATTEMPT" >>"$DIR/log"; sleep "$1"; echo "end $TOKEN $MUSTER_ATTEMPT" >>"$DIR/log"; exit "$2" """
kills = 0


def controller():
    for name in glob.glob(DIR + "/run/*/*/ctl.lock"):
        try:
            pid = int(open(name).read())
            if b"controller" in open("/proc/%d/cmdline" % pid, "rb").read():
                return pid
        except (OSError, ValueError):
            pass
    return None


def kill_controller():
    global kills
    pid = controller()
    try:
        if pid:
            os.kill(pid, signal.SIGKILL)
            kills += 1
    except ProcessLookupError:
        pass


def once(*args, env=ENV):
    p = subprocess.run([MUSTER, *map(str, args)], env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL,
                       timeout=60)
    return p.returncode, p.stdout if p.returncode == 0 else p.stdout + p.stderr


def muster(*args, env=ENV):
    """(code, output), asked again until there is an answer: a controller that dies takes some with it."""
    end = time.time() + 30
    while True:
        code, text = once(*args, env=env)
        if code == 0 or NO.search(text) or time.time() > end:
            return code, text
        time.sleep(0.05)


def rows():
    code, text = muster("jobs", "--all", "--json")
    return {j["id"]: j for j in json.loads(text)["jobs"]} if code == 0 else {}


class Job:
    def __init__(self, k, after, code):
        self.token, self.after, self.code = "t%d" % k, after, code
        self.cancelled = False

    def submit(self, slots, whole=False):
        ranks = slots if whole else rng.randrange(1, slots + 1) if rng.random() < 0.2 else 1
        words = ["submit", "-n", ranks, "--restarts", 0]
        words += ["--priority", rng.randrange(1, 3)] if whole or rng.random() < 0.3 else []
        words += ["--hold"] if not whole and rng.random() < 0.1 else []
        words += ["--after", self.after.id] if self.after else []
        words += ["--timeout", 60] if rng.random() < 0.5 else []
        # of several ranks the first one speaks
        script = PROGRAM if ranks == 1 else '[ "$RANK" = 0 ] || exec sleep "$1"\n' + PROGRAM
        words += ["--name", self.token, "sh", "-c", script, "job", "%.2f" % (0.4 * rng.random()), self.code]
        env = dict(ENV, TOKEN=self.token, DIR=DIR)
        # whoever has no answer looks before asking again
        for _ in range(20):
            code, text = once(*words, env=env)
            ids = [int(text)] if code == 0 else [i for i, j in rows().items() if j["name"] == self.token]
            if ids:
                self.id = ids[0]
                return True
        return note(text)

    def ends(self, is_now):
        """How it may end. What has ended when it is to be cancelled keeps its end."""
        if self.after and is_now.get(self.after.id, {}).get("state") != "completed":
            return ["cancelled"]
        return (["cancelled"] if self.cancelled else []) + ["failed" if self.code else "completed"]


def note(text):
    print("# " + str(text).replace("\n", "\n# "), flush=True)


def train(steps):
    """A job of low priority that others preempt, with a checkpoint every 20 steps."""
    code, text = muster("submit", "-n", 1, "--priority", -1, "--restarts", 100, "--ckpt-dir", DIR + "/ckpt", TRAIN,
                        "--steps", steps, "--hidden", 96, "--embed", 8, "--context", 8, "--batch", 64, "--ckpt",
                        "interval=20steps", "--step-time-file", DIR + "/steps")
    return int(text) if code == 0 else note(text)


def trace(jobs, slots, trainer):
    """The operations; the moment of a kill may be within any of them."""
    did = {}
    for k in range(OPS):
        alive = jobs[-12:]
        what = rng.choices(("submit", "cancel", "hold", "release", "requeue", "put back", "resume", "pause"),
                           (40, 6, 8, 10, 10, 4, 4, 10))[0]
        what = what if alive else "submit"
        if rng.random() < 0.25:
            threading.Timer(0.08 * rng.random(), kill_controller).start()
        if what == "submit":
            after = rng.choice(alive) if alive and rng.random() < 0.15 else None
            job = Job(k, after, 3 if rng.random() < 0.1 else 0)
            if not job.submit(slots, not jobs):
                return ok(False, "every submission gets its number")
            jobs.append(job)
        elif what == "pause":
            time.sleep(0.3 * rng.random())
        elif what == "resume":
            muster("nodes", "resume", os.uname().nodename)
        elif what == "put back":
            muster("requeue", trainer)
        else:
            job = rng.choice(alive)
            code, text = muster(what, job.id)
            # an answer that was lost is given again
            if what == "cancel" and (code == 0 or "already been cancelled" in text):
                job.cancelled = True
            elif code and not NO.search(text):
                return ok(False, "every request is answered", text)
        did[what] = did.get(what, 0) + 1
    note("seed %d: %s; %d kills" % (SEED, ", ".join("%s %d" % x for x in sorted(did.items())), kills))
    return True


def judge(jobs, is_now):
    bad = [(j.token, j.id, j.ends(is_now), is_now.get(j.id, {}).get("state"), is_now.get(j.id, {}).get("reason"))
           for j in jobs if is_now.get(j.id, {}).get("state") not in j.ends(is_now)]
    ok(not bad and len(is_now) == len(jobs) + 1, "of %d jobs none is lost, and each has the end that it was to have" % len(jobs),
       "%s; %d rows\n%s" % (bad, len(is_now), "\n".join(muster("events", b[1])[1] for b in bad[:3])))
    lines = [line.split() for line in open(DIR + "/log")]
    starts = [tuple(w[1:]) for w in lines if w[0] == "start"]
    twice = [w for w in lines if w[0] == "twice"] + [s for s in starts if starts.count(s) > 1]
    ok(not twice, "no attempt starts twice, and no two of a job live at once", twice)
    bad = []
    for j in jobs:
        ends = sum(w[0] == "end" and w[1] == j.token for w in lines)
        again = is_now[j.id]["requeues"] if j.id in is_now else 0
        # one that is put back as its program ends runs again
        least = is_now.get(j.id, {}).get("state") != "cancelled"
        if not least <= ends <= 1 + again:
            bad.append((j.token, j.id, ends, again))
    ok(not bad, "what is not cancelled gets to its end once", bad)


def judge_trainer(trainer, is_now, steps):
    _, text = muster("events", trainer, "--json")
    held, bad, resumed, preempted = -1, [], 0, 0
    for e in json.loads(text)["events"]:
        number = re.search(r"step (\d+)", e["detail"])
        if e["kind"] == "checkpoint" and number:
            held = max(held, int(number[1]))
        preempted += e["kind"] == "suspended"
        if e["kind"] == "restored" and number:
            resumed += 1
            bad += [(held, e["detail"])] if int(number[1]) < held else []
    row = is_now[trainer]
    ok(preempted and resumed and not bad, "a job that is preempted (%d times, and put back %d times) loses no step of a "
       "checkpoint" % (preempted, row["requeues"] - preempted),
       "%s\n%s" % (bad, row))
    done = [int(line.split()[1]) for line in open(DIR + "/steps")]
    gaps = [(a, b) for a, b in zip(done, done[1:]) if b > a + 1]
    ok(row["state"] == "completed" and not gaps and set(done) == set(range(1, steps + 1)), "and has done each step",
       "%s %s" % (gaps, row))


def main():
    os.makedirs(DIR + "/home")
    open(DIR + "/log", "w").close()
    with open(DIR + "/home/policy", "w") as f:
        f.write("preempt = on\npreempt-after = 0s\npreempt-checkpoint-age = 24h\n")
    steps = 150 + 4 * OPS
    trainer = train(steps)
    code, text = muster("nodes", "--json")
    slots = json.loads(text)["nodes"][0]["slots"]
    if not ok(trainer and wait_for(lambda: "checkpoint" in muster("events", trainer)[1], 60), "a job trains", text):
        return
    jobs = []
    ended = trace(jobs, slots, trainer)
    wide = Job(OPS, None, 0)
    if ended:
        for j in jobs:
            muster("release", j.id)
        ok(wide.submit(slots, True), "one more job")
        jobs.append(wide)

        def over():
            now = rows()
            return now if now and all(j["state"] in ("completed", "failed", "cancelled") for j in now.values()) else None
        is_now = wait_for(over, PATIENCE, 0.05)
        if ok(is_now, "all jobs end", muster("jobs")[1]):
            judge(jobs, is_now)
            judge_trainer(trainer, is_now, steps)
        used = wait_for(lambda: [n for n in json.loads(muster("nodes", "--json")[1])["nodes"] if not n["used"]], 30)
        ok(used, "no slot is leaked", muster("nodes")[1])
        ok(kills, "the controller was killed %d times" % kills)


def ours():
    """pids of this pool's processes."""
    found = []
    for p in filter(str.isdigit, os.listdir("/proc")):
        try:
            if int(p) != os.getpid() and ("MUSTER_HOME=" + DIR).encode() in open("/proc/%s/environ" % p, "rb").read():
                found.append(int(p))
        except OSError:
            pass
    return found


try:
    main()
finally:
    if tap.failed:
        log = glob.glob(DIR + "/home/*/log/controller.log")
        note("\n".join(open(log[0]).read().splitlines()[-40:]) if log else "no log")
        subprocess.run([MUSTER, "controller", "--stop", "--force"], env=ENV, capture_output=True, timeout=60)
    ok(wait_for(lambda: not ours(), 60), "nothing is left", ours())
    for pid in ours():
        os.kill(pid, signal.SIGKILL)
    if not tap.failed or not os.environ.get("KEEP"):
        shutil.rmtree(DIR, ignore_errors=True)
    tap.done()
