#!/usr/bin/env bash
# muster ckpt: list, show, verify, prune, pin, export, without a controller.
. "$(dirname "$0")/../lib.sh"
prog=$B/tests/mpi/ckpt
dir=$tmp/ckpt
MUSTER_CKPT_DIR=$dir timeout 60 "$muster" run -n 3 --oversubscribe "$prog" train 25 interval=5steps,keep=9 >"$tmp/o" 2>&1
ok $? "a job saves" || note "$(cat "$tmp/o")"
ckpt() { run_cmd env MUSTER_HOME="$tmp/none" timeout 60 "$muster" ckpt "$@"; }
json() { python3 -c "import json,sys; d=json.load(sys.stdin); print($1)" <<<"$out"; }

ckpt list "$dir"
like "$rc $out" '^0 GENERATION +STEP +RANKS +SIZE +TIME +STATE' "list"
is "$(wc -l <<<"$out")" 6 "five generations"
ckpt list --json "$dir"
is "$(json "d['schema'], [(g['id'], g['step'], g['complete'], g['ranks'], g['verified'], g['pinned']) for g in d['generations'][:2]]")" \
    "muster.ckpt/1 [(5, 25, True, 3, None, False), (4, 20, True, 3, None, False)]" "as JSON"
ckpt show "$dir"
like "$out" 'model/big +float32 +700000' "show: the tensors as wholes" || note "$out"
ckpt show --json "$dir" g00000002
is "$(json "d['generations'][0]['step'], sorted(t['name'] for t in d['generations'][0]['tensors'])[:1]")" "10 ['cursor']" "of one that is named" || note "$out"
ckpt verify "$dir"
like "$rc $out" '^0 .*verified' "verify"

ckpt pin "$dir" 1
ckpt list --json "$dir"
is "$rc $(json "d['generations'][-1]['pinned']")" "0 True" "pin"
ckpt prune --keep 2 --dry-run "$dir"
is "$rc $(wc -l <<<"$out") $(ls -d "$dir"/g* | wc -l)" "0 2 5" "prune --dry-run removes nothing"
ckpt prune --keep 1 --every 2 --dry-run "$dir"
is "$rc $(wc -l <<<"$out") $(grep -c "generation 3 " <<<"$out")" "0 1 1" "prune --every: each second one stays, too" || note "$out"
cp -r "$dir/g00000002" "$dir/g00000009.del"
mkdir "$dir/g00000009.a9.tmp"
ckpt prune --keep 9 --dry-run "$dir"
is "$(cd "$dir" && echo g*9.*)" "g00000009.a9.tmp g00000009.del" "what another one was removing stays"
ckpt prune --keep 2 "$dir"
is "$(cd "$dir" && echo g*)" "g00000001 g00000004 g00000005 g00000009.a9.tmp" "prune keeps two and the pinned one, and ends what another one has begun"
rmdir "$dir/g00000009.a9.tmp"
ckpt unpin "$dir" g00000001
ckpt prune --keep 2 "$dir"
is "$(cd "$dir" && echo g*)" "g00000004 g00000005" "no longer pinned, it goes"

cat >"$tmp/read.py" <<'PY'
import json, struct, sys, array
f = open(sys.argv[1], "rb")
n = struct.unpack("<Q", f.read(8))[0]
h = json.loads(f.read(n))
assert n % 8 == 0
data = f.read()
end = max(t["data_offsets"][1] for k, t in h.items() if k != "__metadata__")
assert end == len(data), (end, len(data))
for k, t in h.items():
    if k == "__metadata__":
        continue
    size = {"F32": 4, "F64": 8, "U64": 8}[t["dtype"]]
    for d in t["shape"]:
        size *= d
    a, b = t["data_offsets"]
    assert b - a == size, (k, t)
a, b = h["model/deep"]["data_offsets"]
deep = array.array("d", data[a:b])
step = int(h["__metadata__"]["step"])
assert list(deep) == [step * 1000 + i for i in range(60)], deep[:5]
print(step, h["model/big"]["shape"], h["__metadata__"]["format"])
PY
ckpt export "$dir" "$tmp/x.safetensors"
is "$rc $out" "0 generation 5, step 25" "export"
is "$(python3 "$tmp/read.py" "$tmp/x.safetensors" 2>&1)" "25 [700000] muster" "what it writes is what was saved"

mkfifo "$tmp/fifo"
ckpt export "$dir" "$tmp/fifo"
is "$rc $out$err" "2 muster ckpt export: $tmp/fifo is not a plain file: give the name of a file" "a FIFO is not replaced, nor a device"
[ -p "$tmp/fifo" ] && [ ! -e "$tmp/fifo.part" ]
ok $? "it is still there, and nothing else"
ckpt export "$dir" "$tmp"
is "$rc $out$err" "2 muster ckpt export: $tmp is a directory: give the name of a file" "a directory is no file"

ckpt import "$tmp/x.safetensors" "$tmp/imported"
is "$rc $out" "0 generation 1, step 25" "import" || note "$err"
ckpt export "$tmp/imported" "$tmp/again.safetensors"
is "$rc $(python3 "$tmp/read.py" "$tmp/again.safetensors" 2>&1)" "0 25 [700000] muster" "what it makes can be exported"
MUSTER_CKPT_DIR=$tmp/imported timeout 60 "$muster" run -n 2 --oversubscribe "$prog" restore 25 >"$tmp/o" 2>&1
ok $? "and resumed from, by another number of ranks" || note "$(cat "$tmp/o")"
ckpt import --step 77 "$tmp/x.safetensors" "$tmp/imported"
is "$rc $out" "0 generation 2, step 77" "the next generation, of a step that is given" || note "$err"
cat >"$tmp/write.py" <<'PY'
import json, struct, sys
out, header, data = sys.argv[1], sys.argv[2].encode(), b"x" * int(sys.argv[3])
open(out, "wb").write(struct.pack("<Q", len(header)) + header + data)
PY
while IFS='|' read -r header bytes why; do
    python3 "$tmp/write.py" "$tmp/bad.safetensors" "$header" "$bytes"
    ckpt import "$tmp/bad.safetensors" "$tmp/notmade"
    like "$rc $(wc -l <"$tmp/.err") $err" "^2 1 .*$why" "import refuses: $header"
done <<'ROWS'
{}|0|has no tensors
[]|0|is not a safetensors file
{"a":|0|is not a safetensors file
{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}|8|its header has "a" twice
{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}|7|its data is not in the file
{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}|8|differ in size
{"a":{"dtype":"BOOL","shape":[8],"data_offsets":[0,8]}}|8|of type BOOL, which checkpoints do not have
{"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}|8|a dimension that is no number
{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,8]}}|8|a
{"a":{"dtype":"F32","data_offsets":[0,8]}}|8|is missing
ROWS
head -c 100 "$tmp/x.safetensors" >"$tmp/bad.safetensors"
ckpt import "$tmp/bad.safetensors" "$tmp/notmade"
like "$rc $err" "^2 .*is not a safetensors file, or it is cut short" "and one that is cut short"
[ ! -e "$tmp/notmade" ]
ok $? "then no directory is made"

printf '\xff' | dd of="$dir/g00000005/seg.1" bs=1 seek=6000 conv=notrunc status=none
ckpt verify "$dir"
like "$rc $out" "^1 .*seg.1 is damaged at byte" "verify finds a damage"
like "$err" "1 of 2 generations cannot be restored" "and says so"
ckpt export "$dir" "$tmp/y.safetensors"
like "$rc $out $err" "^0 generation 4, step 20 .*generation 5 cannot be used: .*damaged" "export takes the one before"
ckpt export -g 5 "$dir" "$tmp/z.safetensors"
is "$rc $(ls "$tmp"/z.* 2>/dev/null)" "1 " "unless that one is asked for: nothing is left of it"
rm "$dir/g00000005/man.2"
ckpt list "$dir"
like "$out" "man.2 is missing" "list says what is not whole"
ckpt prune --keep 1 "$dir"
is "$(cd "$dir" && echo g*)" "g00000004 g00000005" "prune does not count it"

rm "$dir/g00000004/seg.1"
mkfifo "$dir/g00000004/seg.1"
ckpt verify "$dir"
like "$rc $out" "^1 .*seg.1 is not a file" "a FIFO in the place of a segment is waited for by nobody" || note "$err"
ckpt export "$dir" "$tmp/w.safetensors"
like "$rc $err" "^1 .*seg.1 is not a file" "nor when it is exported"

# what another release, or ranks that disagree, would have written: change FILE OFFSET FORMAT VALUE, with checksums that hold
cat >"$tmp/change.py" <<'PY'
import os, struct, sys
def crc(b):
    c = 0xFFFFFFFF
    for x in b:
        c ^= x
        for _ in range(8):
            c = c >> 1 ^ (0x82F63B78 if c & 1 else 0)
    return c ^ 0xFFFFFFFF
def write(path, d):
    struct.pack_into("<I", d, 28, crc(d[:28]))
    struct.pack_into("<I", d, len(d) - 4, crc(d[:-4]))
    open(path, "wb").write(d)
path, offset, format, value = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
d = bytearray(open(path, "rb").read())
struct.pack_into(format, d, offset, value)
write(path, d)
if "man." in path:
    commit = os.path.dirname(path) + "/COMMIT"
    c = bytearray(open(commit, "rb").read())
    at = 82 + struct.unpack_from("<H", c, 80)[0] + 20 * int(path.split(".")[-1])
    c[at + 16:at + 20] = d[-4:]
    write(commit, c)
PY
"$B/tests/fault/generations" "$tmp/newer" 3 20 4
python3 "$tmp/change.py" "$tmp/newer/g00000001/COMMIT" 8 '<I' 2
python3 "$tmp/change.py" "$tmp/newer/g00000002/man.1" 8 '<I' 2
ckpt list "$tmp/newer"
is "$rc $(grep -c 'format version 2; this muster reads up to 1: use a newer one' <<<"$out")" "0 2" "list: what a newer version wrote" || note "$out"
ckpt prune --keep 1 "$tmp/newer"
is "$rc $out $(cd "$tmp/newer" && echo g*)" "0 removed generation 3 (step 30) g00000001 g00000002 g00000004" "prune leaves it" || note "$err"
python3 "$tmp/change.py" "$tmp/newer/g00000004/man.0" 112 '<Q' 999999
ckpt verify "$tmp/newer" 4
like "$rc $out" "^1 .*tensor .own.: rank 0 saves it with the global shape [[]999999], rank 1 with [[]61440]" "verify: whole, but the ranks' descriptions do not agree" || note "$err"
mkdir "$tmp/empty"
ckpt verify "$tmp/empty"
like "$rc $err" "^1 muster ckpt verify: no checkpoint in $tmp/empty" "verify where there is none"

for bad in "list" "list $tmp/nosuch" "list $tmp/o" "show $dir 77" "pin $dir" "show $dir x" "nonsense $dir" "prune --keep 0 $dir"; do
    # shellcheck disable=SC2086
    ckpt $bad
    is "$rc $(wc -l <"$tmp/.err")" "2 1" "muster ckpt $bad: $err"
done
[ ! -e "$tmp/none" ]
ok $? "nothing is made of a pool"
done_testing
