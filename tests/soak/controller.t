#!/usr/bin/env bash
# make soak-controller: kill -9 of the controller every 5 s, for MINUTES (5) in all; no job and no step is lost, and the
# next one knows everything in half a second.
. "$(dirname "$0")/../cluster/faults.sh"
cluster_serve 5 "$root/tests/soak/run_controller.py"
