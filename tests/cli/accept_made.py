"""A run of muster accept that is made up: accept_made.py DIR [--slow HOST] [--fading HOST] [--hosts N] [--name TEXT] [--bw GB/S] [--unit OF-BW] [--seed S]
[--criteria TEXT].
The slow host sends a fifth less, the fading one loses 15 % of its memory's bandwidth towards the end of many launches; links and hosts are
even but for noise."""
import argparse, hashlib, json, os, random, statistics

ap = argparse.ArgumentParser()
ap.add_argument("dir")
ap.add_argument("--slow")
ap.add_argument("--fading")
ap.add_argument("--hosts", type=int, default=8)
ap.add_argument("--name", default="n")
ap.add_argument("--bw", type=float, default=46)
ap.add_argument("--unit", default="GB/s")
ap.add_argument("--seed", type=int, default=1)
ap.add_argument("--wrong", action="store_true")
ap.add_argument("--criteria", default="check pair.bw each >= 0.94*median confirm=2/3\ncheck pair.lat each <= 1.25*median confirm=2/3\n"
                "check node.mem.* each >= 0.9*median confirm=2/3\ncheck coll.allreduce.busbw size>=1M >= 0.2*ib400.gdr\n"
                "check node.gpu.* each >= 52 GB/s optional\n")
a = ap.parse_args()
rng = random.Random(a.seed)
hosts = [a.name + "%d" % (i + 1) for i in range(a.hosts)]
os.makedirs(a.dir + "/raw")
journal = [{"kind": "begin", "schema": "muster.accept-journal/1", "token": "made-up-%d" % a.seed, "profile": "standard", "run": [],
            "seed": 1, "t": 1790000000.0, "soak_s": 3600.0, "command": "muster accept --profile standard -H 'n[1-%d]'" % a.hosts}]


def measure(name, unit, better, scope, size, value, noise=0.01, **more):
    values = [value * rng.gauss(1, noise) * (rng.uniform(1.2, 4) if unit == "us" and rng.random() < 0.02 else 1) for _ in range(40)]
    s = sorted(values)
    return dict(kind="measurement", name=name, unit=unit, better=better, scope=scope, size=size, n=40, min=s[0], p50=statistics.median(s),
                p90=s[35], p99=None, max=s[-1], ci95=[s[13], s[26]], values=[round(v, 6) for v in values], wrong=0, launch=0, order=0, **more)


def step(name, rnd, lines):
    head = {"kind": "run", "schema": "muster.samples/1", "hosts": hosts, "host_of": list(range(len(hosts))) if len(hosts) > 1 else [0, 0]}
    text = "".join(json.dumps(x) + "\n" for x in [head, {"kind": "clock", "rank": 1, "residual_us": 0.4}] + lines).encode()
    with open("%s/raw/%s.jsonl" % (a.dir, name), "wb") as f:
        f.write(text)
    journal.append({"kind": "step", "name": name, "round": rnd, "rc": 0, "sha256": hashlib.sha256(text).hexdigest()})


def pairs():
    for i, x in enumerate(hosts):
        for j, y in enumerate(hosts):
            if i == j:
                continue
            yield measure("pair.bw", a.unit, "more", "pair", 1 << 20, a.bw * (0.8 if x == a.slow else 1), direction="one", **{"from": i, "to": j, "from_host": x, "to_host": y})
            if i < j:
                yield measure("pair.lat", "us", "less", "pair", 8, 2.1, 0.03, direction="both", **{"from": i, "to": j, "from_host": x, "to_host": y})


def memory(fading):
    return [measure("node.mem." + k, "GB/s", "more", "node", 1 << 28, v * (0.85 if fading and h == a.fading else 1), rank=i, host=h)
            for i, h in enumerate(hosts) for k, v in (("copy", 310), ("triad", 280))]


for launch in range(12 if a.fading else 3):
    step("%d.node" % launch, 0, memory(launch >= 8)
         + [measure("node.cpu.gemm", "GFLOP/s", "more", "node", 0, 3100, rank=i, host=h) for i, h in enumerate(hosts)])
    lines = list(pairs())
    if a.wrong:
        for x in lines:
            x["wrong"] = 7 if x.get("from_host") == hosts[2] and x["name"] == "pair.bw" else 0
    step("%d.pair" % launch, 0, lines)
    step("%d.coll" % launch, 0, [measure("coll." + op, "us", "less", "group", 1 << k, 12 + (1 << k) / rate * 1e6, 0.02, op=op, group=None,
                                         per_rank=[{"arrive_us": abs(rng.gauss(0.3, 0.2)), "time_us": 10} for _ in hosts])
                                 for op, rate in (("allreduce", 26e9), ("allgather", 52e9), ("reduce_scatter", 48e9), ("broadcast", 40e9))
                                 for k in range(10, 27, 2)])
if a.slow:
    for r in (1, 2, 3):
        step("again-%d.pair" % r, r, list(pairs()))
for r in (1, 2, 3) if a.fading else ():
    step("again-%d.node" % r, r, memory(True))
journal.append({"kind": "end", "verdict": "pass", "seconds": 60.0})
with open(a.dir + "/journal.jsonl", "w") as f:
    f.writelines(json.dumps(x) + "\n" for x in journal)
with open(a.dir + "/criteria.txt", "w") as f:
    f.write(a.criteria)
