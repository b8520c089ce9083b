#!/usr/bin/env bash
# make soak-model: the model with all that takes longer, 3 GB and ten minutes.
cd "$(dirname "$0")/../.." || exit 99
MODEL=full exec tests/model/model.t
