#!/bin/sh
# An environment with submitit, which writes SLURM's scripts and has an executor of its own:
#   bench/peers/slurm.sh .peers/slurm
#   pytest -m peer tests/launch/test_peer_slurm.py
# $PYTHON picks the interpreter, of the same version as the one that runs the tests: what Deft itself
# needs is taken from there.
set -eu

folder=${1:?"usage: bench/peers/slurm.sh FOLDER"}
"${PYTHON:-python3}" -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check submitit==1.5.3
"$folder/bin/python" -c 'import submitit; print("submitit", submitit.__version__)'
