"""Collectives of muster beside those of MPICH and gloo, which cannot be in one process with Open MPI: ranks of each in
processes of their own, that sleep while another one's turn is. Trials go round; what is compared are the times within a
trial. Columns as of make bench-peers. What is not installed is skipped by name.
bench_others.py B [UNCHECKED]; UNCHECKED: another build of muster is all that it is compared with. RANKS OPS MIN MAX TRIALS in the environment; MPICC, MPIEXEC and GLOO (a prefix) for other places."""
import os
import select
import shutil
import statistics
import subprocess
import sys
import tempfile

B = os.path.abspath(sys.argv[1])
ROOT = os.path.abspath(os.path.dirname(__file__) + "/../..")
OPS = ["allreduce", "reduce_scatter", "allgather", "broadcast"]
BATCH_NS, SLOWER, PATIENCE = 2e6, 0.95, 300
DIR = tempfile.mkdtemp(prefix="muster-bench-")


def size_of(name, otherwise):
    s = os.environ.get(name) or otherwise
    return int(s.rstrip("KM")) << {"K": 10, "M": 20}.get(s[-1], 0)


def said(n):
    for unit, shift in (("MiB", 20), ("KiB", 10)):
        if n >= 1 << shift:
            return "%d %s" % (n >> shift, unit)
    return "%d B" % n


def build(name, *command):
    out = DIR + "/bin-" + name
    p = subprocess.run([*command, "-I" + ROOT, "-o", out], capture_output=True, text=True) if shutil.which(command[0]) else None
    if p and p.returncode == 0:
        return out
    print("# %s: skipped, %s" % (name, "it is not installed" if not p else "its worker cannot be built: " +
          (p.stderr.strip().splitlines() or ["?"])[0]))
    return None


class Worker:
    """Ranks of one library; way 1: muster's memory that peers map."""

    def __init__(self, name, ranks, commands, env):
        self.name, self.size = name, ranks
        os.makedirs("%s/%d/store" % (DIR, ranks), exist_ok=True)  # gloo wants a directory that is there
        self.dir = "%s/%d" % (DIR, ranks)
        self.pipes = [self.pipe(str(r)) for r in range(ranks)]
        self.out, self.text = self.pipe("out"), b""
        self.log = open("%s/%s.log" % (self.dir, name), "w+b")
        self.procs = [subprocess.Popen(c + ([self.dir] + x if name == "gloo" else [self.dir, name]), env=env, stdin=subprocess.DEVNULL,
                                       stdout=self.log, stderr=subprocess.STDOUT) for c, x in commands]

    def pipe(self, end):
        path = "%s/%s.%s" % (self.dir, self.name, end)
        os.mkfifo(path)
        return os.open(path, os.O_RDWR)

    def ask(self, way, op, size, calls):
        for p in self.pipes:
            os.write(p, b"%d %d %d %d\n" % (way, op, size, calls))
        while b"\n" not in self.text:
            for _ in range(PATIENCE):
                if select.select([self.out], [], [], 1)[0]:
                    break
                if any(p.poll() is not None for p in self.procs):
                    raise RuntimeError("%s has ended: %s" % (self.name, self.said()))
            else:
                raise RuntimeError("%s has not answered for %d s: %s" % (self.name, PATIENCE, self.said()))
            self.text += os.read(self.out, 4096)
        line, self.text = self.text.split(b"\n", 1)
        t, wrong = map(float, line.split())
        if t < 0:
            raise RuntimeError("%s: a call has failed: %s" % (self.name, self.said()))
        return wrong if calls == 0 else t

    def said(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace").strip()[-500:]

    def end(self):
        for p in self.pipes:
            os.write(p, b"q\n")
        for p in self.procs:
            try:
                p.wait(10)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()
        for fd in self.pipes + [self.out]:
            os.close(fd)
        self.log.close()


def start(ranks, programs):
    crowded = ranks > os.cpu_count()
    env = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    workers = []
    for name, program in programs.items():
        if name in ("muster", "unchecked"):
            bind = ["--oversubscribe", "--bind-to", "none"] if crowded else ["--bind-to", "core"]
            command = [(["mpirun", *bind, "-np", str(ranks), program], [])]
        elif name == "mpich":
            bind = [] if crowded else ["-bind-to", "core"]
            command = [([*os.environ.get("MPIEXEC", "mpiexec.mpich").split(), *bind, "-n", str(ranks), program], [])]
        else: # its threads wait for one another, so it is not bound
            command = [([program], [str(r), str(ranks)]) for r in range(ranks)]
        workers.append(Worker(name, ranks, command, env))
    return workers


def interval(v):
    """95 % of the median, as bench/stats.c has it."""
    v, n = sorted(v), len(v)
    half = 0.98 * n ** 0.5
    lo, hi = int((n / 2 - half) // 1), -int(-(n / 2 + half) // 1)
    return v[0 if n < 6 or lo < 1 else lo - 1], v[n - 1 if n < 6 or hi > n - 1 else hi]


def measure(ways, op, size, ranks, trials):
    wrong = [w.ask(way, op, size, 0) for w, way in ways]
    calls = []
    for w, way in ways:
        t = w.ask(way, op, size, 2)
        calls.append(max(1, min(1000, int(BATCH_NS / max(t, 1)))))
    times = [[] for _ in ways]
    for i in range(trials):
        for k in range(len(ways)):
            j = (k + i) % len(ways)
            times[j].append(ways[j][0].ask(ways[j][1], op, size, calls[j]))
    row = "%-14s %2d %8s" % (OPS[op], ranks, said(size))
    for t in times:
        row += " %11.2f %11.2f" % (statistics.median(t) / 1e3, min(t) / 1e3)
    slower = False
    for j in range(2, len(ways)):
        ratios = [p / q for p, q in zip(times[j], times[0])]
        lo, hi = interval(ratios)
        verdict = "slower" if hi < SLOWER else "faster" if lo > 1 / SLOWER else "even"
        row += "  %6.2f [%.2f, %.2f] %s" % (statistics.median(ratios), lo, hi, verdict)
    bad = [ways[j][0].name for j in range(len(ways)) if wrong[j]]
    print(row + ("  WRONG: " + ", ".join(bad) if bad else ""), flush=True)
    return "muster" in bad


def build_ours(name, where):
    san = os.path.basename(where).partition("san-")[2].replace("-", ",")  # the library's sanitizers are to be the program's
    return build(name, "gcc", *(["-fsanitize=" + san] if san else []), "-O2", "-D_GNU_SOURCE", "-I" + ROOT + "/runtime/include",
                 ROOT + "/tests/peers/others/ours.c", "-L" + where + "/lib", "-lmuster", "-Wl,-rpath," + where + "/lib")


def build_all():
    if len(sys.argv) > 2:
        return {"muster": build_ours("muster", B), "unchecked": build_ours("unchecked", os.path.abspath(sys.argv[2]))}
    mpicc, gloo = os.environ.get("MPICC", "mpicc.mpich"), os.environ.get("GLOO", "/usr")
    programs = {
        "muster": build_ours("muster", B),
        "mpich": build("mpich", *mpicc.split(), "-O2", "-D_GNU_SOURCE", ROOT + "/tests/peers/others/mpi.c"),
        "gloo": None,
    }
    if os.path.exists(gloo + "/include/gloo/config.h"):
        lib = [gloo + "/lib", gloo + "/lib/x86_64-linux-gnu"]
        programs["gloo"] = build("gloo", "g++", "-O2", "-std=c++17", "-I" + gloo + "/include", ROOT + "/tests/peers/others/gloo.cc",
                                 *["-L" + d for d in lib], *["-Wl,-rpath," + d for d in lib], "-lgloo", "-lpthread")
    else:
        print("# gloo: skipped, it is not installed")
    return programs


def main():
    programs = {k: v for k, v in build_all().items() if v}
    if len(programs) < 2 or "muster" not in programs:
        return "muster" not in programs
    least, most, trials = size_of("MIN", "8"), size_of("MAX", "256M"), int(os.environ.get("TRIALS") or 11)
    ops = (os.environ.get("OPS") or " ".join(OPS)).split()
    bad = False
    print("%-14s %2s %8s" % ("op", "p", "size") + "".join(" %11s %11s" % (n + " us", "min") for n in
          ["private", "mapped"] + list(programs)[1:]) + "  " + ", ".join(n + " / private" for n in list(programs)[1:]) + " [95 %]")
    for ranks in map(int, (os.environ.get("RANKS") or "2 4 8").split()):
        workers = start(ranks, programs)
        try:
            ways = [(workers[0], 0), (workers[0], 1)] + [(w, 0) for w in workers[1:]]
            for op, name in enumerate(OPS):
                size = least
                while name in ops and size <= most:
                    if size // 4 // (ranks if op in (1, 2) else 1):
                        bad |= measure(ways, op, size, ranks, trials)
                    size *= 2
        finally:
            for w in workers:
                w.end()
    return bad


try:
    status = main()
except RuntimeError as e:
    print("bench_others: %s" % e, file=sys.stderr)
    status = 1
finally:
    shutil.rmtree(DIR, ignore_errors=True)
sys.exit(status)
