#!/usr/bin/env bash
# 10,000 seeded faults against checkpoints: tests/fault/store.c.
CASES=5000 LIMIT=7200 exec bash "$(dirname "$0")/../fault/store.t"
