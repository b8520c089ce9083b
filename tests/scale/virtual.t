#!/usr/bin/env bash
# 300 agents in a tree of fan-out 6, in virtual time (tests/scale/virtual.c).
"${B:-build/default}/tests/scale/virtual" --agents 300 --fanout 6 --rounds 2
