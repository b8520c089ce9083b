#!/usr/bin/env bash
# 50 agents in a tree of fan-out 4 (tests/scale/agents.c): they join, leaves and inner ones die, jobs run, the controller is killed.
. "$(dirname "$0")/../lib.sh"
"$B/tests/scale/agents" --agents 50 --fanout 4 --rounds 2 --rest 1 --muster "$muster"
status=$?
# shellcheck disable=SC2034
tap_planned=printed # by the program
exit $status
