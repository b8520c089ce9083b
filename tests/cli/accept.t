#!/usr/bin/env bash
# muster accept: verdicts and reports of made-up runs, its files and its refusals. Real hosts: tests/cluster/accept.t.
. "$(dirname "$0")/../lib.sh"
make_run() { python3 tests/cli/accept_made.py "$@"; }
verdict() { python3 -c 'import json,sys; d=json.load(sys.stdin); print(d["schema"], d["verdict"], *[" ".join([s["kind"], s["id"], s.get("direction","-")]) for s in d["suspects"]])'; }

make_run "$tmp/well"
make_run "$tmp/slow" --slow n4 --seed 2
make_run "$tmp/wrong" --wrong --seed 3
make_run "$tmp/alone" --hosts 1 --seed 4
make_run "$tmp/fading" --fading n6 --seed 6
while IFS=: read -r run code want; do
    run_cmd "$muster" accept report "$tmp/$run" --json
    is "$rc:$(verdict <<<"$out")" "$code:muster.accept/1 $want" "$run"
done <<'ROWS'
well:0:pass
slow:1:fail node n4 out
wrong:5:fail rank 2 out
alone:3:inconclusive
fading:1:fail node n6 -
ROWS
run_cmd "$muster" accept report "$tmp/fading"
like "$out" 'node n6: lost 1[45]\.[0-9] % more than the others from the beginning to the end \(node\.mem\.(copy|triad)\); measured again' "a trend is told as one"
run_cmd "$muster" accept report "$tmp/slow" --last "$tmp/well"
like "$out" '^verdict: fail.*node n4: sends 20\.[0-9] % less than the others \(pair\.bw\); measured again' "a person reads who and why"
for args in "report $tmp/well" "report $tmp/well --json" "compare $tmp/well $tmp/slow"; do
    # shellcheck disable=SC2086
    run_cmd sh -c '"$@" >/dev/full' - "$muster" accept $args
    like "$rc $err" '^2 muster accept [a-z]+: standard output: No space left on device$' "$args: what cannot be written is no verdict"
    # shellcheck disable=SC2086
    run_cmd sh -c '"$@" >&-' - "$muster" accept $args
    like "$rc $err" '^2 muster accept [a-z]+: standard output: Bad file descriptor$' "nor what nobody takes"
done
for args in --help 'report --help' criteria "baseline make $tmp/well -o $tmp/base"; do
    # shellcheck disable=SC2086
    run_cmd sh -c '"$@" >/dev/full' - "$muster" accept $args
    is "$rc $err" '2 muster: cannot write standard output: No space left on device' "$args: nor does it say that hardware fails"
done

# the files
cd "$tmp/slow" || exit 99
sha256sum --quiet -c MANIFEST.sha256
ok $? "the manifest holds"
is "$(sort MANIFEST.sha256 | awk '{print $2}' | sort)" "$(find . -type f ! -name MANIFEST.sha256 ! -name journal.jsonl | sed 's|^\./||' | sort)" \
    "and names every file but the journal"
is "$(python3 - <<'PY'
import csv, xml.etree.ElementTree as et
rows = list(csv.DictReader(open("report.csv")))
bw = [r for r in rows if r["test"] == "pair.bw" and r["round"] == "0"]
print(len(bw), sum(float(r["p50"]) < 40 for r in bw), {r["unit"] for r in bw})
s = et.parse("junit.xml").getroot()
print(s.get("tests"), s.get("failures"), s.get("skipped"), [c.get("name") for c in s if c.get("classname") == "suspect"])
PY
)" "56 7 {'GB/s'}
6 2 1 ['n4']" "CSV and JUnit are read by others"
check=$(python3 - <<'PY'
import html.parser, re
text = open("report.html").read()
void, stack = {"meta", "br"}, []
class P(html.parser.HTMLParser):
    def handle_starttag(self, tag, attrs):
        if tag not in void: stack.append(tag)
    def handle_startendtag(self, tag, attrs): pass
    def handle_endtag(self, tag):
        if not stack or stack.pop() != tag: print("not closed before", tag)
P().feed(text)
if stack: print("left open", stack)
for what in ("http", "<script", "<link", "<img", "url(", "@import"):
    if what in text: print("refers to something:", what)
if re.search(r"\b(nan|-?inf)\b", text): print("not a number")
for what in ("bus bandwidth against size", "pair.bw from each host", "node.mem.triad by host", "When ranks come", "Tails:", "Difference to the last run", "prefers-color-scheme:dark", "@media print", "ib400.gdr"):
    if what not in text: print("missing:", what)
PY
)
is "$check" "" "the page is whole, refers to nothing and has all figures"
cd "$root" || exit 99

# in a browser, light, dark and on paper
if ! command -v chromium >/dev/null; then
    skip "chromium is not installed" 4
else
    browser() { timeout 60 chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$tmp/chromium" "$@" "file://$tmp/slow/report.html" >"$tmp/o" 2>&1; }
    browser --window-size=1060,2400 --screenshot="$tmp/light.png"
    ok $? "a browser shows it" || note "$(tail -n 5 "$tmp/o")"
    browser --window-size=1060,2400 --blink-settings=preferredColorScheme=0 --screenshot="$tmp/dark.png"
    browser --print-to-pdf="$tmp/page.pdf"
    # the background at the left edge, and how many colours there are at all
    is "$(python3 - "$tmp/light.png" "$tmp/dark.png" <<'PY'
import struct, sys, zlib
def picture(path):
    d, at, idat = open(path, "rb").read(), 8, b""
    while at < len(d):
        n, kind = struct.unpack(">I4s", d[at:at + 8])
        if kind == b"IHDR": w, h, depth, colour = struct.unpack(">IIBB", d[at + 8:at + 18])
        if kind == b"IDAT": idat += d[at + 8:at + 8 + n]
        at += 12 + n
    size = {2: 3, 6: 4}[colour]
    raw, rows, was = zlib.decompress(idat), [], bytearray(w * size)
    for y in range(h):
        f, line = raw[y * (w * size + 1)], bytearray(raw[y * (w * size + 1) + 1:(y + 1) * (w * size + 1)])
        for i in range(len(line)):
            a, b, c = (line[i - size] if i >= size else 0), was[i], (was[i - size] if i >= size else 0)
            if f == 1: line[i] = line[i] + a & 255
            elif f == 2: line[i] = line[i] + b & 255
            elif f == 3: line[i] = line[i] + (a + b) // 2 & 255
            elif f == 4:
                p = a + b - c
                pa, pb, pc = abs(p - a), abs(p - b), abs(p - c)
                line[i] = line[i] + (a if pa <= pb and pa <= pc else b if pb <= pc else c) & 255
        rows.append(line)
        was = line
        if y == 500: break
    red = sum(r[i] > 150 and r[i] > 2 * r[i + 1] and r[i] > 2 * r[i + 2] for r in rows for i in range(0, w * size, size))
    return sum(rows[100][:3]) / 3, red
light, dark = picture(sys.argv[1]), picture(sys.argv[2])
print(light[0] > 230, dark[0] < 40, light[1] > 200)
PY
)" "True True True" "it is light, dark where that is wanted, and the verdict is red"
    is "$(head -c 5 "$tmp/page.pdf")" "%PDF-" "and it is printed"
    [ -s "$tmp/dark.png" ]
    ok $? "in dark mode, too"
fi

# what was tampered with is seen
sed -i '3s/"p50": [0-9.]*/"p50": 99/' "$tmp/slow/raw/1.pair.jsonl"
run_cmd "$muster" accept report "$tmp/slow"
like "$rc $err" '^2 .*raw/1\.pair\.jsonl: is not what was measured' "a sample that was changed is seen"

# baselines
run_cmd "$muster" accept baseline make "$tmp/well" -o "$tmp/base.jsonl"
like "$rc $out" '^0 .*base\.jsonl: 8 hosts, [0-9]+ measurements of made-up-1' "a baseline is made"
make_run "$tmp/later" --slow n2 --seed 5
run_cmd "$muster" accept compare "$tmp/well" "$tmp/later"
like "$rc $out" '^1 pair\.bw 1048576 B, n2>n[0-9]: .* worse.*figures in both; 7 worse' "two runs are compared"
run_cmd "$muster" accept compare "$tmp/well" "$tmp/well"
is "$rc" 0 "a run is as good as itself"
make_run "$tmp/others" --name other --seed 7
run_cmd "$muster" accept compare "$tmp/alone" "$tmp/others"
is "$rc:${out%%;*}" "3:0 figures in both" "of runs that have nothing in common nobody can tell"
make_run "$tmp/units" --unit Gb/s --bw 1 --seed 8
run_cmd "$muster" accept compare "$tmp/well" "$tmp/units"
unlike "$out" 'pair\.bw' "figures of other units are not compared"
run_cmd "$muster" accept baseline make "$tmp/well" -o "$tmp/well/raw/0.pair.jsonl"
like "$rc $err" '^2 .*0\.pair\.jsonl: is a file of the run itself' "not over its own samples"
run_cmd "$muster" accept baseline make "$tmp/well" -o /dev/stdout
is "$rc $(cmp - "$tmp/base.jsonl" <<<"$out" && echo same)" "0 same" "nor with anything else on standard output" || note "$err"
mkfifo "$tmp/pipe"
timeout 20 cat "$tmp/pipe" >"$tmp/piped" &
run_cmd timeout 20 "$muster" accept baseline make "$tmp/well" -o "$tmp/pipe"
wait $!
cmp -s "$tmp/base.jsonl" "$tmp/piped" && [ -p "$tmp/pipe" ]
ok $? "a baseline goes into what is no file without taking its place" || note "$err"

# what is strange or damaged
make_run "$tmp/odd" --name "$(printf '😀%.0s' {1..48})" --slow "$(printf '😀%.0s' {1..48})4" --seed 2
run_cmd "$muster" accept report "$tmp/odd"
is "$rc $(python3 - "$tmp/odd" <<'PY'
import json, sys, xml.etree.ElementTree as et
d = sys.argv[1]
open(d + "/report.html", encoding="utf-8").read()
open(d + "/report.csv", encoding="utf-8").read()
print(len(json.load(open(d + "/report.json"))["checks"]), len(et.parse(d + "/junit.xml").getroot()))
PY
)" "1 5 6" "texts that are cut to fit are cut between characters" || note "$err"
make_run "$tmp/below" --bw -5 --seed 9
run_cmd "$muster" accept report "$tmp/below"
is "$rc" 3 "figures below zero are looked at" || note "$err"
make_run "$tmp/beyond" --bw 1e200 --seed 9
run_cmd "$muster" accept report "$tmp/beyond"
like "$rc $err" "^2 .*raw/0\.pair\.jsonl:3: 'p50' is nothing that can be measured" "beyond what there is, they are not"
sed -i '$d' "$tmp/well/journal.jsonl"
run_cmd "$muster" accept report "$tmp/well"
like "$rc $out" '^3 verdict: inconclusive.*the run was not finished; `muster accept --resume made-up-1` goes on' "a run that was interrupted is not well"
sed -i '2,$d' "$tmp/well/journal.jsonl"
run_cmd "$muster" accept report "$tmp/well"
is "$rc" 3 "nor bad for what it has not measured yet"
cp "$tmp/well/journal.jsonl" "$tmp/journal"
while IFS='|' read -r change want; do
    sed "$change" "$tmp/journal" >"$tmp/well/journal.jsonl"
    run_cmd "$muster" accept report "$tmp/well"
    like "$rc $err" "^$want" "a journal with $change"
    is "$(wc -l <"$tmp/.err")" "$([ "$rc" = 2 ] && echo 1 || echo 0)" "and one line says so"
done <<'ROWS'
s/"profile": "standard"/"profile": "frob"/|2 .*journal\.jsonl:1: damaged
s/"profile"/"x"/|2 .*journal\.jsonl:1: damaged
s/"command"/"x"/|2 .*journal\.jsonl:1: damaged
s/"token": "/&\\u001b/|2 .*journal\.jsonl:1: damaged
s/"soak_s": 3600.0/"soak_s": -1/|2 .*journal\.jsonl:1: damaged
s/"seed": 1/"seed": -1/|2 .*journal\.jsonl:1: damaged
$a {"kind":"end","seconds":1e308}|2 .*journal\.jsonl:2: damaged
$a {"kind":"step","name":"a\\nb"}|2 .*journal\.jsonl:2: damaged
s/journal.1"/journal\/2"/|2 .*is muster\.accept-journal/2, this muster has
$a {"kind":"step","name":"../../x"}|2 .*journal\.jsonl:2: damaged
s/"t": 1790000000.0/"t": 1e99/|3
s/"t": 1790000000.0/"t": -1e99/|3
ROWS

for change in 's/"run": \[\]/"run": [1]/' 's/"run": \[\]/"run": ["--timeout=1ms"]/' 's/"run": \[\]/"run": "x"/' '1s/{/{"only": "pear", /'; do
    sed "$change" "$tmp/journal" >"$tmp/well/journal.jsonl"
    run_cmd timeout 60 "$muster" accept --resume "$tmp/well"
    like "$rc $err" '^2 .*journal\.jsonl:1: damaged' "nothing is gone on with by $change"
done

# what it had to hold is part of the run
sed '1s/{/{"criteria": "00", /' "$tmp/journal" >"$tmp/well/journal.jsonl"
run_cmd "$muster" accept report "$tmp/well"
like "$rc $err" '^2 .*criteria\.txt: is not what the run has begun with' "criteria that were changed are seen"
sum=$(sha256sum <"$tmp/well/criteria.txt")
sed "1s/{/{\"criteria\": \"${sum%% *}\", /" "$tmp/journal" >"$tmp/well/journal.jsonl"
run_cmd "$muster" accept report "$tmp/well"
is "$rc" 3 "and those that were not are judged by" || note "$err"
# and so are its hosts: here are none of those
sed '1s/"profile": "standard"/"profile": "standard", "only": "pair,overlap"/' "$tmp/journal" >"$tmp/well/journal.jsonl"
grep -m 1 '"0.pair"' "$tmp/slow/journal.jsonl" | sed "s/\"sha256\": \"[0-9a-f]*/\"sha256\": \"$(sha256sum <"$tmp/well/raw/0.pair.jsonl" | cut -d' ' -f1)/" >>"$tmp/well/journal.jsonl"
mkfifo "$tmp/well/raw/0.overlap.jsonl.part" # nobody reads it
run_cmd timeout 60 "$muster" accept --resume "$tmp/well" -q
like "$rc $err" '^2 .*0\.overlap: its hosts are not those that run made-up-1 has begun with' "a run does not go on with other hosts" || note "$out"
[ -z "$(find "$tmp/well/raw" -name '*overlap*')" ]
ok $? "and keeps nothing of them"
mv "$tmp/well/raw/0.pair.jsonl" "$tmp/away"
run_cmd timeout 60 "$muster" accept --resume "$tmp/well" -q
like "$rc $err" '^2 .*cannot read .*raw/0\.pair\.jsonl' "nor without what it has measured"
mv "$tmp/away" "$tmp/well/raw/0.pair.jsonl"

# refusals
bad() { # ERE ARGS...
    local want=$1
    shift
    run_cmd "$muster" accept "$@"
    like "$rc $err" "^2 .*$want" "$*: refused" || note "$out"
}
printf 'check pair.bw >= 0.9*medain\n' >"$tmp/bad"
: >"$tmp/empty"
echo 'check "" >= 0' >"$tmp/nameless"
echo 'check node.cpu.gemm >= 0.1*baseline' >"$tmp/with_base"
bad 'bad:1:18: .medain. is no number' --criteria "$tmp/bad"
bad 'nameless:1:7: check: the name of a figure is missing' --criteria "$tmp/nameless"
bad 'with_base:1: compares with a baseline; give --baseline FILE' --criteria "$tmp/with_base"
bad 'the name of the directory is empty' --output ''
bad 'the token of the run is empty' --resume ''
mkdir "$tmp/own_files"
echo mine >"$tmp/own_files/criteria.txt"
bad 'criteria\.txt: is there, and of no run; give another --output' --output "$tmp/own_files"
is "$(cd "$tmp/own_files" && cat *)" mine "what is there stays as it is"
bad 'no run has this token' --resume 20200101-000000-1
bad 'has a run already; `muster accept --resume' --output "$tmp/well"
bad '--resume goes on with what the run has begun with' --resume x -H a
bad '--only pear: not all are benchmarks' --only pear
# what is wrong is said before anything is measured, and leaves nothing
bad '--only fabric: not all are benchmarks of profile quick, which has node \(\.mem,memtest,cpu,disk,gpu\), pair \(\.lat,bw\), coll, nccl$' --only fabric --output "$tmp/none"
bad '--only nccl: how many GPUs there are is known from node' --only pair,nccl --output "$tmp/none"
for only in node.frob node. node.cpu.x coll.bw node,pair.cpu node.cpu,,pair; do
    bad "--only $only: not all are benchmarks" --only $only --output "$tmp/none"
done
bad 'cannot read .*/nofile: No such file' --criteria "$tmp/nofile" --output "$tmp/none"
bad '--last: nosuch: no run has this token' --last nosuch --output "$tmp/none"
bad 'bad:1: not a JSON object' --baseline "$tmp/bad" --output "$tmp/none"
bad 'empty: no measurement in it' --baseline "$tmp/empty" --output "$tmp/none"
bad '--for: only a soak takes a time' --for 5m --output "$tmp/none"
bad '--for: only a soak takes a time' --for 0 --output "$tmp/none"
bad '--for: takes a time above 0' --profile soak --for 0 --output "$tmp/none"
bad '-H: host list: a host name is missing' -H '' --output "$tmp/none"
bad '--bind takes one of' --bind frob -q
is "$(wc -l <"$tmp/.err")" 1 "in one line"
for given in '--seed 0' '--for 0' '--profile quick'; do
    # shellcheck disable=SC2086
    bad '--resume goes on with what the run has begun with' --resume "$tmp/slow" $given
done
bad '--least: takes a percentage' compare --least -3 "$tmp/slow" "$tmp/slow"
[ ! -e "$tmp/none" ]
ok $? "and no directory" || note "$(ls "$tmp/none")"
is "$(ls "$MUSTER_HOME"/*/accept)" "" "and no token"
run_cmd "$muster" bench pair --tests lat,pear
like "$rc $err" '^2 .*--tests lat,pear: not all of them are tests; there are lat, bw' "bench pair --tests"
run_cmd "$muster" bench node --tests gpu --gpu-size 64
like "$rc $err" '^2 .*--gpu-size: takes 4K or more' "bench node --gpu-size"
run_cmd "$muster" bench pair --pairs a
like "$rc $err" '^2 .*--pairs: takes hosts as in a>b,b>c' "bench pair --pairs"
run_cmd "$muster" bench coll --floor 3
like "$rc $err" '^2 .*--floor: takes a number of GB/s, beside --bisect' "bench coll --floor"
run_cmd "$muster" bench coll --bisect --op all
like "$rc $err" '^2 .*--bisect: takes one operation' "bench coll --bisect"
bad 'no run of muster accept' report "$tmp"
bad 'say where it goes: -o FILE' baseline make "$tmp/well"
run_cmd "$muster" accept criteria --profile standard
like "$rc $out" '^0 .*ref h200\.nvls8 473 GB/s src="measured.*check pair\.bw +each >= 0\.965\*median' "built-in criteria are printed"
printf '%s\n' "$out" >"$tmp/own"
timeout 120 "$muster" accept --criteria "$tmp/own" --output "$tmp/here" -q >"$tmp/told" 2>&1 &
first=$!
begun() { [ -s "$tmp/here/journal.jsonl" ]; }
wait_for 30 begun
bad 'another muster accept is at work in it; wait for it, or end it' --criteria "$tmp/own" --output "$tmp/here"
wait $first
rc=$?
is "$rc" 3 "this host alone: everything runs, what is relative is inconclusive" || note "$(cat "$tmp/told")"
rm "$tmp/told"
for args in '--only pair' '--only pair.lat' '--profile standard --only fabric' '--only node.cpu,pair'; do
    # shellcheck disable=SC2086
    run_cmd timeout 60 "$muster" accept $args --output "$tmp/one" -q
    like "$rc $out" '^3 verdict: inconclusive' "$args: one host has no link" || note "$err"
    rm -r "$tmp/one"
done
run_cmd timeout 60 sh -c '"$@" >&-' - "$muster" accept --only pair --output "$tmp/one" -q
like "$rc $err" '^2 .*once that is mended `muster accept report ' "what is measured is kept where it cannot be said" || note "$err"
rm -r "$tmp/one"
tokens=$(find "$MUSTER_HOME"/*/accept | sort)
run_cmd sh -c 'ulimit -f 0; "$@"' - timeout 60 "$muster" accept --only pair --output "$tmp/one" -q
is "$rc $([ -e "$tmp/one" ] && echo left) $(find "$MUSTER_HOME"/*/accept | sort)" "2  $tokens" "a run that cannot begin leaves nothing" || note "$err"
# its baseline is part of the run; so is how long it took
cp "$tmp/base.jsonl" "$tmp/gone.jsonl"
run_cmd timeout 60 "$muster" accept --only node.cpu --criteria "$tmp/with_base" --baseline "$tmp/gone.jsonl" --output "$tmp/one" -q
is "$rc" 3 "a baseline of other hosts" || note "$err"
rm "$tmp/gone.jsonl"
seconds() { python3 -c 'import json,sys; print(json.load(open(sys.argv[1]))["run"]["seconds"] > 0)' "$tmp/one/report.json"; }
lines=$(wc -l <"$tmp/one/journal.jsonl")
run_cmd "$muster" accept report "$tmp/one"
is "$rc $(seconds)" "3 True" "is not needed any more, and the run has taken its time" || note "$err"
run_cmd "$muster" accept --resume "$tmp/one"
is "$rc $(seconds) $(wc -l <"$tmp/one/journal.jsonl")" "3 True $lines" "there is nothing to go on with" || note "$err"
(cd "$tmp/one" && sha256sum --quiet -c MANIFEST.sha256)
ok $? "the manifest holds"
echo >>"$tmp/one/baseline.jsonl"
run_cmd "$muster" accept report "$tmp/one"
like "$rc $err" '^2 .*baseline\.jsonl: is not what the run has begun with' "one that was changed is seen"
rm -r "$tmp/one"

# a soak makes up for the time in which it was interrupted
run_cmd timeout 60 "$muster" accept --profile soak --for 4s --only overlap --output "$tmp/one" -q
is "$rc" 3 "a soak" || note "$err"
python3 - "$tmp/one/journal.jsonl" <<'PY'
import json, sys
lines = [json.loads(x) for x in open(sys.argv[1])][:5] # begin, hosts, the three steps that there are in any case
lines[0]["soak_s"] = lines[-1]["t"] - lines[0]["t"] + 2
for x in lines: x["t"] -= 100000
open(sys.argv[1], "w").write("".join(json.dumps(x) + "\n" for x in lines))
PY
touch "$tmp/one/raw/77.overlap.jsonl.part"
run_cmd timeout 60 "$muster" accept --resume "$tmp/one" -q
is "$rc $(grep -c '"resume"' "$tmp/one/journal.jsonl") $([ "$(grep -c '"step"' "$tmp/one/journal.jsonl")" -gt 4 ] && echo more)" "3 1 more" "goes on for the time that is left" || note "$err" "$(cut -c1-150 "$tmp/one/journal.jsonl")"
[ ! -e "$tmp/one/raw/77.overlap.jsonl.part" ]
ok $? "and nothing half is left"
rm -r "$tmp/one"
"$muster" accept --profile standard --only node.cpu --output "$tmp/one" >"$tmp/o" 2>"$tmp/e" &
pid=$!
told() { grep -q '^accept: ' "$tmp/e"; }
wait_for 30 told
kill -TERM $pid
wait $pid
is "$? $(grep -c 'interrupted; `muster accept --resume' "$tmp/e")" "6 1" "a run is interrupted from its beginning on" || note "$(cat "$tmp/e")"
rm -r "$tmp/one"
mkdir "$tmp/one"
: >"$tmp/one/journal.jsonl"
bad 'nothing was begun there' --resume "$tmp/one"

# What the soak over namespace hosts counts as what, on one run of each: each bound is held by itself.
while IFS='|' read -r args verdict suspects unsure; do
    [ "$verdict" = - ] || verdict="{\"verdict\":\"$verdict\",\"suspects\":[$suspects],\"unsure\":[$unsure]}"
    read -ra args <<<"$args"
    python3 tests/soak/count_accept.py add "$tmp/runs" "${args[@]}" <<<"$verdict" >>"$tmp/told"
done <<'ROWS'
1 none 1 2 10 0 5|pass
2 hog 1 2 10 3 5|inconclusive||{"kind":"node","id":"h1"}
3 out 2 1 10 1 5|fail|{"kind":"node","id":"h2","host":"h2","direction":"out"}
4 link 3 5 20 1 5|fail|{"kind":"node","id":"h3","host":"h3","direction":"out"}
5 in 4 1 30 0 5|pass
6 both 6 1 50 1 5|fail|{"kind":"node","id":"h7","host":"h7","direction":"both"}
7 stop 8 1 20 4 5|-
ROWS
is "$(grep -o '^seed [0-9]*' "$tmp/told" | tr '\n' ' ')" "seed 4 seed 5 seed 6 seed 7 " "what is not as it should be is told" || note "$(cat "$tmp/told")"
counted=$(python3 tests/soak/count_accept.py say "$tmp/runs" quick 2>&1)
is "$(grep '^all' <<<"$counted" | tr -s ' ')" "all 7 1 1 1 1 1 1 1 50.0 % 5/5" "each run is one thing" || note "$counted"
is "$(awk '$1 == "bound" {printf "%s ", $2}' <<<"$counted")" "0 0 0 0 1 1 " "not run, precision, recall and kind fail, each by itself" || note "$counted"
done_testing
