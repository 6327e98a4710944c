#!/bin/sh
# An environment with the zarr package, to test our files against; one for each of its versions:
#   bench/peers/zarr.sh .peers/zarr_v2 2.18.7      # reads and writes format 2
#   bench/peers/zarr.sh .peers/zarr_v3             # 3.1.6, reads and writes formats 2 and 3
#   pytest -m peer tests/formats/test_peer_zarr.py
# $PYTHON picks the interpreter (3.11 or 3.12 for both). Small, half a minute each.
set -eu

folder=${1:?"usage: bench/peers/zarr.sh FOLDER [VERSION]"}
version=${2:-3.1.6}
case $version in
    # zarr 2 does not work with the codecs of numcodecs 0.16.
    2.*) codecs='numcodecs<0.16' ;;
    *) codecs='numcodecs>=0.14' ;;
esac
"${PYTHON:-python3}" -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check \
    "zarr==$version" "$codecs" 'numpy<2.4'
"$folder/bin/python" -c 'import numcodecs, zarr
print("zarr", zarr.__version__, "numcodecs", numcodecs.__version__)'
