#!/usr/bin/env bash
# muster ckpt import and export before files and file systems that do not mean well.
. "$(dirname "$0")/../lib.sh"
ckpt() { run_cmd env MUSTER_HOME="$tmp/none" timeout 60 "$muster" ckpt "$@"; }
cd "$tmp" || exit 2

# make FILE HEADER BYTES [LENGTH]: LENGTH stands for the header's in the first 8 bytes
cat >make.py <<'PY'
import struct, sys
out, header, n = sys.argv[1], sys.argv[2].encode("utf-8", "surrogateescape"), int(sys.argv[3])
with open(out, "wb") as f:
    f.write(struct.pack("<Q", int(sys.argv[4]) if len(sys.argv) > 4 else len(header)) + header)
    f.truncate(8 + len(header) + n)
PY
make() { python3 make.py "$@"; }
refused() { # FILE ERE NAME: with one line and code 2, and nothing is made
    ckpt import "$1" notmade
    like "$rc $(wc -l <.err) $err" "^2 1 muster ckpt import: $1:? .*$2" "$3"
    [ ! -e notmade ] || { ok 1 "and no directory is made"; rm -r notmade; }
}

a='"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'
while IFS='|' read -r header bytes why; do
    make bad "$header" "$bytes"
    refused bad "$why" "import refuses: $header"
done <<ROWS
{$a,"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}|12|tensor "b" begins at byte 4, in the data of tensor "a"
{$a,"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}|8|tensor "b" begins at byte 0, in the data of tensor "a"
{"b":{"dtype":"F32","shape":[2],"data_offsets":[12,20]},$a}|20|tensor "b" begins at byte 12, and the 4 bytes before it are no tensor's
{"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}|12|tensor "a" begins at byte 4, and the 4 bytes before it
{$a}|11|the 3 bytes behind tensor "a", which is the last one, are no tensor's
{$a}|7|tensor "a": its data is not in the file: it ends at byte 8 of the 7 that there are
{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}|8|tensor "a": its shape and its data differ in size: 12 and 8 bytes
{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}|8|tensor "a": data_offsets are two numbers
{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8,9]}}|8|tensor "a": data_offsets are two numbers
{"a":{"dtype":"F32","shape":[0],"data_offsets":["0","8"]}}|0|tensor "a": data_offsets are two numbers
{"a":{"dtype":"F32","shape":[2],"data_offsets":[0.0,8.0]}}|8|tensor "a": data_offsets are two numbers
{"a":{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}}|8|tensor "a": data_offsets are two numbers
{"a":{"dtype":"F32","shape":[1e400],"data_offsets":[0,8]}}|8|is no JSON: real number overflow
{"a":{"dtype":"F32","shape":[99999999999999999999],"data_offsets":[0,8]}}|8|is no JSON: too big integer
{"a":{"dtype":"U8","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,1]}}|1|tensor "a": more than 8 dimensions
{"a":{"dtype":"U16","shape":[4],"data_offsets":[0,8]}}|8|tensor "a" is of type U16, which checkpoints do not have
{"a":7}|0|tensor "a": dtype, shape or data_offsets is missing
{"":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}|1|tensor "": names have 1 to 1023 bytes
{"\u001b[31m":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}|1|tensor ".x1b.31m": names have .* no control characters
{$a,$a}|8|its header has "a" twice .byte 57.$
{"a\\\\\"":{},"a\\\\\"":{}}|0|its header has "a.*" twice
{"a":{"dtype":"F32","dtype":"F32"}}|0|its header has "dtype" twice
{"__metadata__":[],$a}|8|its __metadata__ is no JSON object
{"__metadata__":{"step":5},$a}|8|"step" of its __metadata__ is no text
{"__metadata__":{"step":"abc"},$a}|8|the step of its metadata, "abc", is not a number from 0 to 9223372036854775807; give the right one with --step
{"__metadata__":{"step":"-1"},$a}|8|the step of its metadata, "-1", is not
{"__metadata__":{"step":""},$a}|8|the step of its metadata, "", is not
{"__metadata__":{"step":"18446744073709551616"},$a}|8|the step of its metadata, "18446744073709551616", is not
 {$a}|8|is not a safetensors file: its header is no JSON object
{$a}x|8|is no JSON: end of file expected
ROWS
make bad "{$a}" 8 $((1 << 40))
refused bad "a header of 1099511627776 bytes in 70" "a header that is longer than the file"
make bad "{$a}" 8 -1 2>/dev/null || printf '\377\377\377\377\377\377\377\377{}' >bad
refused bad "a header of 18446744073709551615 bytes" "a header of as many bytes as there are numbers"
make bad "" 0
refused bad "its header is no JSON object" "no header"
printf abc >bad
refused bad "it has 3 bytes" "three bytes"
make bad "{\"a\":$(printf '[%.0s' {1..9000})" 0
refused bad "maximum parsing depth reached" "a header as deep as a stack"
mkfifo fifo
refused fifo "is not a plain file" "a FIFO, which is waited for by nobody"
ckpt import nosuch notmade
like "$rc $err" "^2 .*nosuch: No such file" "a file that is not there"
make good "{$a}" 8
ckpt import good good
is "$rc $err" "2 muster ckpt import: good is not a directory" "a file as the directory"
ckpt import good ""
is "$rc $err" "2 muster ckpt import: the name of the directory is empty" "no name of one"
for step in x -5 "" 1.5 9223372036854775808 18446744073709551616; do
    ckpt import --step "$step" good notmade
    like "$rc $(wc -l <.err) $err" "^2 1 .*--step takes a number.*'?$step" "--step '$step'"
done
[ ! -e notmade ]
ok $? "and no directory is made"

make sound '{"__metadata__":{"step":"abc"},"b":{"dtype":"F8_E4M3","shape":[3],"data_offsets":[8,11]},'"$a"',"none":{"dtype":"I64","shape":[0,4611686018427387904,9],"data_offsets":[8,8]},"one":{"dtype":"F64","shape":[],"data_offsets":[11,19]}}' 19
ckpt import --step 3 sound dir
is "$rc $out" "0 generation 1, step 3" "what is sound is taken, in any order; a step that is given needs none of the file's" || note "$err"
ckpt export dir out
ckpt import out again
is "$rc $out" "0 generation 1, step 3" "and what export makes of it" || note "$err"
ckpt export again out2
cmp out out2
ok $? "byte for byte"

# --- export leaves alone what is not its own
echo mine >x.part
ckpt export dir x
is "$rc $(cat x.part) $(echo x*)" "0 mine x x.part" "a file x.part stays as it is when x is exported"
echo old >target
ln -s target link
ckpt export dir link
is "$rc $(cat target) $([ -h link ] || cmp link out && echo same)" "0 old same" "a symbolic link is replaced, not what it leads to"
name=$(printf 'n%.0s' {1..255})
ckpt export dir "$name"
is "$rc $(cmp "$name" out && echo same)" "0 same" "as long a name as there can be"
ckpt export dir "${name}n"
like "$rc $err" "^2 .*cannot write nnn.*: File name too long" "one that is longer, before anything is read"
ckpt export dir nosuch/x
is "$rc $err" "2 muster ckpt export: cannot write nosuch/x: No such file or directory" "no such directory"
ckpt export dir ""
is "$rc $err" "2 muster ckpt export: the name of the file is empty" "no name"
for i in 1 2 3; do
    MUSTER_HOME=$tmp/none "$muster" ckpt export dir both >o.$i 2>&1 &
done
wait
is "$(cat o.? | sort -u) $(echo both*) $(cmp both out && echo same)" "generation 1, step 3 both same" "three at once into the same file"

make large '{"a":{"dtype":"F32","shape":[20000000,2],"data_offsets":[0,160000000]}}' 160000000
ckpt import large big
is "$rc $out" "0 generation 1, step 0" "a larger one" || note "$err"
echo old >y
cut() { # SIGNAL: export is stopped while it writes; sets code, the exit status, and seen, what it had been writing
    local pid
    for _ in {1..50}; do
        MUSTER_HOME=$tmp/none "$muster" ckpt export big y >cut.log 2>&1 &
        pid=$!
        until seen=$(compgen -G 'y.*.part') || ! kill -0 $pid 2>/dev/null; do :; done
        kill -"$1" $pid 2>/dev/null
        wait $pid 2>/dev/null
        code=$?
        [ $code = 0 ] || return
        echo old >y
    done
}
for sig in TERM HUP; do # a shell has its background ignore SIGINT
    cut $sig
    is "$code $(cat y) $(echo y*)" "$((128 + $(kill -l $sig))) old y" "SIG$sig in the middle: the old file is there, and nothing else"
done
cut KILL
is "$code $(cat y) $(echo y.*.part)" "137 old $seen" "SIGKILL: the old file is there"
rm -f y.*.part
ckpt export big y
is "$rc $(cmp <(tail -c 160000000 y) <(tail -c 160000000 large) && echo same) $(echo y*)" "0 same y" "and the next one does"
rm -f y

# --- a name that JSON cannot have, and one that is the metadata's
cat >rename.py <<'PY'
import os, struct, sys
def crc(b):
    c = 0xFFFFFFFF
    for x in b:
        c ^= x
        for _ in range(8):
            c = c >> 1 ^ (0x82F63B78 if c & 1 else 0)
    return c ^ 0xFFFFFFFF
d, was, now = sys.argv[1], *(bytes.fromhex(x[2:]) if x[:2] == "0x" else os.fsencode(x) for x in sys.argv[2:4])
man = bytearray(open(d + "/man.0", "rb").read().replace(was, now))
struct.pack_into("<I", man, len(man) - 4, crc(man[:-4]))
open(d + "/man.0", "wb").write(man)
k = bytearray(open(d + "/COMMIT", "rb").read())
at = 82 + struct.unpack_from("<H", k, 80)[0]
k[at + 16:at + 20] = man[-4:]
struct.pack_into("<I", k, len(k) - 4, crc(k[:-4]))
open(d + "/COMMIT", "wb").write(k)
PY
make named '{"weight-of-it":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}' 1
ckpt import named strange
python3 rename.py strange/g00000001 weight-of-it $'weight-\xff\xfe-it'
ckpt show --json strange
is "$rc $(python3 -c 'import json, sys; print(json.load(sys.stdin)["generations"][0]["tensors"][0])' <<<"$out")" \
    "0 {'name': 'weight-\\\\xff\\\\xfe-it', 'dtype': 'uint8', 'shape': [1], 'bytes': 1}" "show has a name that is not UTF-8"
ckpt export strange z
is "$rc $err $(echo z*)" '1 muster ckpt export: tensor "weight-\xff\xfe-it": its name is not UTF-8, which safetensors cannot have z*' "a name that is not UTF-8"
python3 rename.py strange/g00000001 $'weight-\xff\xfe-it' __metadata__
ckpt export strange z
is "$rc $err $(echo z*)" '1 muster ckpt export: tensor "__metadata__": safetensors cannot have one of this name z*' "nor can they have a tensor __metadata__"

ckpt import good $'d\xffr'
rm $'d\xffr'/g00000001/seg.0
ckpt list --json $'d\xffr'
is "$rc $(python3 -c 'import json, sys; print(json.load(sys.stdin)["generations"][0]["why"])' <<<"$out")" '0 d\xffr/g00000001/seg.0: No such file or directory' "what is wrong with a generation is in the JSON, whatever its path is made of"

cp -r dir vast && zero=0000000000000000
python3 rename.py vast/g00000001 "0x0000000000000040$zero"0000000000000040 "0x0000000000000080$zero"0000000000000080
ckpt show --json vast
is "$rc $(python3 -c 'import json, sys; print([t["shape"] for t in json.load(sys.stdin)["generations"][0]["tensors"] if t["name"] == "none"])' <<<"$out")" \
    "0 [[0, '9223372036854775808', 9]]" "a dimension of 2^63 in JSON is text" || note "$err"
ckpt show vast
like "$rc $out" '^0 .*none +int64 +0 x 9223372036854775808 x 9 ' "and in the table"

# --- progress, of one that is held back
cat >slowly.py <<'PY'
import os, pty, select, signal, sys, time
pid, fd = pty.fork()
if pid == 0:
    os.environ["MUSTER_HOME"] = "none"
    os.execv(sys.argv[1], sys.argv[1:])
end, seen = time.time() + 60, b""
while time.time() < end:
    os.kill(pid, signal.SIGSTOP)
    time.sleep(0.2)
    os.kill(pid, signal.SIGCONT)
    if select.select([fd], [], [], 0.03)[0]:
        try:
            seen += os.read(fd, 65536)
        except OSError:
            break
_, status = os.waitpid(pid, 0)
sys.stdout.buffer.write(seen.replace(b"\r", b"\n"))
sys.exit(os.waitstatus_to_exitcode(status))
PY
slowly() { run_cmd timeout 90 python3 slowly.py "$muster" ckpt "$@"; }
slowly import large slow
like "$rc $out" "^0.*import: +[0-9]+ %, [0-9.]+ [KM]iB of 305.2 MiB, [0-9]+ s left.*generation 1, step 0" "import shows how far it is: it reads, then writes" || note "$out" "$err"
slowly export slow slow.out
like "$rc $out" "^0.*export: 100 %, 152.6 MiB of 152.6 MiB, 0 s left.*generation 1, step 0" "export reaches the end" || note "$out" "$err"
slowly import -q large slow
like "$rc $out" $'^0 \n*generation 2, step 0\n*$' "import -q is quiet" || note "$out" "$err"
rm -r slow slow.out

# --- disks
(ulimit -f 1000 && MUSTER_HOME=$tmp/none timeout 60 "$muster" ckpt export big z) >o 2>&1
is "$? $(cat o) $(echo z*)" "1 muster ckpt export: reserve 160000144 bytes for z: File too large z*" "a limit of files' sizes is seen before anything is written"
in_mounts() { unshare -m bash -c "$1" 2>&1; }
if ! in_mounts "mkdir -p $tmp/m && mount -t tmpfs -o size=1m none $tmp/m" >/dev/null; then
    skip "needs root and namespaces" 4
else
    export muster
    got=$(in_mounts 'mount -t tmpfs -o size=2m none m; echo old >m/z
        "$muster" ckpt export big m/z; echo "$? $(cat m/z) $(echo m/*)"')
    is "$got" $'muster ckpt export: reserve 160000144 bytes for m/z: No space left on device\n1 old m/z' "a full disk: the old file is there, and nothing else"
    got=$(in_mounts 'mount -t tmpfs -o size=2m none m; "$muster" ckpt import large m/d; echo $?; "$muster" ckpt list m/d | wc -l
        "$muster" ckpt import good m/d')
    like "$got" $'No space left on device\n1\n1\ngeneration [0-9]+, step 0$' "import: no generation, and the next one finds the room"
    got=$(in_mounts 'mount -t tmpfs -o size=2m none m; mount -o remount,ro m
        "$muster" ckpt export dir m/z; echo $?; "$muster" ckpt import good m/d; echo $?')
    is "$got" $'muster ckpt export: cannot write m/z: Read-only file system\n2\nmuster ckpt import: create directory m/d: Read-only file system\n1' "a disk that is only to be read"
    got=$(in_mounts 'mount --bind dir m; mount -o remount,bind,ro m; "$muster" ckpt export m z && cmp z out && rm z')
    is "$got" "generation 1, step 3" "which is no reason not to export from it"
fi

# --- import
MUSTER_HOME=$tmp/none "$muster" ckpt import large killed >o 2>&1 &
pid=$!
wait_for 30 compgen -G 'killed/g*' >/dev/null
kill -KILL $pid 2>/dev/null
wait $pid 2>/dev/null
was=$?
n=$(MUSTER_HOME=$tmp/none "$muster" ckpt list killed | grep -c complete)
ckpt import good killed
like "$was $n $rc $out" '^(137 0|0 1) 0 generation [12], step 0$' "import that was killed: all or nothing, and the next one goes on" || note "$err"
for i in 1 2 3; do
    MUSTER_HOME=$tmp/none "$muster" ckpt import large several >o.$i 2>&1 &
done
wait
done=$(cat o.? | grep -c '^generation')
ckpt verify several
like "$rc $(grep -c verified <<<"$out") $(cat o.?)" "^0 $done .*generation 1" "three at once into the same directory: one at a time"
is "$(cat o.? | grep -cvE '^generation [123], step 0$|several is in use by job muster ckpt import')" 0 "or told who has it" || note "$(cat o.?)"
done_testing
