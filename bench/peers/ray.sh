#!/usr/bin/env bash
# Ray and what Deft itself needs, in an environment of its own: bench/peers/ray.sh .peers/ray
# Used by the tests marked `peer` in tests/cli/test_convert_ray.py.
set -euo pipefail
folder=${1:?usage: bench/peers/ray.sh FOLDER}
python=${PYTHON:-python3}

[ -x "$folder/bin/python" ] || "$python" -m venv "$folder"
pip=("$folder/bin/python" -m pip install -q --disable-pip-version-check)
"${pip[@]}" 'ray>=2.40' numpy opencv-python-headless pyarrow rich safetensors simplejpeg
"$folder/bin/python" -c 'import ray; print("ray", ray.__version__)'
