#!/usr/bin/env bash
# huggingface_hub and what Deft itself needs, in an environment of its own:
# bench/peers/hub.sh .peers/hub
# Used by the tests marked `peer` in tests/formats/test_hub_peer.py.
set -euo pipefail
folder=${1:?usage: bench/peers/hub.sh FOLDER}
python=${PYTHON:-python3}

[ -x "$folder/bin/python" ] || "$python" -m venv "$folder"
pip=("$folder/bin/python" -m pip install -q --disable-pip-version-check)
"${pip[@]}" 'huggingface_hub>=0.34' numpy opencv-python-headless pyarrow rich safetensors simplejpeg
"$folder/bin/python" -c 'import huggingface_hub as hub; print("huggingface_hub", hub.__version__)'
