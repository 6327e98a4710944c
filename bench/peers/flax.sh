#!/usr/bin/env bash
# An environment with real Flax, to make checkpoints as BridgeData V2's code saves them.
# Usage: bash bench/peers/flax.sh [FOLDER]     (.peers/flax)
set -euo pipefail
folder=${1:-.peers/flax}
[ -x "$folder/bin/python" ] || "${PYTHON:-python3}" -m venv "$folder"
"$folder/bin/python" -m pip install -q --disable-pip-version-check "flax<0.11" "jax[cpu]" "orbax-checkpoint" msgpack numpy
"$folder/bin/python" -c 'import flax, jax; print("flax", flax.__version__, "jax", jax.__version__)'
