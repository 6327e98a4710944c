#!/bin/sh
# An environment with robomimic's own data reading, to test our files against:
#   bench/peers/robomimic.sh .peers/robomimic
#   pytest -m peer tests/formats/test_peer_robomimic.py
# $PYTHON picks the interpreter. 0.3.0 is the newest release on PyPI. It goes in without its
# dependencies: simulators are not needed for reading data; torch and what it draws with are.
set -eu

folder=${1:?"usage: bench/peers/robomimic.sh FOLDER"}
"${PYTHON:-python3}" -m venv "$folder"
pip() { "$folder/bin/python" -m pip install --quiet --disable-pip-version-check "$@"; }
pip numpy h5py tqdm termcolor psutil setuptools six pillow matplotlib tensorboardX \
    imageio imageio-ffmpeg torch torchvision
pip --no-deps --no-build-isolation robomimic==0.3.0
"$folder/bin/python" -c 'import h5py, robomimic, robomimic.utils.dataset, robomimic.utils.file_utils
print("robomimic", robomimic.__version__, "h5py", h5py.__version__)'
