#!/usr/bin/env bash
# Health of GPUs, on the test double of NVML: what nodes, events and metrics say, what takes a node out, and an NVML that hangs.
. "$(dirname "$0")/../lib.sh"
d=$B/tests/doubles
export MUSTER_IDLE=0 MUSTER_GPU_HEALTH=0.2 MUSTER_NVML_LIB=$d/libnvidia-ml.so.1 MUSTER_NVML_DOUBLE=$tmp/gpus
says() { # WORDS: what the double says from now on
    echo "$*" >"$tmp/gpus.new"
    mv "$tmp/gpus.new" "$tmp/gpus"
}
shows() { "$muster" nodes | grep -qE "$1"; }
end() { timeout 60 "$muster" controller --stop --force; }
says gpus=2
printf 'most-percent = 100\n' >"$tmp/checks"
mkdir -p "$MUSTER_HOME"
cp "$tmp/checks" "$MUSTER_HOME/checks"
job=$("$muster" submit -n 1 --oversubscribe sh -c "until [ -e $tmp/go ]; do sleep 0.1; done")
like "$job" '^[0-9]+$' "a job runs"
says gpus=2 1.clocks=64
wait_for 30 shows 'GPU 1 \(GPU-d0000000-0000-0000-0000-000000000001\): it is slowed down: it is too hot'
ok $? "muster nodes says that a GPU is throttled" || note "$("$muster" nodes)"
says gpus=2 0.xid=31
seen() { "$muster" events "$job" | grep -qE "$1"; }
wait_for 30 seen 'gpu-xid.*GPU 0 \(GPU-d0000000-0000-0000-0000-000000000000\): Xid 31, of a program.s own making'
ok $? "an Xid of the program's own is an event" || note "$("$muster" events "$job")"
unlike "$("$muster" nodes)" 'drain' "and drains nothing"
says gpus=2 0.xid=79
wait_for 30 shows 'drain.*health check gpu: GPU 0 \(GPU-d0000000-0000-0000-0000-000000000000\): Xid 79, it has fallen off the bus'
ok $? "one of the GPU's drains the node" || note "$("$muster" nodes)" "$("$muster" events "$job")"
"$muster" nodes resume "$(uname -n)"
says gpus=2 0.xid=79 1.rows-failed=1
wait_for 30 shows 'drain.*GPU 1 \(GPU-d0000000-0000-0000-0000-000000000001\): rows of its memory cannot be remapped'
ok $? "so do rows that cannot be remapped, after a resume" || note "$("$muster" nodes)"
"$muster" nodes resume "$(uname -n)"
sleep 1
unlike "$("$muster" nodes)" 'drain' "resumed, it stays so although the row is as it was"
says gpus=2 hang=1
wait_for 30 shows 'NVML has not answered for .* s: the driver hangs'
ok $? "an NVML that hangs is told" || note "$("$muster" nodes)"
gone() { ! pgrep -f "muster check --gpus" | while read -r p; do grep -qz "^MUSTER_HOME=$MUSTER_HOME\$" "/proc/$p/environ" 2>/dev/null && echo "$p"; done | grep -q .; }
wait_for 30 gone
ok $? "and who asked it is ended"
touch "$tmp/go"
end

# A library that has less, and none
says gpus=1
MUSTER_NVML_LIB=$d/libnvidia-ml-old.so timeout 60 "$muster" run -n 1 true
is $? 0 "an old NVML does no harm"
end
MUSTER_NVML_LIB=$tmp/none.so timeout 60 "$muster" run -n 1 true
wait_for 30 shows 'NVML: cannot be loaded as MUSTER_NVML_LIB says'
ok $? "one that is asked for and is not there is named" || note "$("$muster" nodes)"
end
wait_for 30 no_leftovers
ok $? "nothing is left"
done_testing
