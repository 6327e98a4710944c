#!/usr/bin/env bash
# Hugging Face's `transformers` beside the packages that Deft has already, to encode sentences.
# Usage: bash bench/peers/transformers.sh [FOLDER]     (.peers/transformers)
set -euo pipefail
folder=${1:-.peers/transformers}
python=${PYTHON:-.venv/bin/python}
[ -x "$folder/bin/python" ] || "$python" -m venv "$folder"
# Deft and torch are those of the interpreter above; only what it lacks comes here.
ours=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
theirs=$("$folder/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
printf '%s\n' "$ours" "$PWD" > "$theirs/deft.pth"
"$folder/bin/python" -m pip install -q --disable-pip-version-check "transformers>=4.50"
"$folder/bin/python" -c 'import transformers, torch; print("transformers", transformers.__version__, "torch", torch.__version__)'
