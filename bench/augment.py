"""What augmentation costs: in a loader thread with OpenCV, and as one batched pass with torch.

    OMP_NUM_THREADS=1 python bench/augment.py               on the CPU, under a minute
    python bench/augment.py --device cuda --batch 256       the batched pass on a GPU

CPU microseconds per picture in one thread (on a GPU: of the device, per picture), the least of
`--rounds` rounds, measured in turn. Each picture is `--size` pixels high and wide, two of them make
a sample. `float only` is what turning pictures into floats costs by itself: the batched pass begins
with it, and a network needs it anyway.
"""

import argparse
import time
from collections.abc import Callable
from types import SimpleNamespace

import cv2
import numpy as np
import torch

from deft import nn, recipes, spec
from deft.train.augment_cpu import ThreadAugment

TICKS = 2


def pictures(batch: int, size: int) -> np.ndarray:
    """Smooth colours, uint8 `B To H W C`."""
    rng = np.random.default_rng(0)
    cells = rng.integers(0, 256, (batch * TICKS, 16, 16, 3), dtype=np.uint8)
    large = [cv2.resize(each, (size, size), interpolation=cv2.INTER_CUBIC) for each in cells]
    return np.stack(large).reshape(batch, TICKS, size, size, 3)


def in_a_thread(config: nn.AugmentConfig, held: np.ndarray) -> Callable[[], float]:
    """Seconds of CPU for one batch, eight rows at a time as the loader's threads take them."""
    camera = spec.Feature(name="image", role="image", shape=held.shape[2:], dtype="uint8")
    augment = ThreadAugment(config, [camera], seed=0)

    def work() -> float:
        obs = {"image": held.copy()}
        batch = SimpleNamespace(obs=obs, goal={}, next_obs={}, draws=np.arange(len(held)))
        begun = time.thread_time()
        apply = augment(batch)  # pyright: ignore[reportArgumentType]
        for row in range(0, len(held), 8):
            apply(slice(row, row + 8))
        return time.thread_time() - begun

    return work


def batched(run: Callable[[torch.Tensor], object], held: torch.Tensor) -> Callable[[], float]:
    """Seconds of the device for one batch."""

    def work() -> float:
        if held.device.type != "cuda":
            begun = time.process_time()
            run(held)
            return time.process_time() - begun
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run(held)
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1000  # milliseconds

    return work


def rows_of(held: np.ndarray, device: str, compiled: bool) -> dict[str, Callable[[], float]]:
    """Everything that is measured, by name."""
    found: dict[str, Callable[[], float]] = {}
    there = torch.from_numpy(held).to(device)
    camera = spec.Feature(name="image", role="image", shape=held.shape[2:], dtype="uint8")
    draws = nn.Draws(0, torch.arange(len(held), device=device))
    for name in recipes.AUGMENTS:
        config = spec.from_plain(nn.AugmentConfig, recipes.augment(name))
        if config.is_off:
            continue
        if device == "cpu":
            found[f"threads, augment={name}"] = in_a_thread(config, held)
        augment = nn.Augment(config, [camera])
        run = torch.compile(augment) if compiled else augment
        found[f"batched, augment={name}"] = batched(
            lambda x, run=run: run(nn.Batch(obs={"image": x}), draws), there
        )
    found["float only"] = batched(lambda x: x.movedim(-1, 2).float().div_(255), there)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=256, help="height and width (256)")
    parser.add_argument("--batch", type=int, default=32, help="samples of two pictures (32)")
    parser.add_argument("--rounds", type=int, default=7, help="times each row is measured (7)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--compiled", action="store_true", help="torch.compile the batched pass")
    args = parser.parse_args()
    if args.device == "cpu":
        torch.set_num_threads(1)
    works = rows_of(pictures(args.batch, args.size), args.device, args.compiled)
    seconds: dict[str, float] = {}
    for _ in range(args.rounds):
        for name, work in works.items():
            seconds[name] = min(work(), seconds.get(name, float("inf")))
    print(f"| {args.size}x{args.size}, batch {args.batch} | us per picture | ms per batch |")
    print("| --- | --- | --- |")
    for name, spent in seconds.items():
        print(f"| {name} | {1e6 * spent / args.batch / TICKS:.0f} | {1e3 * spent:.2f} |")


if __name__ == "__main__":
    main()
