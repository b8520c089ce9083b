"""What a soak of acceptance comes to. `add FILE SEED KIND A B DROP RC SECONDS`: a run, its JSON on standard input; prints
what it was, where that is not as it should be. `say FILE PROFILE`: the table, then a line `bound 0|1 TEXT` for each.

A run that ended without a verdict could not be made: it is no miss and no accusation, but a soak must have none. Who is
confirmed is accused. Who is `unsure` is not, so that a healthy cluster may be inconclusive; what is planted and only
unsure, or where the verdict is inconclusive, is not found: it counts against recall, beside what is missed in silence."""
import json
import sys

HEALTHY, DEGREES = ("none", "hog"), ("out", "in", "both", "link", "stop", "quota")
VERDICTS = (0, 1, 3, 5)
MOST_S = 60


def want(r):
    a, b = "h%d" % r["a"], "h%d" % r["b"]
    return {"link": "link %s>%s -" % (a, b), "delay": "node %s both" % a, "spoil": "rank %d out" % (r["a"] - 1),
            "stop": "node %s -" % a, "quota": "node %s -" % a}.get(r["kind"], "node %s %s" % (a, r["kind"]))


def names(suspect, host):
    return suspect.get("host") == host or host in suspect["id"].split(">")


def judge(r):
    """Sets r["was"] and r["named"], r["right"]: accusations, and those of what is planted."""
    got, r["named"], r["right"] = r["got"], 0, 0
    if got is None or r["rc"] not in VERDICTS:
        r["was"] = "not run"
        return
    named = got["suspects"]
    right = [s for s in named if r["kind"] not in HEALTHY and names(s, "h%d" % r["a"])]
    r["named"], r["right"] = len(named), len(right)
    r["said"] = ", ".join(" ".join((s["kind"], s["id"], s.get("direction", "-"))) for s in named)
    if len(right) < len(named):
        r["was"] = "accused"
    elif right:
        r["was"] = "found" if r["said"] == want(r) else "kind wrong"
    elif got["unsure"] or got["verdict"] == "inconclusive":
        r["was"] = "inconclusive"
    else:
        r["was"] = "well" if r["kind"] in HEALTHY else "missed"


def add(path, seed, kind, a, b, drop, rc, seconds):
    text = sys.stdin.read()
    try:
        whole = json.loads(text)
        got = {"verdict": whole["verdict"],
               "suspects": [{k: s[k] for k in ("kind", "id", "direction", "host") if k in s} for s in whole["suspects"]],
               "unsure": ["%s %s: %s" % (s["kind"], s["id"], s.get("evidence")) for s in whole["unsure"]]}
    except (ValueError, KeyError, TypeError):
        got = None
    r = {"seed": int(seed), "kind": kind, "a": int(a), "b": int(b), "drop": int(drop), "rc": int(rc), "seconds": int(seconds),
         "got": got}
    with open(path, "a") as f:
        f.write(json.dumps(r) + "\n")
    judge(r)
    good = ("well", "inconclusive") if kind in HEALTHY else ("found",)
    if r["was"] not in good or r["seconds"] > MOST_S:
        print("seed %d: %s h%d h%d %d %%: %s, exit %d, %d s: %s" % (r["seed"], kind, r["a"], r["b"], r["drop"], r["was"], r["rc"],
                                                                    r["seconds"], got))


def percent(part, of):
    return 100 * part / of if of else 100


def say(path, profile):
    runs = [json.loads(line) for line in open(path)]
    for r in runs:
        judge(r)
    columns = ("not run", "found", "kind wrong", "accused", "inconclusive", "missed", "well")
    rows = [(k, [r for r in runs if r["kind"] == k]) for k in sorted({r["kind"] for r in runs})]
    rows += [("%d %%" % d, [r for r in runs if r["kind"] in DEGREES and r["drop"] == d])
             for d in sorted({r["drop"] for r in runs if r["kind"] in DEGREES})]
    rows.append(("all", runs))
    print("%-8s %5s" % ("", "runs") + "".join("%13s" % c for c in columns) + "%9s %10s" % ("recall", "s, p50/max"))
    for name, v in rows:
        planted = [r for r in v if r["kind"] not in HEALTHY and r["was"] != "not run"]
        took = sorted(r["seconds"] for r in v)
        print("%-8s %5d" % (name, len(v)) + "".join("%13d" % sum(r["was"] == c for r in v) for c in columns) +
              ("%7.1f %%" % percent(sum(r["right"] > 0 for r in planted), len(planted)) if planted else "%9s" % "-") +
              ("%6d/%d" % (took[len(took) // 2], took[-1]) if took else ""))

    made = [r for r in runs if r["was"] != "not run"]
    planted = [r for r in made if r["kind"] not in HEALTHY]
    large = [r for r in planted if r["kind"] not in DEGREES or r["drop"] >= 10]
    small = [r for r in planted if r not in large]
    found = sum(r["right"] > 0 for r in planted)
    named, right = sum(r["named"] for r in made), sum(r["right"] for r in made)
    healthy = [r for r in made if r["kind"] in HEALTHY]
    accused = sum(r["named"] > 0 for r in healthy)

    def bound(value, least, text):
        print("bound %d %s" % (value >= least, text))

    bound(len(made), len(runs), "%d of %d runs ended with a verdict" % (len(made), len(runs)))
    bound(percent(right, named), 99, "precision: %d of %d accusations are right" % (right, named))
    bound(percent(sum(r["right"] > 0 for r in large), len(large)), 99,
          "recall from 10 %% on: %d of %d" % (sum(r["right"] > 0 for r in large), len(large)))
    if profile == "standard":
        bound(percent(sum(r["right"] > 0 for r in small), len(small)), 90,
              "recall at 5 %%: %d of %d" % (sum(r["right"] > 0 for r in small), len(small)))
    kinds = sum(r["was"] == "found" for r in planted)
    bound(percent(kinds, found), 95, "kind right: %d of %d" % (kinds, found))
    bound(-accused, 0, "nobody is accused where nothing is wrong: %d of %d" % (accused, len(healthy)))
    slow = sum(r["seconds"] > MOST_S for r in runs)
    bound(-slow, 0, "%d s at most: %d took longer" % (MOST_S, slow))


if __name__ == "__main__":
    {"add": add, "say": say}[sys.argv[1]](*sys.argv[2:])
