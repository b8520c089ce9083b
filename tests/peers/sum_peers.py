"""What runs of make bench-peers come to: sum_peers.py FILE..., a file a run. Somebody is slower at a size when that was
said in most of the runs (two of three)."""
import re
import sys

RATIO = re.compile(r"(\d+\.\d+) \[(\d+\.\d+), (\d+\.\d+)\] (slower|even|faster)")
ROW = re.compile(r"(\w+) +(\d+) +(\d+ (?:B|KiB|MiB|GiB))  ?")


def read(path, cells, wrong):
    names = []
    for line in open(path, errors="replace"):
        if line.startswith("op "):
            names = line.rsplit("  ", 1)[1].replace("[95 %]", "").strip().split(", ")
            continue
        row = ROW.match(line)
        if not row:
            continue
        if "WRONG" in line:
            for who in line.partition("WRONG: ")[2].strip().split(", "):
                wrong[who] = wrong.get(who, 0) + 1
        for name, found in zip(names, RATIO.findall(line)):
            cells.setdefault((name, *row.groups()), []).append(found)


def main():
    cells, wrong = {}, {"muster": 0}
    for path in sys.argv[1:]:
        read(path, cells, wrong)
    print("%-18s %3s %6s %7s %7s %7s %9s" % ("", "p", "runs", "faster", "even", "slower", "in most"))
    for name, p in sorted({k[::2][:2] for k in cells}, key=lambda k: (k[0], int(k[1]))):
        of = [v for k, v in cells.items() if (k[0], k[2]) == (name, p)]
        said = [x[3] for v in of for x in v]
        most = sum(2 * sum(x[3] == "slower" for x in v) > len(v) for v in of)
        print("%-18s %3s %6d %7d %7d %7d %9d" % (name, p, max(map(len, of)), *(said.count(w) for w in ("faster", "even", "slower")),
                                                most))
    for (name, op, p, size), v in cells.items():
        if 2 * sum(x[3] == "slower" for x in v) > len(v):
            print("slower in most runs: %s, %s, %s ranks, %s: %s" % (name, op, p, size, ", ".join("%s [%s, %s]" % x[:3] for x in v)))
    print("wrong results: " + ", ".join("%s %d" % x for x in wrong.items()))


main()
