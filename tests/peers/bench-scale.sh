#!/usr/bin/env bash
# make bench-scale: 1,000 agents over the real wire against the real controller, then 10,000 in virtual time with the
# costs measured here. Tables with the figures; it fails when the bounds are not kept: a lost leaf is known within 1.5 s,
# a start is everywhere within 1 s, the controller at rest uses less than 10 % of a core. The machine should do nothing
# else: all of the 1,000 agents share what the controller leaves of it.
#   AGENTS, VIRTUAL   how many (1000, 10000)
#   ROUNDS            how often each thing is measured (3)
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 2
B=${B:-build/default}
tmp=$(mktemp -d) || exit 2
trap 'rm -rf "$tmp"' EXIT
export MUSTER_HOME=$tmp/home MUSTER_RUN_ROOT=$tmp/run
status=0
table() { # TITLE COMMAND...
    printf '%s\n' "$1"
    "${@:2}" >"$tmp/out" || status=1
    sed -n -e 's/^# /  /p' -e '/^not ok/p' -e '/^Bail out/p' "$tmp/out"
}
table "${AGENTS:-1000} agents, TLS over loopback, fan-out 32:" \
    "$B/tests/scale/agents" --agents "${AGENTS:-1000}" --fanout 32 --rounds "${ROUNDS:-3}" --rest 10 --strict 1 --muster "$B/bin/muster"
table "${VIRTUAL:-10000} agents in virtual time, fan-out 32:" \
    "$B/tests/scale/virtual" --agents "${VIRTUAL:-10000}" --fanout 32 --rounds "${ROUNDS:-3}" --strict
exit $status
