#!/usr/bin/env bash
# The acceptance suite's judge on made-up clusters, each with one thing planted or none; and how long its schedule takes
# on large ones, in modelled time.
. "$(dirname "$0")/../lib.sh"

judge() { # NAME ARGS...
    local name=$1 said
    shift
    said=$("$B/tests/judge/judge" "$@" 2>&1)
    ok $? "$name: $(tail -n 1 <<<"$said")" || note "$said"
}

start=${JUDGE_START:-1}
judge "8 hosts, standard" --start "$start" --seeds "${JUDGE_SEEDS:-3000}"
judge "8 hosts, quick" --profile quick --start "$start" --seeds "${JUDGE_SEEDS:-2000}"
judge "24 hosts" --hosts 24 --start "$start" --seeds "$((${JUDGE_SEEDS:-2000} / 10))"
# What is well must be left alone in whatever weather: heavy tails, hosts that are slow one after the other, too many hosts on
# few processors, somebody else's load, waves over everything.
weather() { # NAME ARGS...
    local name=$1 said
    shift
    said=$("$B/tests/judge/judge" --weather rough --start "$start" "$@" 2>&1)
    ok $? "$name: $(grep -o '^[a-z]*: precision [0-9.]* %\|[0-9]* of [0-9]* healthy ones accused' <<<"$said" | tr '\n' ' ')" || note "$said"
}
weather "rough weather, standard" --seeds "$((${JUDGE_SEEDS:-2000} / 4))"
weather "rough weather, quick" --profile quick --seeds "$((${JUDGE_SEEDS:-2000} / 4))"
for hosts in 232 10000; do
    judge "plan" --plan $hosts
    judge "plan" --plan $hosts --profile quick
done
"$B/tests/judge/judge" --seeds 300 --rounds 0 >/dev/null
[ $? = 1 ]
ok $? "without confirmation it would not hold: who is suspected first is not always to blame"
done_testing
