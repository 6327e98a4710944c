#!/bin/sh
# An environment with real TensorFlow and TFDS, to test our files against:
#   bench/peers/tensorflow.sh .peers/tensorflow
#   pytest -m peer tests/formats/test_peer_tensorflow.py
# $PYTHON picks the interpreter (3.10 to 3.13). About 1.3 GB; CPU only; nothing else is downloaded.
set -eu

folder=${1:?"usage: bench/peers/tensorflow.sh FOLDER"}
"${PYTHON:-python3}" -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check \
    tensorflow-cpu==2.21.0 tensorflow-datasets==4.9.9
"$folder/bin/python" -c 'import tensorflow as tf, tensorflow_datasets as tfds
print("tensorflow", tf.__version__, "tensorflow_datasets", tfds.__version__)'
