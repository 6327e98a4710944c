#!/bin/sh
# An environment with the real Rerun, to show our episodes to:
#   bench/peers/rerun.sh .peers/rerun
#   pytest -m peer tests/cli/test_peer_rerun.py
# $PYTHON picks the interpreter (3.11 to 3.13). About 0.6 GB; Deft itself goes in as it stands here.
set -eu

folder=${1:?"usage: bench/peers/rerun.sh FOLDER"}
root=$(cd "$(dirname "$0")/../.." && pwd)
"${PYTHON:-python3}" -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check \
    rerun-sdk==0.26.2 datafusion -e "$root[video,zarr,hdf5]"
"$folder/bin/python" -c 'import rerun; print("rerun-sdk", rerun.__version__)'
