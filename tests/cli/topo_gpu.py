"""GPU binding against an oracle: machines are read here from their XML, by other rules than the program's, and what
`muster topo pin --bind gpu` answers is compared with what a search over all assignments finds. Prints TAP."""
import functools
import glob
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET

MUSTER = os.environ.get("B", "build/default") + "/bin/muster"
tests = bad = 0


def check(ok, name, note=""):
    global tests, bad
    tests += 1
    bad += not ok
    print(("ok" if ok else "not ok"), tests, "-", name)
    if not ok and note:
        print("# " + str(note).replace("\n", "\n# "))


def cpulist(text):
    out = set()
    for part in filter(None, text.split(",")):
        lo, _, hi = part.partition("-")
        out |= set(range(int(lo), int(hi or lo) + 1))
    return out


def hwloc_set(text):
    """hwloc's bitmap: words of 32 bits, the highest first, an empty word is 0."""
    value = 0
    for word in text.split(","):
        value = (value << 32) | (int(word, 16) if word else 0)
    return {i for i in range(value.bit_length()) if value >> i & 1}


class Dev:
    def __init__(self, pci, path, cpus, numa, name=None, uuid=None, fabric=False, up=True):
        self.pci, self.path, self.cpus, self.numa = pci, path, cpus, numa
        self.name, self.uuid, self.fabric, self.up = name, uuid, fabric, up


CONSOLE = {"1a03", "102b", "19e5", "18ca"}  # ASPEED, Matrox, Huawei, XGI


def read_hwloc(root):
    gpus, nics, allowed = [], [], set()

    def osdevs(o):
        for c in o.findall("object"):
            if c.get("type") == "OSDev":
                yield c, {i.get("name"): i.get("value") for i in c.findall("info")}
                yield from osdevs(c)

    def device(o, path, cpus, numa):
        pci, kind = o.get("pci_busid"), o.get("pci_type")
        cls, ids = kind[:4], kind[kind.index("[") + 1:kind.index("]")]
        vendor, number = ids.split(":")
        under = list(osdevs(o))
        uuid = next((i[k] for _, i in under for k in ("NVIDIAUUID", "AMDUUID") if k in i), None)
        has_gpu = any(d.get("osdev_type") in ("1", "5") and not d.get("name").startswith(("card", "control"))
                      for d, _ in under)
        if cls == "0302" or has_gpu or (cls[:2] == "03" and vendor in ("10de", "1002") and vendor not in CONSOLE
                                        and number != "515e"):
            gpus.append(Dev(pci, path, cpus, numa, uuid=uuid))
            return
        net = [(d, i) for d, i in under if d.get("osdev_type") in ("2", "3")]
        if not net:
            return
        rdma = [(d, i) for d, i in net if d.get("osdev_type") == "3"]
        states = [v for _, i in rdma for k, v in i.items() if k.startswith("Port") and k.endswith("State")]
        nics.append(Dev(pci, path, cpus, numa, name=(rdma or net)[0][0].get("name"),
                        fabric=bool(rdma) or vendor == "17db",
                        up=not states or any(s.startswith("4") for s in states)))
        nics[-1].key = (path, vendor, number)

    def walk(o, path, cpus, numa):
        kind = o.get("type")
        if kind == "PU":
            allowed.add(int(o.get("os_index")))
        if kind in ("Bridge", "PCIDev"):
            path = path + (o.get("bridge_pci", "") + o.get("pci_busid", ""),) if kind == "Bridge" else path
            if kind == "PCIDev":
                device(o, path, cpus, numa)
        elif o.get("cpuset"):
            cpus, numa, path = hwloc_set(o.get("cpuset")), hwloc_set(o.get("nodeset")), ()
        for c in o.findall("object"):
            walk(c, path, cpus, numa)

    top = root.find("object")
    walk(top, (), set(), set())
    if top.get("allowed_cpuset"):
        allowed &= hwloc_set(top.get("allowed_cpuset"))
    # Functions of one card with another device number than its first one are virtual.
    real = [n for n in nics if not any(m is not n and m.key[:2] == n.key[:2] and len(n.path) > 1 and m.pci < n.pci
                                       and m.key[2] != n.key[2] for m in nics)]
    return gpus, real, allowed


def read_nccl(root):
    gpus, nics, allowed = [], [], set()

    def walk(o, path, cpus, numa):
        if o.tag == "cpu":
            cpus, numa = hwloc_set(o.get("affinity")), {int(o.get("numaid"))}
            allowed.update(cpus)
        elif o.tag == "pci":
            cls = o.get("class")
            if cls.startswith("0x0302"):
                gpus.append(Dev(o.get("busid"), path, cpus, numa))
            elif cls.startswith("0x02"):
                nics.append(Dev(o.get("busid"), path, cpus, numa, fabric=cls.startswith("0x0207")))
            path = path + (o.get("busid"),)
        for c in o:
            walk(c, path, cpus, numa)

    walk(root, (), set(), set())
    return gpus, nics, allowed


def read(path):
    root = ET.parse(path).getroot()
    gpus, nics, allowed = read_nccl(root) if root.tag == "system" else read_hwloc(root)
    if any(n.fabric for n in nics):
        nics = [n for n in nics if n.fabric]
    if any(n.up for n in nics):
        nics = [n for n in nics if n.up]
    return gpus, nics, allowed


def near(g, n):
    """As a tuple: bridges in common, same NUMA node."""
    common = sum(1 for _ in itertools.takewhile(lambda ab: ab[0] == ab[1], zip(g.path, n.path)))
    return common, bool(g.numa & n.numa)


def best_sum(gpus, nics):
    """The least sum of squares of loads when each GPU has one of its nearest adapters, over all choices."""
    choices = [[i for i, n in enumerate(nics) if near(g, n) == max(near(g, m) for m in nics)] for g in gpus]

    @functools.lru_cache(None)
    def go(k, loads):
        if k == len(choices):
            return sum(x * x for x in loads)
        return min(go(k + 1, loads[:i] + (loads[i] + 1,) + loads[i + 1:]) for i in choices[k])

    return go(0, (0,) * len(nics))


def pin(*args):
    p = subprocess.run([MUSTER, "topo", "pin", *args, "--json"], capture_output=True, text=True, timeout=60)
    return json.loads(p.stdout) if p.returncode == 0 else None


def wrong(path, gpus, nics, allowed, n, *more):
    """What is not as it has to be in a plan of n ranks; "" when all is."""
    plan = pin("--node-file", path, "-n", str(n), "--bind", "gpu", *more)
    if not plan:
        return "no plan"
    if plan["bind"] != "gpu":
        return "bound to %s: %s" % (plan["bind"], plan["note"])
    seen, by_pci = set(), {g.pci: g for g in gpus}
    used = {}
    for r in plan["ranks"]:
        cpus = cpulist(r["cpuset"])
        if not r["gpu"] or r["gpu"]["pci"] not in by_pci:
            return "rank %d has no GPU of the file's: %s" % (r["rank"], r["gpu"])
        g = by_pci[r["gpu"]["pci"]]
        used[g.pci] = used.get(g.pci, 0) + 1
        if r["gpu"]["uuid"] != g.uuid:
            return "rank %d: another UUID" % r["rank"]
        if not cpus or not cpus <= allowed:
            return "rank %d: CPUs that are not allowed" % r["rank"]
        if not cpus <= g.cpus:
            return "rank %d: CPUs that are not near GPU %s" % (r["rank"], g.pci)
        if not cpulist(r["nodeset"]) <= g.numa:
            return "rank %d: NUMA nodes that are not near its GPU" % r["rank"]
        if cpus & seen:
            return "rank %d: a CPU of another rank's" % r["rank"]
        seen |= cpus
        if bool(r["nic"]) != bool(nics):
            return "rank %d: adapter %s of %d" % (r["rank"], r["nic"], len(nics))
        if nics:
            nic = [m for m in nics if m.pci == r["nic"]["pci"] and m.name == r["nic"]["name"]]
            if not nic:
                return "rank %d: adapter %s is none of the file's" % (r["rank"], r["nic"])
            if near(g, nic[0]) != max(near(g, m) for m in nics):
                return "rank %d: adapter %s is not the nearest to %s" % (r["rank"], nic[0].pci, g.pci)
    if len(used) != min(n, len(gpus)) or max(used.values()) - min(used.values()) > 1:
        return "GPUs are not shared evenly: %s" % used
    if nics and n == len(gpus):
        loads = {}
        for r in plan["ranks"]:
            loads[r["nic"]["pci"]] = loads.get(r["nic"]["pci"], 0) + 1
        got, want = sum(x * x for x in loads.values()), best_sum(gpus, nics)
        if got != want:
            return "adapters are not shared as evenly as can be: %d, not %d" % (got, want)
    return ""


def machine(path):
    gpus, nics, allowed = read(path)
    name = os.path.basename(path)
    if not gpus:
        plan = pin("--node-file", path, "-n", "1", "--bind", "gpu")
        check(plan and plan["bind"] == "core" and "no GPU" in plan["note"], name + ": no GPU, and it says so", plan)
        return
    why = ""
    for n in list(range(1, len(gpus) + 1)) + [2 * len(gpus)]:
        for more in ([], ["--smt"], ["--map", "numa"], ["--map", "slot"]):
            why = why or (wrong(path, gpus, nics, allowed, n, *more) and "%d ranks %s: %s" % (
                n, more, wrong(path, gpus, nics, allowed, n, *more)))
    check(not why, "%s: %d GPUs, %d adapters" % (name, len(gpus), len(nics)), why)


def made_up(rng):
    """An NCCL topology of a machine that nobody has built."""
    bus = itertools.count(1)
    left = {"gpu": rng.randint(1, 6), "nic": rng.randint(0, 5)}

    def below(depth):
        text = ""
        for _ in range(rng.randint(1, 3)):
            b = "%04x:%02x:00.0" % (rng.randint(0, 2), next(bus))
            kind = rng.random()
            if depth < 3 and kind < 0.45:
                text += '<pci busid="%s" class="0x060400">%s</pci>' % (b, below(depth + 1))
            elif kind < 0.75 and left["gpu"]:
                left["gpu"] -= 1
                text += '<pci busid="%s" class="0x030200"/>' % b
            elif left["nic"]:
                left["nic"] -= 1
                text += '<pci busid="%s" class="0x020700"><nic/></pci>\n' % b
        return text

    cpus = [below(0) for _ in range(rng.randint(1, 4))]
    return "<system version='1'>\n" + "".join(
        '<cpu numaid="%d" affinity="%08x" arch="x86_64">%s</cpu>\n' % (i, 0xff << (8 * i), text)
        for i, text in enumerate(cpus)) + "</system>\n"


def main():
    for path in sorted(glob.glob("tests/data/node-*.xml")):
        machine(path)
    where = os.environ.get("MUSTER_TEST_TOPOLOGIES", "../shared/data/topo")
    real = sorted(glob.glob(where + "/*.xml"))
    for path in real:
        machine(path)
    if not real:
        global tests
        tests += 1
        print("ok %d # skip no machine files in %s" % (tests, where))
    rng, why, count = random.Random(7), "", 0
    with tempfile.TemporaryDirectory(prefix="muster-topo-gpu-") as tmp:
        while count < int(os.environ.get("ROUNDS", "150")) and not why:
            path = os.path.join(tmp, "m.xml")
            with open(path, "w") as f:
                f.write(made_up(rng))
            gpus, nics, allowed = read(path)
            if gpus:
                count += 1
                why = wrong(path, gpus, nics, allowed, len(gpus))
                if why:
                    why += "\n" + open(path).read()
    check(not why, "%d machines that nobody has built" % count, why)
    print("1..%d" % tests)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
