#!/usr/bin/env bash
# The model of epochs and recovery (recovery.pml) checked exhaustively by spin, and each planted mistake found by it.
# MODEL=full (make soak-model): more of everything, in 3 GB and ten minutes.
. "$(dirname "$0")/../lib.sh"
command -v spin >/dev/null || skip_all "spin is not installed"
model=$root/tests/model/recovery.pml

# verifier NAME "-DMODEL ..." -DPAN...: makes $tmp/NAME/pan
verifier() {
    mkdir -p "$tmp/$1" && cd "$tmp/$1" && cp "$model" . || return 1
    # shellcheck disable=SC2086
    if ! { spin -a $2 recovery.pml && ${CC:-gcc} -w -DNOREDUCE -DVECTORSZ=1024 "${@:3}" -o pan pan.c; } >log 2>&1; then
        note "$(tail -n 5 log)"
        return 1
    fi
}
# trace NAME "-DMODEL ...": what has happened, in words, up to the violation that was found
trace() {
    # shellcheck disable=SC2086
    (cd "$tmp/$1" && spin $2 -T -t recovery.pml 2>&1) | grep -E '^ *(node|host|the |a rank|spin: text)'
}
states() { sed -nE 's/^ *([0-9]+) states, stored.*/\1/p' "$tmp/$1/out"; }

# holds NAME TEXT "-DMODEL ..." [LTL]: no run violates anything, and none was left out. O: what gcc may take its time for
holds() {
    local how=("${O:--O0}" -DCOLLAPSE -DSEPQS -DMEMLIM=8000) run=(-n -m100000)
    if [ -n "${4-}" ]; then run+=(-a -N "$4"); else how+=(-DSAFETY -DNOCLAIM); fi
    if verifier "$1" "$3" "${how[@]}"; then ./pan "${run[@]}" >out 2>&1; fi
    cd "$root" || exit 2
    grep -q 'errors: 0$' "$tmp/$1/out" && ! grep -qE 'not completed|too small|out of memory' "$tmp/$1/out"
    ok $? "$2 ($3): $(states "$1") states" || { note "$(grep '^pan' "$tmp/$1/out")" "$(trace "$1" "$3")"; }
    rm -rf "${tmp:?}/$1"
}
# found MISTAKE TEXT "-DMODEL ..." [LTL]: breadth first if it can be, so that the shortest way there is found
found() {
    local how=(-O0 -DMEMLIM=2000) run=(-n) what='assertion violated'
    if [ -n "${4-}" ]; then run+=(-a -N "$4") what='acceptance cycle'; else how+=(-DBFS -DSAFETY -DNOCLAIM); fi
    if verifier "$1" "-D$1 $3" "${how[@]}"; then ./pan "${run[@]}" >out 2>&1; fi
    cd "$root" || exit 2
    grep -q "^pan:1: $what" "$tmp/$1/out"
    ok $? "found: $2 ($1)" || note "$(tail -n 20 "$tmp/$1/out")"
    note "$(trace "$1" "-D$1 $3")"
    rm -rf "${tmp:?}/$1"
}

if [ "${MODEL-}" = full ]; then
    O=-O2
    holds two "attempts on two nodes, messages that take their time" "-DFAULTS=2 -DLATE_JOINS -DONE_WAY"
    holds late "and one that comes twice" "-DFAULTS=2 -DLATES=1"
    holds ckpt "their checkpoints" "-DFAULTS=2 -DCKPT"
    holds one "attempts on one node, their checkpoints, another job" "-DPARTS=1 -DFAULTS=2 -DCKPT -DANOTHER"
    holds three "without checkpoints" "-DPARTS=1 -DFAULTS=3 -DANOTHER"
    holds ends2 "the job ends" "-DFAULTS=2 -DLATE_JOINS" ends
    holds ends1 "the job ends" "-DPARTS=1 -DFAULTS=2 -DANOTHER" ends
    done_testing
fi

O=-O1 holds two "attempts on two nodes and a spare" "-DFAULTS=2"
O=-O1 holds late "messages that take their time, and one that comes twice" "-DFAULTS=1 -DLATES=1 -DLATE_JOINS -DONE_WAY"
holds ckpt "checkpoints of attempts on two nodes" "-DFAULTS=1 -DCKPT"
holds one "checkpoints of attempts on one node, and another job" "-DPARTS=1 -DFAULTS=1 -DCKPT -DANOTHER"
holds ends "the job ends" "-DFAULTS=1" ends
holds kept "an acknowledged job is stored" "-DFAULTS=1" kept
while IFS='|' read -r mistake options text ltl; do
    found "$mistake" "$text" "$options" "$ltl"
done <<'ROWS'
ACK_BEFORE_COMMIT|-DFAULTS=1|a submission is acknowledged before it is stored
TOKEN_IGNORED|-DFAULTS=1|a repeated submission becomes a second job
ATTEMPT_NOT_STORED|-DFAULTS=1|an attempt is started before its number is stored
EPOCH_UNCHECKED|-DFAULTS=1 -DLATES=1|a report of an older attempt is believed
RESTART_BEFORE_GONE|-DFAULTS=1|the next attempt starts while ranks of the last one live
SILENCE_BELIEVED|-DFAULTS=1|what a returning agent does not tell of is taken to live
KILLED_ONCE|-DFAULTS=1|a kill that was lost with its connection is not sent again
AGENT_FORGETS|-DFAULTS=0 -DLATES=1|an agent starts an attempt that it has already started
RELEASE_EARLY|-DFAULTS=1|a keeper is released before the end of its job is stored
SLOT_FREED_TWICE|-DFAULTS=0|the slots of a job are given back twice
SPARE_TWICE|-DFAULTS=1|one spare node replaces two
STALE_IGNORED|-DPARTS=1 -DFAULTS=1 -DANOTHER|a slot is given away while what had it is still ending
LEASE_IGNORED|-DFAULTS=1|ranks live on after their lease has run out
REPLACED_EARLY|-DFAULTS=1|a node is replaced before its lease can have run out
NO_MARGIN|-DFAULTS=1|a node is replaced when its lease has run out, without time to end its ranks
NO_GRACE|-DFAULTS=1|a controller that was started again gives up at once whom it does not hear
KNOWN_EARLY|-DFAULTS=1 -DLATE_JOINS|an agent counts beats before the controller knows of its new connection
REFUSED_EARLY|-DFAULTS=2|and a refusal before it has read what was sent on the old one
LINES_IGNORED|-DFAULTS=2|a host that does not answer is replaced although its keeper may live
COMMIT_UNFENCED|-DPARTS=1 -DFAULTS=1 -DCKPT|a checkpoint is committed without a look at EPOCH
COMMIT_UNLOCKED|-DPARTS=1 -DFAULTS=1 -DCKPT|EPOCH is looked at without LOCK
NEVER_ANSWERED|-DFAULTS=0|a client is not answered and asks for ever|ends
ROWS
done_testing
