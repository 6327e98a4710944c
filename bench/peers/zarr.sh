#!/usr/bin/env bash
# zarr 2 and zarr 3, each in an environment of its own below a folder: bench/peers/zarr.sh .peers/zarr
# Used by the tests marked `peer` in tests/formats/test_zarr_peers.py.
set -euo pipefail
folder=${1:?usage: bench/peers/zarr.sh FOLDER}
python=${PYTHON:-python3}

# zarr 2 does not know the codecs of numcodecs 0.16.
make() {
  local name=$1
  shift
  [ -x "$folder/$name/bin/python" ] || "$python" -m venv "$folder/$name"
  "$folder/$name/bin/python" -m pip install -q --disable-pip-version-check "$@"
  "$folder/$name/bin/python" -c 'import zarr; print("zarr", zarr.__version__)'
}

mkdir -p "$folder"
make v2 'zarr==2.18.7' 'numcodecs<0.16' 'numpy<2.4'
make v3 'zarr==3.1.6'
