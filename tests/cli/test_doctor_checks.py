"""Every trouble that `deft doctor` knows, made up one at a time."""

from dataclasses import replace
from typing import Any

import pytest

from deft.cli.doctor_checks import CHECKS, diagnose, extras, unmet, version_of
from deft.cli.doctor_facts import Disk, Driver, Facts, Torch

OWN = (
    "numpy>=1.26",
    "rich>=13.7",
    'torch>=2.11; extra == "train"',
    'av>=14; extra == "video"',
    'deft-robotics[train,video]; extra == "dev"',
)
CUDNN = 'nvidia-cudnn-cu12==9.10.2.21; platform_system == "Linux"'
HEALTHY = Facts(
    python=(3, 12, 4),
    packages={
        "numpy": "2.1.0",
        "rich": "14.0.0",
        "torch": "2.11.0",
        "av": "14.1.0",
        "wandb": "0.22.2",
        "mujoco": "3.3.0",
        "nvidia-cudnn-cu12": "9.10.2.21",
        "nvidia-nvjitlink-cu12": "12.8.93",
        "nvidia-cuda-nvrtc-cu12": "12.8.93",
        "nvidia-cuda-nvcc-cu12": "12.8.93",
        "tensorflow": "2.15.1",
        "tensorflow-probability": "0.23.0",
        "tensorstore": "0.1.60",
        "ml-dtypes": "0.3.2",
        "orbax-checkpoint": "0.5.0",
    },
    requires={
        "deft-robotics": OWN,
        "torch": (CUDNN,),
        "tensorstore": ("ml_dtypes>=0.3.1",),
        "tensorflow": ("ml-dtypes~=0.3.1",),
        "orbax-checkpoint": ("tensorstore>=0.1.51",),
    },
    has_nvidia_hardware=True,
    driver=Driver(version="570.86", cuda="12.8", gpus=("NVIDIA H100",)),
    toolkit="12.6",
    torch=Torch(
        version="2.11.0+cu128",
        cuda="12.8",
        archs=("sm_80", "sm_90", "compute_90"),
        sees_cuda=True,
        devices=(("NVIDIA H100", 9, 0),),
        cudnn=91002,
    ),
    video_decoders=frozenset({"libdav1d", "h264"}),
    drawing=frozenset({"EGL"}),
    shm_bytes=8 * 10**9,
    open_files=65536,
    disk=Disk(path="data", free_bytes=10**12, write_bytes_s=5e8, read_bytes_s=9e8),
    is_logged_in_to_wandb=True,
)
BLIND = replace(HEALTHY.torch or Torch(), sees_cuda=False, devices=())


def packages(**changes: str | None) -> dict[str, str]:
    """The healthy packages with others instead; None takes one out."""
    named = {name.replace("_", "-"): version for name, version in changes.items()}
    return {k: v for k, v in {**HEALTHY.packages, **named}.items() if v is not None}


def test_a_healthy_machine_has_nothing_but_ok() -> None:
    findings = diagnose(HEALTHY)
    assert [each for each in findings if each.severity != "ok"] == []
    assert len(findings) == len(CHECKS) - 1  # no extra is half there


FAULTS: list[tuple[str, str, str, str, dict[str, Any]]] = [
    ("python", "error", "3.9.1", "python", {"python": (3, 9, 1)}),
    ("packages", "error", "numpy 1.24.0", "upgrade deft", {"packages": packages(numpy="1.24.0")}),
    ("packages", "error", "rich is not", "upgrade deft", {"packages": packages(rich=None)}),
    ("extras", "warning", "[video] av 12", "[video]", {"packages": packages(av="12.0")}),
    ("torch", "note", "not installed", "[train]", {"torch": None}),
    ("torch", "error", "libcudart.so.12", "force", {"torch": Torch(error="libcudart.so.12")}),
    ("cuda", "error", "no working driver", "driver", {"torch": BLIND, "driver": None}),
    ("cuda", "note", "no NVIDIA GPU", "", {"torch": BLIND, "driver": None,
                                           "has_nvidia_hardware": False}),
    ("cuda", "error", "hides every GPU", "unset CUDA", {"torch": BLIND,
                                                        "env": {"CUDA_VISIBLE_DEVICES": ""}}),
    ("cuda", "error", "built without CUDA", "torch", {"torch": replace(BLIND, cuda=None)}),
    ("cuda", "error", "does not see", "modprobe", {"torch": BLIND}),
    ("cuda", "error", "sm_70", "upgrade torch", {"torch": replace(
        BLIND, sees_cuda=True, devices=(("V100", 7, 0),), archs=("sm_80", "sm_90"))}),
    ("driver", "error", "CUDA up to 11.4", "nvidia-driver",
     {"driver": Driver(version="470.1", cuda="11.4", gpus=("A",))}),
    ("driver", "warning", "CUDA up to 12.2", "nvidia-driver",
     {"driver": Driver(version="535.1", cuda="12.2", gpus=("A",))}),
    ("toolkit", "warning", "CUDA 11.8", "cuda-toolkit-12-8", {"toolkit": "11.8"}),
    ("shadowed", "error", "/usr/local/cuda/lib64", "unset LD_LIBRARY_PATH",
     {"library_folders": {"/usr/local/cuda/lib64": ("cudart", "cudnn")}}),
    ("cudnn", "error", "not installed", "nvidia-cudnn-cu12==9.10.2.21",
     {"packages": packages(nvidia_cudnn_cu12=None)}),
    ("cudnn", "error", "8.9.2", "nvidia-cudnn-cu12==9.10.2.21",
     {"packages": packages(nvidia_cudnn_cu12="8.9.2.26")}),
    ("cudnn", "error", "no cuDNN", "torch", {"torch": replace(HEALTHY.torch, cudnn=None)}),  # type: ignore[type-var]
    ("nvjitlink", "error", "older than nvidia-cuda-nvcc-cu12 12.9", "nvjitlink-cu12>=12.9",
     {"packages": packages(nvidia_cuda_nvcc_cu12="12.9.41")}),
    ("ml_dtypes", "error", "ml-dtypes 0.2.0", "ml_dtypes>=0.3.1",
     {"packages": packages(ml_dtypes="0.2.0")}),
    ("tensorstore", "error", "tensorstore 0.1.40", "tensorstore>=0.1.51",
     {"packages": packages(tensorstore="0.1.40")}),
    ("probability", "error", "TensorFlow 2.18 or newer", "probability==0.23",
     {"packages": packages(tensorflow_probability="0.25.0")}),
    ("probability", "error", "tf-keras is not", "tf-keras==2.18",
     {"packages": packages(tensorflow_probability="0.25.0", tensorflow="2.18.0")}),
    ("av1", "warning", "no AV1 decoder", "av>=14", {"video_decoders": frozenset({"h264"})}),
    ("drawing", "warning", "neither OSMesa nor EGL", "libosmesa6", {"drawing": frozenset()}),
    ("drawing", "error", "OSMesa is not", "libosmesa6", {"env": {"MUJOCO_GL": "osmesa"}}),
    ("shm", "warning", "0.1 GB", "/dev/shm", {"shm_bytes": 64 * 2**20}),
    ("files", "warning", "256 files", "ulimit", {"open_files": 256}),
    ("disk", "error", "1.0 GB free", "DEFT_DATA_DIR",
     {"disk": replace(HEALTHY.disk, free_bytes=10**9)}),  # type: ignore[type-var]
    ("disk", "error", "nothing can be written", "chown",
     {"disk": replace(HEALTHY.disk, write_bytes_s=None)}),  # type: ignore[type-var]
    ("disk", "warning", "reads 9 MB/s", "DEFT_DATA_DIR",
     {"disk": replace(HEALTHY.disk, read_bytes_s=9e6)}),  # type: ignore[type-var]
    ("wandb", "warning", "nobody is logged in", "wandb login", {"is_logged_in_to_wandb": False}),
    ("port", "warning", "8000 is in use", "--port 0", {"port_is_free": False}),
]  # fmt: skip


@pytest.mark.parametrize(("check", "severity", "found", "fix", "changes"), FAULTS)
def test_a_fault_is_found_with_its_effect_and_its_fix(
    check: str, severity: str, found: str, fix: str, changes: dict[str, Any]
) -> None:
    (finding,) = [e for e in diagnose(replace(HEALTHY, **changes)) if e.check == check]
    assert finding.severity == severity
    assert found in finding.found
    assert fix in finding.fix
    assert finding.effect
    assert "\n" not in finding.effect + finding.fix


def test_every_check_has_a_fault() -> None:
    assert {name for name, *_ in FAULTS} >= {each.check for each in diagnose(HEALTHY)}


def test_what_is_not_there_is_not_judged() -> None:
    bare = Facts(python=(3, 11, 2), requires={"deft-robotics": ("numpy>=1.26",)})
    assert {each.check for each in diagnose(bare)} == {"python", "packages", "torch", "port"}


def test_an_old_driver_runs_ptx_of_an_older_architecture() -> None:
    torch = replace(BLIND, sees_cuda=True, devices=(("B200", 10, 0),))
    assert not [e for e in diagnose(replace(HEALTHY, torch=torch)) if e.severity == "error"]


def test_extras_tell_what_each_misses() -> None:
    found = extras(replace(HEALTHY, packages=packages(av=None)))
    assert found == {"": [], "train": [], "video": ["av is not installed"], "dev": []}


@pytest.mark.parametrize(
    ("requirement", "is_met"),
    [
        ("numpy", True),
        ("numpy>=2.1", True),
        ("NumPy (>=2.1.0,<3)", True),
        ("numpy<2.1", False),
        ("numpy==2.1", True),
        ("numpy==2.*", True),
        ("numpy!=2.1.0", False),
        ("numpy~=2.0", True),
        ("numpy~=2.0.1", False),
        ("absent>=1", False),
    ],
)
def test_requirements(requirement: str, is_met: bool) -> None:
    assert (unmet(HEALTHY, requirement) is None) == is_met


def test_versions_are_compared_as_numbers() -> None:
    assert version_of("2.13.0+cu128") == (2, 13, 0)
    assert version_of("1.10") > version_of("1.9.9")
    assert version_of("nightly") == ()
