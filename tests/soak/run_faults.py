"""Random faults in a row: of ranks, daemons, hosts and links, sometimes two at once, healed after each. A round strikes
a job of 8 ranks on 4 hosts with one spare, lets it recover, heals, and looks at what runs where. Jobs follow one another
until all rounds are done (as a rule one is enough); each must end with the weights of an undisturbed one. TAP; each
round is a line of the journal, and a failure says seed, round and all that is known. ROUNDS, SEED, KINDS=rank,cut for
some of the faults only."""
import glob
import os
import random
import re
import shutil
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)) + "/../cluster")
import faults as f
import tap
from tap import ok

ROUNDS = int(os.environ.get("ROUNDS", "200"))
SEED = int(os.environ.get("SEED", "0")) or random.randrange(1, 1 << 30)
tap.seed = SEED
STEPS = int(os.environ.get("STEPS", "0")) or max(600, 250 * ROUNDS)
INTERVAL, HANG = 25, 4
KEPT = "%s/soak-faults-%d" % (f.B, SEED)
TMP = os.environ["MUSTER_HOME"] + "/../soak"
rng = random.Random(SEED)


def note(text):
    line = "%s %s" % (time.strftime("%H:%M:%S"), text)
    print("# " + line, flush=True)
    with open(KEPT + "/journal", "a") as file:
        file.write(line + "\n")


# --- faults: each strikes something of the job and returns how to heal it -----------------------------------------------

def victims(kind):
    return [(h, p) for h in f.HOSTS for p in f.processes(kind, h)]


def some(kind):
    found = victims(kind)
    return rng.choice(found) if found else (None, None)


def killed(kind):
    def strike():
        host, pid = some(kind)
        return host and f.kill(pid) and (host, None)
    return strike


def frozen(kind):
    def strike():
        host, pid = some(kind)
        return host and f.kill(pid, f.signal.SIGSTOP) and (host, lambda: f.kill(pid, f.signal.SIGCONT))
    return strike


def controller(signo, heal=False):
    def strike():
        pids = f.processes("controller", "head")
        if not pids or not f.kill(pids[0], signo):
            return None
        return "head", (lambda: f.kill(pids[0], f.signal.SIGCONT)) if heal else None
    return strike


def host_fault(verb, healing):
    def strike():
        up = [h for h in f.HOSTS if f.first_process(h) and h not in broken]
        if not up:
            return None
        # mostly one that the job is on
        used = [h for h in up if f.processes("rank", h)]
        host = rng.choice(used if used and rng.random() < 0.8 else up)
        broken.add(host)
        f.verb(*(w.replace("HOST", host) for w in verb.split()))
        return host, lambda: f.verb(*(w.replace("HOST", host) for w in healing.split()))
    return strike


broken = set()
KINDS = {
    "rank": killed("rank"),
    "keeper": killed("keeper"),
    "agent": killed("agent"),
    "controller": controller(f.signal.SIGKILL),
    "crash": host_fault("crash_host HOST", "start_host HOST"),
    "power": host_fault("kill_host HOST", "start_host HOST"),
    "cut": host_fault("cut HOST", "heal HOST"),
    "cut-out": host_fault("cut --one-way HOST all", "heal HOST"),
    "cut-in": host_fault("cut --one-way all HOST", "heal HOST"),
    "rank-stop": frozen("rank"),
    "agent-stop": frozen("agent"),
    "keeper-stop": frozen("keeper"),
    "controller-stop": controller(f.signal.SIGSTOP, True),
    "host-stop": host_fault("stop HOST", "cont HOST"),
}


# --- what must hold after each round ----------------------------------------------------------------------------------

def environment(pid, name):
    try:
        for word in open("/proc/%d/environ" % pid, "rb").read().split(b"\0"):
            if word.startswith(name + b"="):
                return word.split(b"=", 1)[1].decode()
    except OSError:
        pass
    return None


def picture():
    """Ranks and keepers by host: "h1:2+1" is two ranks and a keeper."""
    return " ".join("%s:%s" % (h, "down" if not f.first_process(h) else
                               "%d+%d" % (len(f.processes("rank", h)), len(f.processes("keeper", h)))) for h in f.HOSTS)


def in_order():
    """Eight ranks of one attempt, two a host, and a keeper where they are: nothing else of the job."""
    ranks = victims("rank")
    return (len(ranks) == 8 and len({environment(p, b"MUSTER_ATTEMPT") for _, p in ranks}) == 1 and
            sorted(h for h, _ in victims("keeper")) == sorted({h for h, _ in ranks}) and
            all(len(f.processes("rank", h)) in (0, 2) for h in f.HOSTS))


def one_round(i, job, names):
    broken.clear()
    goal = job.last()[2] + rng.randrange(2, 60)
    if not job.at(goal, 120):
        return False
    time.sleep(rng.uniform(0, 0.03))
    struck, heals, alone = [], [], False
    before, attempt, t = job.last(), job.attempt(), time.time()
    try:
        for n, name in enumerate(names):
            if n:
                time.sleep(rng.choice((0, rng.uniform(0, 0.3), rng.uniform(0, 1.5))))
            had = {h for h, _ in victims("rank")}
            struck.append(name)
            did = KINDS[name]()
            struck[-1] += " " + (did[0] if did else "(nobody)")
            if did and did[1]:
                heals.append(did[1])
            alone = did and did[0] in had and len(names) == 1 and name in ("crash", "power", "cut")
        # With two nodes lost and one spare it waits until one is back. For one alone there is the spare.
        patience = rng.choice((0.3, 1, 4, 4 + HANG)) if heals else 1.5
        if alone and rng.random() < 0.5:
            patience = 30
        if not tap.wait_for(lambda: job.last()[0] > attempt or not job.running(), patience) and patience == 30:
            raise f.Fault("round %d (%s): the job has not gone on with its spare host" % (i, ", ".join(struck)))
    finally:
        for heal in heals:
            heal()
    healed = time.time()
    limit = 90

    def stepping():
        last = job.last()
        return (last[2] > before[2] and last[1] > healed and in_order()) or not job.running()
    if not tap.wait_for(stepping, limit, 0.05):
        raise f.Fault("round %d (%s): the job has not gone on %d s after it was healed; it is at %s, it was at %s" %
                      (i, ", ".join(struck), limit, job.last(), before))
    if job.running():
        f.all_up(90)
    first = job.next_step(attempt, 0)
    note("round %d: %s at step %d; attempt %d to %d%s; %s" %
         (i, ", ".join(struck), before[2], attempt, job.last()[0], ", first step %.2f s after" % (first - t) if first else "",
          picture()))
    return True


def diagnose(job, text):
    job_text = job.text(6000) if job else ""
    known = [text, "--- nodes", f.muster("nodes", check=False), f.muster("jobs", "--all", check=False)]
    if job:
        known += ["--- events", "\n".join(f.muster("events", str(job.id()), check=False).splitlines()[-60:])]
    known += ["--- hosts: ranks + keepers", picture()]
    for h in f.HOSTS:
        if f.first_process(h):
            known += ["--- ps of " + h, f.verb("ps", h)]
    known += ["--- output", job_text, f.logs(60)]
    text = "\n".join(known)
    open(KEPT + "/failure", "w").write(text)
    return text


def leftovers():
    left = [line for line in f.verb("orphans").splitlines() if not re.search(r"muster agent|agent\.|/checks\.seen$", line)]
    return left + [e for e in os.listdir("/dev/shm")]


def main():
    os.makedirs(KEPT, exist_ok=True)
    note("seed %d, %d rounds, %d steps" % (SEED, ROUNDS, STEPS))
    kinds = os.environ.get("KINDS", ",".join(KINDS)).split(",")
    plan = [[rng.choice(kinds) for _ in range(2 if rng.random() < 0.25 else 1)] for _ in range(ROUNDS)]
    f.pool()
    job = f.Job("muster", TMP + "/calm", STEPS, INTERVAL)
    want = job.end(7200)
    note("undisturbed: %s, load %s" % (want, os.getloadavg()))
    done = jobs = 0
    job = None
    try:
        while done < ROUNDS:
            jobs += 1
            job = f.Job("muster", TMP + "/job-%d" % jobs, STEPS, INTERVAL, ("--restarts", "1000000", "--hang-timeout", str(HANG)))
            while done < ROUNDS and one_round(done + 1, job, plan[done]):
                done += 1
            note("job %d: its last step is waited for, now at %d" % (jobs, job.last()[2]))
            got = job.end(7200)
            events = job.events()
            ok(got == want, "job %d ends after %d attempts with the weights of an undisturbed run" % (jobs, job.attempt()),
               got if got == want else diagnose(job, "got %s, want %s" % (got, want)))
            sizes = set(re.findall(r"parameters, (\d+) rank", job.text(1 << 30)))
            said = [line for line in job.text(1 << 30).splitlines() if "singleton" in line]
            ok(not said, "no rank is taken for a singleton", "\n".join(said))
            ok(sizes == {"8"} and not [e for e in events if e["kind"] == "shrunk"], "all attempts had 8 ranks", sizes)
            if got != want:
                break
        ok(done == ROUNDS, "%d faults in a row" % done)
        tap.wait_for(lambda: not leftovers(), 15, 0.5)
        ok(not leftovers(), "nothing of the jobs is left on any host", "\n".join(leftovers()))
    except f.Fault as e:
        ok(False, "round %d of %d: the job goes on" % (done + 1, ROUNDS), diagnose(job, str(e)))
    if tap.failed:
        f.verb("heal")
    if job:
        job.stop()
    f.muster("controller", "--stop", "--force", check=False)

    def gone():
        return not f.verb("orphans") and not any(f.processes(k) for k in ("rank", "keeper", "agent", "controller"))
    tap.wait_for(gone, 30, 0.5)
    ok(gone(), "nothing at all is left once the pool has ended", f.verb("orphans"))


def keep():
    home = os.environ["MUSTER_HOME"]
    for path in glob.glob(home + "/**/log", recursive=True):
        shutil.copytree(path, "%s/%s" % (KEPT, os.path.relpath(path, home).split("/")[0]), dirs_exist_ok=True)
    for path in glob.glob(TMP + "/job-*/out") + glob.glob(TMP + "/job-*/steps.*"):
        shutil.copy(path, "%s/%s" % (KEPT, os.path.relpath(path, TMP).replace("/", ".")))
    print("# kept: " + KEPT, flush=True)


try:
    main()
finally:
    if tap.failed or sys.exc_info()[0]:
        keep()
    else:
        shutil.rmtree(KEPT, ignore_errors=True)
tap.done()
