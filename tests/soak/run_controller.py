"""The controller is killed every 5 s while a job of 8 ranks trains; MINUTES in all, shared by three cases: a `muster run`
waits for its job; a submitted job has ranks on the controller's host, whose agent sees that it is gone; a submitted job
has none there. In each nobody asks for the controller until a new one is there (or 4 s are over). TAP."""
import json
import os
import statistics
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)) + "/../cluster")
import faults as f
import tap
from tap import ok

MINUTES = float(os.environ.get("MINUTES", "5"))
EVERY, PATIENCE, BOUND = 5.0, 4.0, 0.5
TMP = os.environ["MUSTER_HOME"] + "/../controller"


def job_row():
    for j in json.loads(f.muster("jobs", "--json"))["jobs"]:
        return j
    return None


def rebuilt():
    """The job runs and its nodes have been heard of."""
    j, up = job_row(), f.nodes()
    return j and j["state"] == "running" and all(up.get(n) == "up" for n in j["nodes"])


def numbers(v):
    return "median %.3f, worst %.3f s" % (statistics.median(v), max(v)) if v else "never"


def case(name, what, where, foreground):
    job = f.Job("muster" if foreground else "submit", TMP + "/" + name, 1000000000, 50, where=where)
    back, answers, known, alone = [], [], [], 0
    try:
        job.at(20)
        end = time.time() + 20 * MINUTES
        while time.time() < end:
            old = f.processes("controller", "head")
            t = time.time()
            for pid in old:
                f.kill(pid)

            def new():
                return set(f.processes("controller", "head")) - set(old)
            if tap.wait_for(new, PATIENCE, 0.005):
                back.append(time.time() - t)
            else:
                alone += 1
                t = time.time()
            tap.wait_for(lambda: (job_row() or {}).get("state") == "running", 30, 0.005)
            answers.append(time.time() - t)
            tap.wait_for(rebuilt, 30, 0.005)
            known.append(time.time() - t)
            time.sleep(max(0, t + EVERY - time.time()))
        steps = job.steps()
        j = job_row()
        print("# %s: a new controller %s; muster jobs answers %s; all nodes heard of %s" %
              (what, numbers(back), numbers(answers), numbers(known)), flush=True)
        ok(j and j["state"] == "running" and j["attempt"] == 1 and [s[2] for s in steps] == list(range(1, len(steps) + 1)),
           "%s: no job and none of %d steps is lost by %d kills" % (what, len(steps), len(known)),
           "%s\n%s\n%s" % (j, f.muster("events", str(job.id()), check=False), f.logs()))
        ok(not alone, "%s: a new controller comes by itself" % what, "not in %g s, %d times" % (PATIENCE, alone))
        ok(statistics.median(known) < BOUND, "%s: the state is rebuilt in %g s" % (what, BOUND), numbers(known))
    finally:
        job.stop()
    tap.wait_for(lambda: not f.processes("rank"), 20)


def main():
    f.pool()
    hosts = ["-H", ",".join(h + ":2" for h in f.HOSTS)]
    case("client", "a waiting muster run", hosts, True)
    case("local", "a submitted job, ranks on the controller's host too", ["-H", "head:2,h1:2,h2:2,h3:2,h4:2"], False)
    case("remote", "a submitted job on other hosts only", hosts, False)
    f.muster("controller", "--stop", "--force", check=False)
    tap.wait_for(lambda: not f.verb("orphans") and not f.processes("controller", "head"), 30, 0.5)
    ok(not f.verb("orphans"), "nothing is left", f.verb("orphans"))


main()
tap.done()
