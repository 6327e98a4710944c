#!/bin/sh
# An environment with the real TensorBoard and Weights & Biases:
#   bench/peers/trackers.sh .peers/trackers
#   pytest -m peer tests/train/test_peer_trackers.py
# $PYTHON picks the interpreter, of the same version as the one that runs the tests: what Deft itself
# needs is taken from there.
set -eu

folder=${1:?"usage: bench/peers/trackers.sh FOLDER"}
"${PYTHON:-python3}" -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check \
    tensorboard==2.20.0 wandb==0.22.2
"$folder/bin/python" -c 'import wandb; print("wandb", wandb.__version__)'
