#!/bin/sh
# An environment with real LeRobot, to test our files against and to time it:
#   bench/peers/lerobot.sh .peers/lerobot                 # 0.4.4, writes and reads v3.0
#   bench/peers/lerobot.sh .peers/lerobot_v21 0.3.3       # the last release that does v2.1
#   pytest -m peer tests/formats/test_peer_lerobot.py
# Run everything with FOLDER/bin/lrpy, not with FOLDER/bin/python. $PYTHON picks the interpreter,
# which must be 3.11. About 2 GB, 3 minutes; nothing but Python packages is downloaded.
set -eu

folder=${1:?"usage: bench/peers/lerobot.sh FOLDER [VERSION]"}
version=${2:-0.4.4}
case $version in
    # Each release with the `datasets` it admits and the Arrow that this one works with.
    0.4.*) datasets=4.8.5 pyarrow=26.0.1 gymnasium=1.4.0 ;;
    0.3.[0-3]) datasets=3.6.0 pyarrow=20.0.0 gymnasium=0.29.1 ;;
    *) echo "no recipe for lerobot $version: 0.3.0 to 0.3.3 (v2.1) or 0.4.x (v3.0)" >&2; exit 2 ;;
esac

"${PYTHON:-python3.11}" -m venv "$folder"
folder=$(cd "$folder" && pwd)
"$folder/bin/python" -c 'import sys; assert sys.version_info[:2] == (3, 11), sys.version'
pip() { "$folder/bin/python" -m pip install --quiet --disable-pip-version-check "$@"; }

# LeRobot asks for an older torch than this one, hence --no-deps. What only its robots, its viewer
# and its logger need is left out. torchvision 0.25.0 is the last with the `VideoReader` of its
# "pyav" backend; torchcodec 0.11.1 is the oldest that loads beside torch 2.13.
pip torch==2.13.0 numpy==2.2.6
pip --no-deps torchvision==0.25.0 torchcodec==0.11.1 "lerobot==$version"
pip torch==2.13.0 numpy==2.2.6 av==15.1.0 "datasets==$datasets" "pyarrow==$pyarrow" \
    "gymnasium==$gymnasium" pandas==2.3.3 diffusers==0.35.2 huggingface-hub==0.35.3 \
    accelerate==1.15.0 einops==0.8.2 opencv-python-headless==4.12.0.88 jsonlines==4.0.0 \
    packaging==25.0 draccus==0.10.0 deepdiff==8.6.2 "imageio[ffmpeg]==2.38.1" termcolor==3.3.0 \
    safetensors==0.8.0 "pillow<13" "setuptools<81" psutil pyserial

# torchvision's compiled operators want the torch they were built for. Without them, importing it
# stops at two operators that are not declared; declare them (models, transforms and video reading
# are plain Python and work, the detection operators do not).
"$folder/bin/python" -W ignore - <<'PY'
import importlib.util
import pathlib

spec = importlib.util.find_spec("torchvision")
path = pathlib.Path(spec.origin).with_name("extension.py")
mark = "# declared because the compiled operators could not be loaded"
if mark not in path.read_text():
    with path.open("a") as file:
        file.write(f'''

{mark}
if not _has_ops():
    _declared = torch.library.Library("torchvision", "DEF")
    _declared.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _declared.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
''')
PY

# torchcodec wants FFmpeg 7 by its usual names; PyAV's wheel carries it under mangled ones.
site=$("$folder/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
mkdir -p "$folder/ffmpeg7"
for pair in avcodec:61 avdevice:61 avfilter:10 avformat:61 avutil:59 swresample:5 swscale:8; do
    name=${pair%%:*} major=${pair##*:}
    ln -sf "$site/av.libs/lib$name"-*.so."$major".* "$folder/ffmpeg7/lib$name.so.$major"
done

cat > "$folder/bin/lrpy" <<WRAP
#!/bin/sh
export LD_LIBRARY_PATH="$folder/ffmpeg7:$site/av.libs\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}"
export HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 HF_DATASETS_DISABLE_PROGRESS_BARS=1
export TOKENIZERS_PARALLELISM=false PYTHONWARNINGS="\${PYTHONWARNINGS:-ignore}"
exec "$folder/bin/python" "\$@"
WRAP
chmod +x "$folder/bin/lrpy"

"$folder/bin/lrpy" - <<'PY'
import av
import lerobot
import torch
import torchcodec
from torchcodec.decoders import VideoDecoder  # loads the native library
from lerobot.datasets.lerobot_dataset import CODEBASE_VERSION, LeRobotDataset

print("lerobot", lerobot.__version__, CODEBASE_VERSION, "torch", torch.__version__,
      "torchcodec", torchcodec.__version__, "av", av.__version__)
PY
