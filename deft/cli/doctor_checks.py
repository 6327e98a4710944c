"""What each fact of the machine means: one small function per trouble.

A check takes `Facts` and returns a `Finding`, or None where it has nothing to say.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from deft.cli.doctor_facts import Facts, plain_name

Severity = Literal["ok", "note", "warning", "error"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the diagnosis."""

    check: str
    severity: Severity
    found: str
    effect: str = ""
    """What it breaks, in one line."""
    fix: str = ""
    """One command."""


_CUDA_FIX = "sudo apt-get install nvidia-driver-570"

_PROBABILITY_NEEDS: dict[tuple[int, ...], tuple[int, int]] = {
    (0, 19): (2, 11), (0, 20): (2, 12), (0, 21): (2, 13), (0, 22): (2, 14),
    (0, 23): (2, 15), (0, 24): (2, 16), (0, 25): (2, 18),
}  # fmt: skip
"""TensorFlow Probability's release to the oldest TensorFlow that it runs on, from its notes."""


def diagnose(facts: Facts) -> list[Finding]:
    """Every check's finding, in the order of `CHECKS`."""
    found = (check(facts) for check in CHECKS)
    return [each for each in found if each is not None]


def version_of(text: str) -> tuple[int, ...]:
    """The leading numbers of a version: `2.13.0+cu128` is (2, 13, 0)."""
    found = re.match(r"\d+(\.\d+)*", text)
    return tuple(int(each) for each in found[0].split(".")) if found else ()


def unmet(facts: Facts, requirement: str) -> str | None:
    """Why one line of a distribution's requirements is not met here; None when it is.

    Knows ==, !=, >=, <=, >, <, ~= on release numbers, which is what the packages here use.
    """
    match = re.match(r"\s*([\w.\-]+)\s*(?:\[[^\]]*\])?\s*\(?([^;)]*)", requirement)
    if match is None:
        return None
    name = plain_name(match[1])
    installed = facts.packages.get(name)
    if installed is None:
        return f"{name} is not installed"
    have = version_of(installed)
    for sign, text in re.findall(r"(===?|!=|>=|<=|~=|>|<)\s*([\w.*+!-]+)", match[2]):
        if not _holds(have, sign, text):
            return f"{name} {installed} is installed, {sign}{text} is needed"
    return None


def _holds(have: tuple[int, ...], sign: str, text: str) -> bool:
    want = version_of(text)
    width = max(len(have), len(want))
    left = have + (0,) * (width - len(have))
    right = want + (0,) * (width - len(want))
    if sign in ("==", "===", "!="):
        same = have[: len(want)] == want if text.endswith("*") else left == right
        return same != (sign == "!=")
    if sign == "~=":
        return left >= right and have[: len(want) - 1] == want[:-1]
    return {">=": left >= right, "<=": left <= right, ">": left > right, "<": left < right}[sign]


def extras(facts: Facts) -> dict[str, list[str]]:
    """Each extra of Deft's with what is missing for it; the core is named ``."""
    found: dict[str, list[str]] = {}
    for line in facts.requires.get("deft-robotics", ()):
        match = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", line)
        missing = found.setdefault(match[1] if match else "", [])
        if plain_name(re.match(r"[\w.\-]+", line)[0]) == "deft-robotics":  # pyright: ignore[reportOptionalSubscript]
            continue
        why = unmet(facts, line)
        if why is not None:
            missing.append(why)
    return found


def check_python(facts: Facts) -> Finding:
    shown = ".".join(map(str, facts.python))
    if (3, 11) <= facts.python[:2] <= (3, 13):
        return Finding(check="python", severity="ok", found=f"Python {shown}")
    return Finding(
        check="python",
        severity="error",
        found=f"Python {shown}",
        effect="Deft runs on Python 3.11 to 3.13",
        fix="uv venv --python 3.12 .venv",
    )


def check_core(facts: Facts) -> Finding:
    missing = extras(facts).get("", [])
    if not missing:
        return Finding(check="packages", severity="ok", found="everything Deft always needs")
    return Finding(
        check="packages",
        severity="error",
        found="; ".join(missing),
        effect="reading and storing recordings fails",
        fix="pip install --upgrade deft-robotics",
    )


def check_extras(facts: Facts) -> Finding | None:
    """Extras that are half there: something of them is installed, and something is too old."""
    old = [
        f"[{extra}] {why}"
        for extra, missing in extras(facts).items()
        for why in missing
        if extra and " is needed" in why
    ]
    if not old:
        return None
    names = sorted({each[1 : each.index("]")] for each in old})
    return Finding(
        check="extras",
        severity="warning",
        found="; ".join(old),
        effect="commands that use these may fail half-way",
        fix=f"pip install --upgrade 'deft-robotics[{','.join(names)}]'",
    )


def check_torch(facts: Facts) -> Finding:
    if facts.torch is None:
        return Finding(
            check="torch",
            severity="note",
            found="PyTorch is not installed",
            effect="no training and no serving here; the robot side needs none",
            fix="pip install 'deft-robotics[train]'",
        )
    if facts.torch.error:
        return Finding(
            check="torch",
            severity="error",
            found=f"PyTorch cannot be imported: {facts.torch.error}",
            effect="nothing can be trained or served",
            fix="pip install --force-reinstall torch",
        )
    built = f"for CUDA {facts.torch.cuda}" if facts.torch.cuda else "without CUDA"
    return Finding(
        check="torch", severity="ok", found=f"PyTorch {facts.torch.version}, built {built}"
    )


def check_cuda(facts: Facts) -> Finding | None:
    """Whether PyTorch sees a GPU, and why not."""
    torch = facts.torch
    if torch is None or torch.error:
        return None

    def bad(found: str, fix: str) -> Finding:
        return Finding(
            check="cuda",
            severity="error",
            found=found,
            effect="training and serving run on the CPU, many times slower",
            fix=fix,
        )

    if torch.sees_cuda:
        return _check_archs(facts)
    if facts.driver is None:
        if facts.has_nvidia_hardware:
            return bad("there is an NVIDIA GPU, but no working driver", _CUDA_FIX)
        return Finding(
            check="cuda",
            severity="note",
            found="no NVIDIA GPU here",
            effect="everything runs on the CPU",
        )
    if facts.env.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1", "none"):
        shown = facts.env.get("CUDA_VISIBLE_DEVICES")
        return bad(f"CUDA_VISIBLE_DEVICES='{shown}' hides every GPU", "unset CUDA_VISIBLE_DEVICES")
    if torch.cuda is None:
        return bad(
            f"there is a GPU, but PyTorch {torch.version} is built without CUDA",
            "pip install --force-reinstall torch",
        )
    return bad(
        f"driver {facts.driver.version} runs, but PyTorch does not see its GPUs",
        "sudo modprobe nvidia_uvm",
    )


def _check_archs(facts: Facts) -> Finding:
    torch = facts.torch
    assert torch is not None
    built = [int(n) for each in torch.archs if (n := re.sub(r"\D", "", each))]
    for name, major, minor in torch.devices:
        # Machine code runs on later minor versions of its major version; PTX on all later ones.
        wanted = 10 * major + minor
        has_code = any(n // 10 == major and n <= wanted for n in built)
        has_ptx = any(each.startswith("compute_") for each in torch.archs)
        if built and not has_code and not (has_ptx and min(built) <= wanted):
            return Finding(
                check="cuda",
                severity="error",
                found=f"{name} is sm_{wanted}; PyTorch is built for {', '.join(torch.archs)}",
                effect="the first operation on the GPU fails: no kernel image is available",
                fix="pip install --upgrade torch",
            )
    names = ", ".join(name for name, _, _ in torch.devices)
    return Finding(check="cuda", severity="ok", found=f"PyTorch sees {names}")


def check_driver(facts: Facts) -> Finding | None:
    """The driver against the CUDA that PyTorch was built with."""
    if facts.driver is None or facts.torch is None or not facts.torch.cuda:
        return None
    most, built = version_of(facts.driver.cuda), version_of(facts.torch.cuda)
    shown = f"driver {facts.driver.version} runs CUDA up to {facts.driver.cuda}"
    if not most or most >= built:
        return Finding(check="driver", severity="ok", found=shown)
    # Within one major version, a newer toolkit runs on an older driver with some features less.
    is_same = most[0] == built[0]
    return Finding(
        check="driver",
        severity="warning" if is_same else "error",
        found=f"{shown}; PyTorch is built for CUDA {facts.torch.cuda}",
        effect="compiled kernels may be refused (PTX version)" if is_same else "no GPU is seen",
        fix=_CUDA_FIX,
    )


def check_toolkit(facts: Facts) -> Finding | None:
    """A system toolkit of another CUDA than the wheel's."""
    if facts.toolkit is None or facts.torch is None or not facts.torch.cuda:
        return None
    if version_of(facts.toolkit)[0] == version_of(facts.torch.cuda)[0]:
        return Finding(check="toolkit", severity="ok", found=f"nvcc is of CUDA {facts.toolkit}")
    return Finding(
        check="toolkit",
        severity="warning",
        found=f"nvcc is of CUDA {facts.toolkit}, PyTorch is built for CUDA {facts.torch.cuda}",
        effect="extensions compiled here will not load; training itself is not affected",
        fix=f"sudo apt-get install cuda-toolkit-{facts.torch.cuda.replace('.', '-')}",
    )


def check_shadowed(facts: Facts) -> Finding | None:
    """The wheels' CUDA libraries hidden behind others in LD_LIBRARY_PATH."""
    wheels = _nvidia_wheels(facts)
    others = {
        folder: names
        for folder, names in facts.library_folders.items()
        if "/site-packages/nvidia/" not in folder
    }
    if not wheels:
        return None
    if not others:
        return Finding(check="shadowed", severity="ok", found="no library hides the wheels' CUDA")
    folder, names = next(iter(others.items()))
    return Finding(
        check="shadowed",
        severity="error",
        found=f"LD_LIBRARY_PATH brings {', '.join(names)} from {folder} before the wheels'",
        effect="libraries of two CUDA versions are mixed: undefined symbols, or wrong cuDNN",
        fix="unset LD_LIBRARY_PATH",
    )


def check_cudnn(facts: Facts) -> Finding | None:
    """cuDNN missing, or older than PyTorch asks for."""
    torch = facts.torch
    if torch is None or torch.error or not torch.cuda:
        return None
    effect = "convolutions on the GPU fail or are slow"
    lines = [r for r in facts.requires.get("torch", ()) if r.startswith("nvidia-cudnn")]
    here = facts.system == "Linux" and bool(lines)
    why = next((w for w in (unmet(facts, line) for line in lines) if w), None) if here else None
    if why is not None:
        name = re.split(r"[^\w-]", lines[0])[0]
        pin = re.search(r"==\s*([\d.]+)", lines[0])
        return Finding(
            check="cudnn",
            severity="error",
            found=why,
            effect=effect,
            fix=f"pip install '{name}{'==' + pin[1] if pin else ''}'",
        )
    if torch.sees_cuda and torch.cudnn is None:
        return Finding(
            check="cudnn",
            severity="error",
            found="PyTorch finds no cuDNN",
            effect=effect,
            fix="pip install --force-reinstall torch",
        )
    return Finding(check="cudnn", severity="ok", found="cuDNN is what PyTorch asks for")


def check_nvjitlink(facts: Facts) -> Finding | None:
    """The linker must not be older than the compilers that feed it."""
    for line in ("-cu13", "-cu12", "-cu11", ""):
        linker = facts.packages.get(f"nvidia-nvjitlink{line}")
        if linker is None:
            continue
        for compiler in ("nvidia-cuda-nvcc", "nvidia-cuda-nvrtc"):
            version = facts.packages.get(compiler + line)
            if version is not None and version_of(version)[:2] > version_of(linker)[:2]:
                return Finding(
                    check="nvjitlink",
                    severity="error",
                    found=f"nvidia-nvjitlink{line} {linker} is older than "
                    f"{compiler}{line} {version}",
                    effect="compiling fails: 'Input file … newer than toolkit'",
                    fix=f"pip install --upgrade 'nvidia-nvjitlink{line}>="
                    f"{'.'.join(map(str, version_of(version)[:2]))}'",
                )
        return Finding(check="nvjitlink", severity="ok", found=f"nvJitLink {linker}")
    return None


def check_ml_dtypes(facts: Facts) -> Finding | None:
    """ml_dtypes against those of the old stack that build on it."""
    owners = ("tensorstore", "jax", "jaxlib", "tensorflow", "orbax-checkpoint")
    return _old_stack(
        facts, owners, "ml-dtypes",
        "importing it fails: module 'ml_dtypes' has no attribute …",
    )  # fmt: skip


def check_tensorstore(facts: Facts) -> Finding | None:
    """tensorstore against those that write checkpoints with it."""
    return _old_stack(
        facts, ("orbax-checkpoint", "flax"), "tensorstore", "JAX checkpoints cannot be read"
    )


def _old_stack(facts: Facts, owners: tuple[str, ...], needed: str, effect: str) -> Finding | None:
    """Packages of the old stack that are here and ask for another version of one package."""
    seen = False
    for owner in owners:
        for line in facts.requires.get(owner, ()):
            match = re.match(r"[\w.\-]+", line)
            if match is None or plain_name(match[0]) != needed or "extra ==" in line:
                continue
            seen = True
            why = unmet(facts, line)
            if why is not None:
                want = re.match(r"[^;]*", line)
                assert want is not None
                return Finding(
                    check=needed.replace("-", "_"),
                    severity="error",
                    found=f"{owner} {facts.packages[owner]}: {why}",
                    effect=f"{owner}: {effect}",
                    fix=f"pip install '{want[0].strip()}'",
                )
    if not seen:
        return None
    return Finding(
        check=needed.replace("-", "_"), severity="ok", found=f"{needed} fits what is installed"
    )


def check_probability(facts: Facts) -> Finding | None:
    """TensorFlow Probability against TensorFlow, where both are."""
    probability = facts.packages.get("tensorflow-probability")
    tensorflow = facts.packages.get("tensorflow") or facts.packages.get("tensorflow-cpu")
    if probability is None or tensorflow is None:
        return None
    shown = f"TensorFlow Probability {probability}, TensorFlow {tensorflow}"
    have = version_of(tensorflow)[:2]
    want = _PROBABILITY_NEEDS.get(version_of(probability)[:2])
    effect = "importing TensorFlow Probability fails, and distrax with it"
    if want is not None and have < want:
        fitting = [p for p, t in _PROBABILITY_NEEDS.items() if t <= have]
        release = ".".join(map(str, max(fitting))) if fitting else "0.18"
        return Finding(
            check="probability",
            severity="error",
            found=f"{shown}; it needs TensorFlow {want[0]}.{want[1]} or newer",
            effect=effect,
            fix=f"pip install 'tensorflow-probability=={release}.*'",
        )
    if have >= (2, 16) and "tf-keras" not in facts.packages:
        return Finding(
            check="probability",
            severity="error",
            found=f"{shown}; TensorFlow has Keras 3, and tf-keras is not installed",
            effect=effect,
            fix=f"pip install 'tf-keras=={have[0]}.{have[1]}.*'",
        )
    return Finding(check="probability", severity="ok", found=shown)


def check_av1(facts: Facts) -> Finding | None:
    if "av" not in facts.packages:
        return None
    if facts.video_decoders & {"libdav1d", "libaom-av1"}:
        return Finding(check="av1", severity="ok", found="AV1 videos can be decoded")
    return Finding(
        check="av1",
        severity="warning",
        found=f"PyAV {facts.packages['av']} has no AV1 decoder (libdav1d or libaom)",
        effect="most LeRobot recordings are AV1 videos and cannot be read",
        fix="pip install --force-reinstall --only-binary av 'av>=14'",
    )


def check_drawing(facts: Facts) -> Finding | None:
    if "mujoco" not in facts.packages or facts.system != "Linux":
        return None
    effect = "MuJoCo draws no pictures, so image tasks cannot be collected or evaluated"
    install = "sudo apt-get install libosmesa6 libegl1 libgl1-mesa-dri"
    asked = facts.env.get("MUJOCO_GL", "").strip().lower()
    names = {"osmesa": "OSMesa", "egl": "EGL"}
    if asked in names and names[asked] not in facts.drawing:
        return Finding(
            check="drawing",
            severity="error",
            found=f"MUJOCO_GL={asked}, and {names[asked]} is not installed",
            effect=effect,
            fix=install,
        )
    if facts.drawing or facts.env.get("DISPLAY") or facts.env.get("WAYLAND_DISPLAY"):
        shown = ", ".join(sorted(facts.drawing)) or "a display"
        return Finding(check="drawing", severity="ok", found=f"MuJoCo can draw with {shown}")
    return Finding(
        check="drawing",
        severity="warning",
        found="neither OSMesa nor EGL is installed, and there is no display",
        effect=effect,
        fix=install,
    )


def check_shm(facts: Facts) -> Finding | None:
    if facts.shm_bytes is None:
        return None
    shown = f"/dev/shm has {facts.shm_bytes / 1e9:.1f} GB free"
    if facts.shm_bytes >= 1e9:
        return Finding(check="shm", severity="ok", found=shown)
    return Finding(
        check="shm",
        severity="warning",
        found=shown,
        effect="pictures shared between processes do not fit: bus errors, or a slow loader",
        fix="sudo mount -o remount,size=8G /dev/shm",
    )


def check_open_files(facts: Facts) -> Finding | None:
    if facts.open_files is None:
        return None
    shown = f"a process may hold {facts.open_files} files open"
    if facts.open_files >= 1024:
        return Finding(check="files", severity="ok", found=shown)
    return Finding(
        check="files",
        severity="warning",
        found=shown,
        effect="large conversions and many clients stop with 'Too many open files'",
        fix="ulimit -n 65536",
    )


def check_disk(facts: Facts) -> Finding | None:
    disk = facts.disk
    if disk is None:
        return None
    shown = f"{disk.path}: {disk.free_bytes / 1e9:.1f} GB free"
    if disk.free_bytes < 2e9:
        return Finding(
            check="disk",
            severity="error",
            found=shown,
            effect="conversions and checkpoints stop when the disk is full",
            fix="export DEFT_DATA_DIR=/a/larger/disk",
        )
    if disk.write_bytes_s is None or disk.read_bytes_s is None:
        return Finding(
            check="disk",
            severity="error",
            found=f"{shown}, but nothing can be written there",
            effect="conversions and downloads fail",
            fix=f"sudo chown -R $USER '{disk.path}'",
        )
    shown += (
        f", writes {disk.write_bytes_s / 1e6:.0f} MB/s, reads {disk.read_bytes_s / 1e6:.0f} MB/s"
    )
    if disk.read_bytes_s < 50e6:
        return Finding(
            check="disk",
            severity="warning",
            found=shown,
            effect="training waits for data",
            fix="export DEFT_DATA_DIR=/a/local/disk",
        )
    if disk.free_bytes < 20e9:
        return Finding(
            check="disk",
            severity="warning",
            found=shown,
            effect="a store of camera pictures may not fit",
            fix="export DEFT_DATA_DIR=/a/larger/disk",
        )
    return Finding(check="disk", severity="ok", found=shown)


def check_wandb(facts: Facts) -> Finding | None:
    if "wandb" not in facts.packages:
        return None
    if facts.is_logged_in_to_wandb:
        return Finding(check="wandb", severity="ok", found="logged in to W&B")
    if facts.env.get("WANDB_MODE") in ("offline", "disabled"):
        shown = f"not logged in to W&B, and WANDB_MODE={facts.env['WANDB_MODE']}"
        return Finding(check="wandb", severity="ok", found=shown)
    return Finding(
        check="wandb",
        severity="warning",
        found="W&B is installed, and nobody is logged in",
        effect="`tracker=wandb` stops at its start, unless tracker.mode=offline",
        fix="wandb login",
    )


def check_port(facts: Facts) -> Finding:
    if facts.port_is_free:
        return Finding(check="port", severity="ok", found=f"port {facts.port} is free")
    return Finding(
        check="port",
        severity="warning",
        found=f"port {facts.port} is in use",
        effect="`deft serve` cannot listen there",
        fix="deft serve RUN --port 0",
    )


def _nvidia_wheels(facts: Facts) -> list[str]:
    return [name for name in facts.packages if name.startswith("nvidia-cu")]


CHECKS: tuple[Callable[[Facts], Finding | None], ...] = (
    check_python,
    check_core,
    check_extras,
    check_torch,
    check_cuda,
    check_driver,
    check_toolkit,
    check_shadowed,
    check_cudnn,
    check_nvjitlink,
    check_ml_dtypes,
    check_tensorstore,
    check_probability,
    check_av1,
    check_drawing,
    check_shm,
    check_open_files,
    check_disk,
    check_wandb,
    check_port,
)
