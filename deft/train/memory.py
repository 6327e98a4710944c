"""When memory runs out: what to turn down, and the largest batch that fits."""

import resource
from collections.abc import Callable, Generator
from contextlib import contextmanager

import torch

from deft.errors import ConfigError, TrainError
from deft.spec import Spec
from deft.train.config import Job

GPU_SHARE = 0.9
"""Part of a GPU's memory that `train.batch_size=auto` uses: pieces of it stay unusable."""


class OutOfMemoryError(TrainError):
    """A step did not fit; the message lists what can be turned down."""


@contextmanager
def explained(job: Job, contract: Spec, device: torch.device) -> Generator[None]:
    """Memory that runs out inside the block becomes `OutOfMemoryError`."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemoryError(
            f"{device}: training does not fit into memory.\n"
            f"Found: {str(error).splitlines()[0][:200] if str(error) else 'MemoryError'}\n"
            f"Fix: turn down one of these, most effective first:\n{knobs(job, contract)}"
        ) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or on the host."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def knobs(job: Job, contract: Spec) -> str:
    """Settings that memory depends on with their values, one a line."""
    plan = job.train
    sizes = sorted({f"{f.height}x{f.width}" for f in contract.features if f.is_frame})
    frozen = "frozen" if job.optim.encoder_lr_scale == 0 else "trained"
    varied = "off" if job.augment.is_off else f"on, executor {job.augment.executor}"
    lines = [
        f"  train.batch_size={plan.batch_size}",
        f"  train.grad_accum_steps={plan.grad_accum_steps}   more pieces, the same result",
        f"  train.sharded={str(plan.sharded).lower()}   true splits weights over processes",
        f"  train.precision={plan.precision}   bf16 halves what is kept for the way back",
    ]
    if sizes:
        lines += [
            f"  optim.encoder_lr_scale={job.optim.encoder_lr_scale:g}  encoder {frozen}; 0 freezes",
            f"  data.image_size={','.join(sizes)}   height x width of the pictures",
            f"  augment={varied}   executor=threads works outside the GPU",
        ]
    return "\n".join(lines)


def largest_batch(
    measure: Callable[[int], float | None], limit: float, multiple: int, most: int
) -> int:
    """The largest batch whose memory stays within a limit.

    Memory grows in proportion to the batch beyond a fixed part, so two small ones tell where to
    look; what they promise is measured, and lowered by an eighth until it holds.

    Args:
        measure: rows to bytes; None when they did not fit.
        limit: bytes.
        multiple: the batch is a multiple of this.
        most: the largest worth having.

    Raises:
        ConfigError: not even `multiple` rows fit.
    """
    one, two = measure(multiple), measure(2 * multiple)
    if one is None or one > limit:
        found = "no room" if one is None else f"{one / 1e9:.2f} GB"
        raise ConfigError(
            f"train.batch_size=auto: a batch of {multiple} does not fit.\n"
            f"Found: {found}, limit {limit / 1e9:.2f} GB.\n"
            "Fix: give more `train.memory_gb`, raise `train.grad_accum_steps`, or see to a smaller "
            "network or image size."
        )
    cap = max(multiple, most - most % multiple)
    if two is None or two > limit or cap < 2 * multiple:
        return multiple
    per_row = max((two - one) / multiple, 1.0)
    size = int((limit - one) / per_row) + multiple
    size = min(size - size % multiple, cap)
    while size > 2 * multiple:
        used = measure(size)
        if used is not None and used <= limit:
            return size
        smaller = size - max(multiple, size // 8)
        size = smaller - smaller % multiple
    return max(size, multiple)


def used_gb(device: torch.device) -> float:
    """The most memory used so far: of the GPU, or by this process on the host; 1e9 bytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def limit_bytes(job: Job, device: torch.device) -> float:
    """What `train.batch_size=auto` may use on a device."""
    if job.train.memory_gb is not None:
        return job.train.memory_gb * 1e9
    if device.type == "cuda":
        return GPU_SHARE * torch.cuda.get_device_properties(device).total_memory
    with open("/proc/meminfo") as file:
        free = next(line for line in file if line.startswith("MemAvailable:"))
    return int(free.split()[1]) * 1024 / 2


class Saved:
    """Counts the bytes that a forward pass keeps for the way back, each storage once."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}

    def pack(self, tensor: torch.Tensor) -> torch.Tensor:
        """For `torch.autograd.graph.saved_tensors_hooks`."""
        storage = tensor.untyped_storage()
        self._seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    @property
    def bytes(self) -> int:
        return sum(self._seen.values())
