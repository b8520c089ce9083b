"""How many ranks of a job with a rank for each GPU are bound to CPUs of their GPU's NUMA node: muster, and Open MPI's
mappings on the same file, worked out by its own mapper for a simulated node. Rank i uses GPU i in the order of PCI
addresses, which is what programs do that go by their local rank. Where the mapper leaves a rank unbound in what it is mapped to
(it does so for whole sockets and NUMA nodes of a simulated node), that counts as its binding."""
import glob
import json
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cli"))
import topo_gpu  # noqa: E402  reads the machines, without the program's help

MUSTER = os.environ.get("B", "build/default") + "/bin/muster"
MPIRUN = os.environ.get("MPIRUN", "mpirun")
MAPPINGS = [("by slot", "--map-by slot --bind-to core"), ("by numa", "--map-by numa --bind-to core"),
            ("by socket", "--map-by socket --bind-to socket"), ("default", "")]
ENV = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")


def cores_by_package(path):
    """Lists of cores, each the list of its CPUs, in the order in which mpirun draws them."""
    out = subprocess.run([MUSTER, "topo", "show", "--node-file", path, "--json"], capture_output=True, text=True)
    packages = {}
    for core in json.loads(out.stdout)["core_list"]:
        packages.setdefault(core["package"], []).append(core["pus"])
    return [packages[p] for p in sorted(packages)]


def parse_binding(text, packages):
    """'[BB/..][../..]': packages, in them cores, in them hardware threads. Empty: all of the node."""
    cpus = set()
    for package, cores in zip(re.findall(r"\[([^\]]*)\]", text), packages):
        for threads, pus in zip(package.split("/"), cores):
            cpus |= {pu for mark, pu in zip(threads, pus) if mark == "B"}
    return cpus


def open_mpi(path, n, options, packages):
    """CPUs of each rank, or the reason why there are none."""
    command = [MPIRUN, "--mca", "ras", "simulator", "--mca", "ras_simulator_num_nodes", "1", "--mca",
               "ras_simulator_topo_files", os.path.abspath(path), "--mca", "ras_simulator_slots", str(n),
               "--do-not-launch", "--display-devel-map", *options.split(), "-n", str(n), "true"]
    for _ in range(24):  # 4.1 prints from memory that it does not own, and often crashes
        try:
            p = subprocess.run(command, capture_output=True, text=True, timeout=60, env=ENV)
        except FileNotFoundError:
            return "mpirun is not installed"
        except subprocess.TimeoutExpired:
            return "mpirun does not come back"
        if "ras_base_allocate" in p.stderr + p.stdout:
            return "mpirun does not take the file"
        found = re.findall(r"Locale: +(\S+)\s+Binding: (\S+)", p.stdout)
        if len(found) >= n:
            return [parse_binding(bound if bound != "UNBOUND" else place, packages) for place, bound in found[:n]]
    return "mpirun crashes" if p.returncode < 0 or "Segmentation" in p.stderr else "mpirun maps nothing"


def muster(path, n):
    plan = topo_gpu.pin("--node-file", path, "-n", str(n), "--bind", "gpu")
    return [(r["gpu"]["pci"], topo_gpu.cpulist(r["cpuset"])) for r in plan["ranks"]]


def main():
    files = os.environ.get("FILES", "").split() or sorted(glob.glob("tests/data/node-*.xml")) + sorted(
        glob.glob(os.environ.get("MUSTER_TEST_TOPOLOGIES", "../shared/data/topo") + "/*.xml"))
    total = {name: [0, 0] for name in ["muster"] + [m for m, _ in MAPPINGS]}
    print("%-34s %5s %8s" % ("MACHINE", "GPUS", "muster") + "".join(" %10s" % m for m, _ in MAPPINGS))
    for path in files:
        gpus, _, _ = topo_gpu.read(path)
        if not gpus:
            continue
        gpus.sort(key=lambda g: [int(x, 16) for x in re.split("[:.]", g.pci)])
        near = {g.pci: g.cpus for g in gpus}
        good = sum(cpus <= near[pci] for pci, cpus in muster(path, len(gpus)))
        total["muster"][0] += good
        total["muster"][1] += len(gpus)
        line, why = "%-34s %5d %8s" % (os.path.basename(path)[:34], len(gpus), "%d/%d" % (good, len(gpus))), ""
        try:
            packages = cores_by_package(path)
        except (ValueError, KeyError):
            packages = []
        for name, options in MAPPINGS:
            got = open_mpi(path, len(gpus), options, packages)
            if isinstance(got, str):
                line, why = line + " %10s" % "-", got
                continue
            good = sum(bool(cpus) and cpus <= g.cpus for g, cpus in zip(gpus, got))
            total[name][0] += good
            total[name][1] += len(gpus)
            line += " %10s" % ("%d/%d" % (good, len(gpus)))
        print(line + ("   " + why if why else ""))
    print("%-34s %5s %8s" % ("share", "", percent(total["muster"])) +
          "".join(" %10s" % percent(total[m]) for m, _ in MAPPINGS) + "   of those it takes")
    return 0 if total["muster"][0] == total["muster"][1] > 0 else 1


def percent(t):
    return "%.0f%%" % (100.0 * t[0] / t[1]) if t[1] else "-"


if __name__ == "__main__":
    sys.exit(main())
