"""What `deft doctor` looks at: the machine and what is installed, as plain values.

Nothing is judged here, and nothing here fails because a part of the machine is broken.
"""

import ctypes.util
import importlib.metadata
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_PROBE = """
import json, torch
found = {"version": torch.__version__, "cuda": torch.version.cuda, "cudnn": None}
found["archs"] = torch.cuda.get_arch_list() if torch.version.cuda else []
found["sees_cuda"] = torch.cuda.is_available()
try:
    found["cudnn"] = torch.backends.cudnn.version()
except RuntimeError as error:
    found["cudnn_error"] = str(error)
found["devices"] = []
if found["sees_cuda"]:
    for i in range(torch.cuda.device_count()):
        major, minor = torch.cuda.get_device_capability(i)
        found["devices"].append({"name": torch.cuda.get_device_name(i), "arch": [major, minor]})
print(json.dumps(found))
"""
_PROBE_S = 120.0
_SPEED_BYTES = 32_000_000


@dataclass(frozen=True, kw_only=True)
class Driver:
    """What nvidia-smi says."""

    version: str
    cuda: str
    """Newest CUDA that the driver runs, as 12.8."""
    gpus: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Torch:
    """What PyTorch says of itself, in a process of its own."""

    version: str = ""
    cuda: str | None = None
    """The CUDA it was built with; None for a build without."""
    archs: tuple[str, ...] = ()
    """Compiled for these, as sm_90."""
    sees_cuda: bool = False
    devices: tuple[tuple[str, int, int], ...] = ()
    """Name and compute capability of each GPU."""
    cudnn: int | None = None
    error: str = ""
    """Why it cannot be imported."""


@dataclass(frozen=True, kw_only=True)
class Disk:
    """The file system below the data."""

    path: str
    free_bytes: int
    write_bytes_s: float | None
    """None where nothing can be written."""
    read_bytes_s: float | None


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Everything that the checks judge; tests make these up."""

    python: tuple[int, int, int] = (3, 11, 0)
    system: str = "Linux"
    packages: Mapping[str, str] = field(default_factory=dict[str, str])
    """Installed distributions, names in lower case with `-`, and their versions."""
    requires: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """What some of them ask for, as their metadata says."""
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    has_nvidia_hardware: bool = False
    driver: Driver | None = None
    toolkit: str | None = None
    """Version of nvcc in PATH."""
    library_folders: Mapping[str, tuple[str, ...]] = field(
        default_factory=dict[str, tuple[str, ...]]
    )
    """CUDA libraries in each folder of LD_LIBRARY_PATH that has some."""
    torch: Torch | None = None
    video_decoders: frozenset[str] = frozenset()
    drawing: frozenset[str] = frozenset()
    """Of `OSMesa` and `EGL`, those installed."""
    shm_bytes: int | None = None
    """Free in /dev/shm; None where there is none."""
    open_files: int | None = None
    """Soft limit."""
    disk: Disk | None = None
    is_logged_in_to_wandb: bool = False
    port: int = 8000
    port_is_free: bool = True


def gather(data: Path, port: int) -> Facts:
    """Look at this machine. Takes some seconds: PyTorch is imported in a process of its own."""
    packages = _packages()
    wanted = ("torch", "jax", "jaxlib", "tensorstore", "tensorflow", "orbax-checkpoint", "flax",
              "tensorflow-probability", "deft-robotics")  # fmt: skip
    return Facts(
        python=sys.version_info[:3],
        system=platform.system(),
        packages=packages,
        requires={name: _requires(name) for name in wanted if name in packages},
        env={key: os.environ[key] for key in _VARIABLES if key in os.environ},
        has_nvidia_hardware=_has_nvidia_hardware(),
        driver=_driver(),
        toolkit=_toolkit(),
        library_folders=_library_folders(os.environ.get("LD_LIBRARY_PATH", "")),
        torch=_torch() if "torch" in packages else None,
        video_decoders=_video_decoders(),
        drawing=frozenset(n for n in ("OSMesa", "EGL") if ctypes.util.find_library(n)),
        shm_bytes=_free(Path("/dev/shm")),
        open_files=_open_files(),
        disk=_disk(data),
        is_logged_in_to_wandb=_is_logged_in_to_wandb(),
        port=port,
        port_is_free=_port_is_free(port),
    )


_VARIABLES = (
    "CUDA_VISIBLE_DEVICES",
    "LD_LIBRARY_PATH",
    "MUJOCO_GL",
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "WANDB_MODE",
)


def plain_name(name: str) -> str:
    """A distribution's name in one spelling."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _packages() -> dict[str, str]:
    found: dict[str, str] = {}
    for each in importlib.metadata.distributions():
        name = each.metadata["Name"]
        if name:
            found.setdefault(plain_name(name), each.version)
    return found


def _requires(name: str) -> tuple[str, ...]:
    return tuple(importlib.metadata.requires(name) or ())


def _run(*words: str, seconds: float = 20.0) -> str | None:
    """What a program prints; None when it is not there, fails, or takes too long."""
    if shutil.which(words[0]) is None:
        return None
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=seconds, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _has_nvidia_hardware() -> bool:
    """PCI devices of NVIDIA's that draw or compute; works without its driver."""
    for device in Path("/sys/bus/pci/devices").glob("*"):
        try:
            vendor = (device / "vendor").read_text().strip()
            kind = (device / "class").read_text().strip()
        except OSError:
            continue
        if vendor == "0x10de" and kind.startswith("0x03"):
            return True
    return False


def _driver() -> Driver | None:
    text = _run("nvidia-smi")
    listed = _run("nvidia-smi", "-L")
    if text is None or listed is None:
        return None
    version = re.search(r"Driver Version:\s*([\d.]+)", text)
    cuda = re.search(r"CUDA Version:\s*([\d.]+)", text)
    gpus = re.findall(r"^GPU \d+: (.*?) \(UUID", listed, re.MULTILINE)
    return Driver(
        version=version[1] if version else "", cuda=cuda[1] if cuda else "", gpus=tuple(gpus)
    )


def _toolkit() -> str | None:
    found = re.search(r"release ([\d.]+)", _run("nvcc", "--version") or "")
    return found[1] if found else None


def _library_folders(paths: str) -> dict[str, tuple[str, ...]]:
    pattern = re.compile(r"lib(cudart|cublas|cublasLt|cudnn\w*|nvJitLink|cusparse|nccl)\.so")
    found: dict[str, tuple[str, ...]] = {}
    for each in filter(None, paths.split(":")):
        try:
            names = sorted({m[1] for n in os.listdir(each) if (m := pattern.match(n))})
        except OSError:
            continue
        if names:
            found[each] = tuple(names)
    return found


def _torch() -> Torch:
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE],
            capture_output=True, text=True, timeout=_PROBE_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return Torch(error=str(error))
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return Torch(error=lines[-1] if lines else f"exit code {done.returncode}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return Torch(
        version=found["version"],
        cuda=found["cuda"],
        archs=tuple(found["archs"]),
        sees_cuda=found["sees_cuda"],
        devices=tuple((d["name"], *d["arch"]) for d in found["devices"]),
        cudnn=found["cudnn"],
    )


def _video_decoders() -> frozenset[str]:
    try:
        from av.codec import Codec
        from av.error import FFmpegError
    except ImportError:
        return frozenset()
    found: set[str] = set()
    for name in ("libdav1d", "libaom-av1", "h264", "hevc"):
        try:
            Codec(name, "r")
        except (ValueError, FFmpegError):
            continue
        found.add(name)
    return frozenset(found)


def _free(path: Path) -> int | None:
    try:
        return shutil.disk_usage(path).free
    except OSError:
        return None


def _open_files() -> int | None:
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if soft == resource.RLIM_INFINITY else soft


def _disk(path: Path) -> Disk | None:
    """Space and speed where `path` is, or would be."""
    place = path.absolute()
    while not place.exists():
        place = place.parent
    place = place if place.is_dir() else place.parent
    free = _free(place)
    if free is None:
        return None
    speeds = _speed(place) if free > 4 * _SPEED_BYTES else (None, None)
    return Disk(path=str(path), free_bytes=free, write_bytes_s=speeds[0], read_bytes_s=speeds[1])


def _speed(place: Path) -> tuple[float | None, float | None]:
    """Bytes per second, written through to the disk and read back; None where they are refused.

    The read may come from memory, so it is an upper limit.
    """
    block = os.urandom(1_000_000)
    try:
        with tempfile.NamedTemporaryFile(dir=place, prefix=".deft-doctor-") as file:
            began = time.perf_counter()
            for _ in range(_SPEED_BYTES // len(block)):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
            written = time.perf_counter()
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            file.seek(0)
            while file.read(1_000_000):
                pass
            read = time.perf_counter()
    except OSError:
        return None, None
    return _SPEED_BYTES / max(written - began, 1e-9), _SPEED_BYTES / max(read - written, 1e-9)


def _is_logged_in_to_wandb() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    for name in (".netrc", "_netrc"):
        path = Path(os.environ.get("NETRC") or Path.home() / name)
        try:
            if re.search(r"machine\s+\S*wandb", path.read_text()):
                return True
        except (OSError, UnicodeDecodeError):
            continue
    return False


def _port_is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as door:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            door.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
