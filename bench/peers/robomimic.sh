#!/usr/bin/env bash
# robomimic's own data reading, in an environment of its own: bench/peers/robomimic.sh .peers/robomimic
# Used by the tests marked `peer` in tests/formats/test_robomimic_peer.py.
#
# 0.3.0 is the newest release on PyPI. It is installed without its dependencies: simulators, video
# and logging packages are not needed for `robomimic.utils.dataset.SequenceDataset`.
set -euo pipefail
folder=${1:?usage: bench/peers/robomimic.sh FOLDER}
python=${PYTHON:-python3}

[ -x "$folder/bin/python" ] || "$python" -m venv "$folder"
pip=("$folder/bin/python" -m pip install -q --disable-pip-version-check)
"${pip[@]}" numpy h5py tqdm termcolor psutil setuptools 'torch>=2.11'
"${pip[@]}" --no-deps --no-build-isolation robomimic==0.3.0
"$folder/bin/python" -c 'import robomimic.utils.dataset, robomimic; print("robomimic", robomimic.__version__)'
