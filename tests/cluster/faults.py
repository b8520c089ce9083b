"""What programs that break things need: the cluster's verbs, processes on its hosts, training jobs. They run on the
head, started by cluster_serve of faults.sh, and see all processes of all hosts in their own /proc."""
import base64
import glob
import json
import os
import signal
import subprocess
import sys
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)) + "/..")
from tap import wait_for

B = os.path.abspath(os.environ.get("B", "build/default"))
MUSTER, TRAIN = B + "/bin/muster", B + "/examples/train_lm"
DIR = os.environ["CLUSTER_DIR"]
SSH = os.environ["CLUSTER_SSH"]
ENV = dict(os.environ, MUSTER_QUARANTINE="0", MUSTER_IDLE="600", MUSTER_LISTEN="10.213.0.254:7070")
HOSTS = open(DIR + "/hosts").read().split()
lock = threading.Lock()


class Fault(Exception):
    """Something that must not happen; the text says what."""


def verb(*words):
    """One of cluster.sh; its output."""
    with lock:
        os.write(8, (" ".join(words) + "\n").encode())
        line = b""
        while not line.endswith(b"\n"):
            more = os.read(0, 1 << 16)
            if not more:
                raise Fault("the cluster is gone")
            line += more
    rc, text = line.decode().split(" ")
    text = base64.b64decode(text).decode(errors="replace").strip()
    if rc != "0":
        raise Fault("cluster_%s: %s" % (" ".join(words), text))
    return text


# --- processes ------------------------------------------------------------------------------------------------------

def first_process(host):
    """None: the host is down."""
    try:
        return int(open("%s/%s/up" % (DIR, host)).read())
    except (OSError, ValueError):
        return None


def space(pid):
    return os.readlink("/proc/%s/ns/pid" % pid)


def kind_of(args):
    name = os.path.basename(args[0])
    if args[0] == TRAIN:
        return "rank"
    if name == "muster" and len(args) > 1:
        return args[1]
    return name


def processes(kind, host=None):
    """pids of kind rank, keeper, agent, controller or a program's name; on one host, "head" for the head, or on all."""
    found, where = [], None
    try:
        if host == "head":
            where = space("self")
        elif host:
            where = space(first_process(host))
    except OSError:
        return []
    for p in filter(str.isdigit, os.listdir("/proc")):
        try:
            args = open("/proc/%s/cmdline" % p, "rb").read().decode(errors="replace").split("\0")
            if args[0] and kind_of(args) == kind and (not where or space(p) == where) and \
                    open("/proc/%s/stat" % p).read().split(") ")[1][0] != "Z":
                found.append(int(p))
        except OSError:
            continue
    return sorted(found)


def kill(pid, signo=signal.SIGKILL):
    try:
        os.kill(pid, signo)
        return True
    except ProcessLookupError:
        return False


# --- muster ---------------------------------------------------------------------------------------------------------

def muster(*args, check=True):
    p = subprocess.run([MUSTER, *args], env=ENV, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, timeout=120)
    if check and p.returncode:
        raise Fault("muster %s: %d %s" % (" ".join(args), p.returncode, p.stdout.decode()))
    return p.stdout.decode()


def nodes():
    return {n["name"]: n["state"] for n in json.loads(muster("nodes", "--json"))["nodes"]}


def all_up(seconds=60):
    """Every host's node is there."""
    state = {}

    def look():
        state.clear()
        state.update(nodes())
        return all(state.get(h) == "up" for h in HOSTS)
    if not wait_for(look, seconds, 0.1):
        raise Fault("nodes are not up: %s" % state)


def pool():
    """All hosts become nodes of a pool, so that agents stay and are started again."""
    muster("nodes", "add", "--ssh", SSH, *(h + ":2" for h in HOSTS))
    all_up()


def logs(lines=40):
    """The last lines of all daemons' logs."""
    text = []
    for f in sorted(glob.glob(ENV["MUSTER_HOME"] + "/**/log/*.log", recursive=True)):
        if time.time() - os.stat(f).st_mtime < 120:
            text += ["--- " + f] + open(f, errors="replace").read().splitlines()[-lines:]
    return "\n".join(text)


# --- jobs -----------------------------------------------------------------------------------------------------------

# Of the hosts the first four that answer, as a user who restarts mpirun must do it.
LOOP = r"""
export ATTEMPT=0
while [ $ATTEMPT -lt 50 ]; do
    ATTEMPT=$((ATTEMPT + 1))
    hosts=$(for h in %(hosts)s; do timeout 0.3 bash -c "exec 3<>/dev/tcp/$h/22 && echo $h:2" 2>/dev/null & done | sort | head -n 4)
    %(mpirun)s -H "$(echo $hosts | tr ' ' ,)" -np 8 -x ATTEMPT "$@" && exit 0
done
exit 1
"""
MPIRUN = ["mpirun", "--bind-to", "none", "--mca", "plm_rsh_agent", "'%s'" % SSH, "--mca", "oob_tcp_if_include", "10.213.0.0/24",
          "--mca", "btl_tcp_if_include", "10.213.0.0/24", "--mca", "btl", "self,vader,tcp", "--mca", "pml", "ob1",
          "--mca", "odls_base_sigkill_timeout", "0", "--mca", "mpi_yield_when_idle", "1",
          "--mca", "oob_tcp_keepalive_time", "1", "--mca", "oob_tcp_keepalive_intvl", "1",
          "--mca", "oob_tcp_keepalive_probes", "2"]


def lines(text):
    """(wall, step) of the whole lines of a file of steps."""
    return [(float(w[0]), int(w[1])) for w in (line.split() for line in text.split("\n")[:-1]) if len(w) == 2]


class Job:
    """A training run of 8 ranks on 4 hosts; the others are spares. It writes the time of each step of attempt A to
    DIR/steps.A, so that the steps of the next attempt are known from those of the last one. peer: muster, mpirun, or
    submit for a job of muster's that nobody waits for; where: hosts, as options of muster's."""

    def __init__(self, peer, dir, steps, interval, extra=(), where=None):
        os.makedirs(dir)
        self.peer, self.dir, self.marker = peer, dir, dir + "/steps."
        self.out = open(dir + "/out", "w+b")
        ckpt = "interval=%dsteps" % interval
        prog = ["sh", "-c", 'exec "$0" "$@" --step-time-file %s${MUSTER_ATTEMPT:-$ATTEMPT}' % self.marker, TRAIN,
                "--steps", str(steps), "--hidden", "64", "--embed", "8", "--context", "8", "--batch", "40", "--ckpt"]
        if peer != "mpirun":
            where = ["-H", ",".join(h + ":2" for h in HOSTS)] if where is None else where
            cmd = [MUSTER, "run" if peer == "muster" else peer, "--ssh", SSH, *where, "-N", "4", "-n", "8", "--bind", "none",
                   "--spares", "1", "--ckpt-dir", dir + "/ckpt", *extra, *prog, ckpt]
        else:
            loop = LOOP % {"hosts": " ".join(HOSTS), "mpirun": " ".join(MPIRUN)}
            cmd = ["bash", "-c", loop, "loop", *prog, ckpt + ",dir=" + dir + "/ckpt"]
        self.p = subprocess.Popen(cmd, env=ENV, stdin=subprocess.DEVNULL, stdout=self.out, stderr=subprocess.STDOUT,
                                  start_new_session=True)

    def files(self):
        """(attempt, path) of the attempts that have written."""
        return sorted((int(p[len(self.marker):]), p) for p in glob.glob(self.marker + "*"))

    def steps(self):
        """(attempt, wall, step) of all steps, in their order."""
        return [(attempt, *line) for attempt, path in self.files() for line in lines(open(path).read())]

    def last(self):
        """The newest step, or attempt 0."""
        for attempt, path in reversed(self.files()):
            with open(path, "rb") as file:
                file.seek(max(0, os.stat(path).st_size - 200))
                begun = file.tell() == 0
                text = file.read().decode()
                found = lines(text if begun else text.split("\n", 1)[-1])
            if found:
                return (attempt, *found[-1])
        return (0, 0.0, 0)

    def attempt(self):
        return max([attempt for attempt, _ in self.files()] or [0])

    def running(self):
        return self.peer == "submit" or self.p.poll() is None

    def at(self, step, seconds=90):
        """Waits for it; whether the job still runs then."""
        if not wait_for(lambda: self.last()[2] >= step or not self.running(), seconds, 0.01):
            raise Fault("%s: not at step %d after %d s, but %s; %s" % (self.peer, step, seconds, self.last(), self.text()))
        return self.running()

    def next_step(self, attempt, seconds):
        """Wall clock of the first step after that attempt; None if there is none."""
        def look():
            for later, path in self.files():
                found = later > attempt and lines(open(path).read(200))
                if found:
                    return found[0][0]
            return None if self.running() else -1
        got = wait_for(look, seconds, 0.02)
        return got if got and got > 0 else None

    def text(self, chars=3000):
        return open(self.dir + "/out", errors="replace").read()[-chars:]

    def end(self, seconds):
        """The hash of the weights; Fault if it did not end well."""
        try:
            rc = self.p.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Fault("%s: has not ended after %d s; at %s; %s" % (self.peer, seconds, self.last(), self.text()))
        found = [line.split()[2] for line in self.text().splitlines() if line.startswith("weights sha256")]
        if rc or not found:
            raise Fault("%s: ended with %d, %s" % (self.peer, rc, self.text()))
        return found[-1]

    def stop(self):
        """Whatever state it is in."""
        if self.peer == "submit":
            muster("cancel", "--force", str(self.id()), check=False)
        if self.p.poll() is None:
            if self.peer == "muster":
                self.p.send_signal(signal.SIGTERM)
            else:
                os.killpg(self.p.pid, signal.SIGKILL)
            try:
                self.p.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(self.p.pid, signal.SIGKILL)
                self.p.wait()
        self.out.close()

    def id(self):
        jobs = json.loads(muster("jobs", "--all", "--json"))["jobs"]
        return max(j["id"] for j in jobs)

    def events(self):
        return json.loads(muster("events", str(self.id()), "--json"))["events"]
