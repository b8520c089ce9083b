#!/usr/bin/env bash
# make bench-restart: SIGKILL of a random rank at a random moment, until the first completed step of the next attempt;
# muster against tuned mpirun in a shell loop, interleaved in one run. See the .py for what is measured.
exec python3 "$(dirname "$0")/bench_restart.py" "${B:-build/default}" "${TRIALS:-20}" "${SEED:-1}"
