"""A busy machine is no failure: a job of 8 ranks on 4 hosts trains while LOOPS processes spin, for MINUTES. No event but
checkpoints may come, no node may be anything but up, and no daemon may warn. TAP."""
import glob
import os
import re
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)) + "/../cluster")
import faults as f
import tap
from tap import ok

MINUTES, LOOPS = float(os.environ.get("MINUTES", "30")), int(os.environ.get("LOOPS", "64"))
CALM = {"submitted", "started", "attempt-start", "first-step", "checkpoint"}


def complaints():
    """Lines of the daemons' logs above info."""
    return [line.rstrip() for path in glob.glob(f.ENV["MUSTER_HOME"] + "/**/log/*.log", recursive=True)
            for line in open(path, errors="replace") if re.match(r"\S+ \S+ \S+ (warn|error)\S*:", line)]


def main():
    f.pool()
    job = f.Job("muster", os.environ["MUSTER_HOME"] + "/../calm", 1000000000, 25)
    loops, bad = [], []
    try:
        job.at(30)
        loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(LOOPS)]
        begin = job.last()[2]
        end = time.time() + 60 * MINUTES
        while time.time() < end and job.running():
            time.sleep(min(10, max(0, end - time.time())))
            bad += [s for s in f.nodes().items() if s[0] in f.HOSTS and s[1] != "up"]
        steps, load = job.last()[2] - begin, os.getloadavg()[0]
        events = [e for e in job.events() if e["kind"] not in CALM]
        ok(job.running() and not events, "no event but checkpoints in %g minutes beside %d processes that spin" % (MINUTES, LOOPS),
           "\n".join(map(str, events)) + job.text() + f.logs())
        ok(not bad, "all nodes are up all the time", bad)
        ok(steps > 0 and job.attempt() == 1, "the job goes on: %d steps at a load of %.0f" % (steps, load))
        ok(not complaints(), "no daemon warns", "\n".join(complaints()))
    finally:
        for p in loops:
            p.kill()
            p.wait()
        job.stop()
        f.muster("controller", "--stop", "--force", check=False)
    tap.wait_for(lambda: not f.verb("orphans"), 30, 0.5)
    ok(not f.verb("orphans"), "nothing is left", f.verb("orphans"))


main()
tap.done()
