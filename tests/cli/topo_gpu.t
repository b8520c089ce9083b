#!/usr/bin/env bash
# GPU binding against an oracle that shares nothing with the program.
cd "$(dirname "$0")/../.." || exit 99
exec python3 tests/cli/topo_gpu.py
