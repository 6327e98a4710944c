"""How fast batches come out of a store: against the bare decoder, a plain torch Dataset, LeRobot.

    python bench/loader.py                 all rows as markdown tables, some minutes
    python bench/loader.py --rounds 1      a quick look
    bench/peers/lerobot.sh .peers/lerobot  makes the environment that LeRobot's rows need

Everything runs at one time on the same made-up pictures: the store's loader with JPEG and raw
pictures, without and with augmentation; `simplejpeg` alone in a loop on one core; a torch Dataset
that opens JPEG files with PIL, alone and under two DataLoader workers; and, where its environment
is, LeRobot's own LeRobotDataset under torch's DataLoader, with videos and with pictures in
parquet, in a process of its own that waits while the others are measured. A sample is To=2
observed ticks of every camera, 2 x 14 state values and a chunk of Tp=16 actions; batches hold 64.

CPU time (all threads and worker processes) is what to compare on a shared machine; wall clock
depends on who else is computing. Rows are measured in turn, `--rounds` times; each shows the least
CPU time and the least wall time that were seen.
"""

import argparse
import json
import multiprocessing
import os
import re
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import simplejpeg
from loader_pictures import RECORDING, Layout, Made, Pictures, recording, source_of
from PIL import Image

from deft import nn, recipes, spec, store
from deft.train.augment_cpu import ThreadAugment

BATCH, TO, TP = 64, 2, 16
PREFETCH = 3  # the loader's default
HORIZONS = spec.Horizons(obs_horizon=TO, pred_horizon=TP)


LAYOUTS = (
    Layout("256x256, 1 camera", 256, 256, ("image",)),
    Layout("240x320, 2 cameras", 240, 320, ("left", "right")),
)


@dataclass(frozen=True)
class Cost:
    """Of one sample, seconds."""

    cpu: float
    wall: float

    def least(self, other: "Cost") -> "Cost":
        return Cost(min(self.cpu, other.cpu), min(self.wall, other.wall))


def cpu_s() -> float:
    """CPU time of all threads, and of worker processes that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def spent(work: Callable[[], int]) -> Cost:
    """CPU and wall seconds per sample; `work` returns how many samples it made."""
    began, wall = cpu_s(), time.perf_counter()
    samples = work()
    return Cost((cpu_s() - began) / samples, (time.perf_counter() - wall) / samples)


class Running:
    """The store's own loader, warm: it has been through its ring and all samples, and is full."""

    def __init__(
        self,
        opened: store.Store,
        threads: int,
        augment: str = "none",
        cache: Literal["off", "memory"] = "off",
    ) -> None:
        windows = store.Windows(opened, HORIZONS, split="train")
        sampler = store.Sampler(len(windows), BATCH, seed=0)
        names = [feature.name for feature in opened.spec.features if feature.role != "action"]
        config = spec.from_plain(nn.AugmentConfig, recipes.augment(augment))
        vary = None if config.is_off else ThreadAugment(config, opened.spec.features, seed=0)
        kept = store.keep_pictures(opened, names, cache)
        self.loader = store.Loader(
            opened,
            windows,
            sampler,
            observations=names,
            pictures=kept.pictures,
            threads=threads,
            vary=vary,
        )
        for _ in range(2 * PREFETCH + 2 + len(windows) // BATCH):
            next(self.loader)
        self._settle()

    def cost(self, batches: int) -> Cost:
        """Of batches that come as fast as they are made.

        The clock starts and stops when a batch has just been taken out of an empty ring, so what
        is half made then is about the same both times.
        """
        for _ in range(PREFETCH + 1):
            next(self.loader)
        found = spent(lambda: self._take(batches))
        self._settle()
        return found

    def _take(self, batches: int) -> int:
        for _ in range(batches):
            next(self.loader)
        return batches * BATCH

    def _settle(self) -> None:
        """Wait until the threads sleep, so that they do not disturb what is measured next."""
        while self.loader.ready < PREFETCH:
            time.sleep(0.01)


def drawn_rows(opened: store.Store, batches: int) -> Iterator[np.ndarray]:
    """The rows `B To` of the same samples that `load` draws."""
    windows = store.Windows(opened, HORIZONS, split="train")
    sampler = store.Sampler(len(windows), BATCH, seed=0)
    for number in range(batches):
        yield windows.rows(sampler.batch(number)[0]).obs


def bare(opened: store.Store, batches: int, slots: int) -> Callable[[], int]:
    """Only the decoder (raw: only the copy), pictures in memory, into the same few buffers."""
    columns = list(opened.frames.values())
    shape = (slots, *columns[0].feature.shape)
    out = np.empty(shape, np.uint8)
    rows = [r for each in drawn_rows(opened, batches) for r in each.ravel().tolist()]
    everything = np.arange(len(opened))
    held = [column.stored(everything) for column in columns]
    is_raw = columns[0].codec == "raw"
    arrays: list[list[np.ndarray]] = []
    if is_raw:
        arrays = [[np.frombuffer(data, np.uint8).reshape(shape[1:]) for data in h] for h in held]

    def work() -> int:
        slot = 0
        for row in rows:
            for camera in range(len(columns)):
                if is_raw:
                    np.copyto(out[slot], arrays[camera][row])
                else:
                    simplejpeg.decode_jpeg(held[camera][row], "RGB", buffer=out[slot])
                slot = slot + 1 if slot + 1 < slots else 0
        return batches * BATCH

    return work


def at_once(work: Callable[[], int]) -> Cost:
    """The same work in two processes at the same time: what two cores can do that share caches.

    Each goes through it once before, so that the pages it writes are its own.
    """
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(2), context.SimpleQueue()

    def run() -> None:
        work()
        barrier.wait()
        answers.put(spent(work))

    processes = [context.Process(target=run) for _ in range(2)]
    for process in processes:
        process.start()
    found = [answers.get() for _ in processes]
    for process in processes:
        process.join()
    return Cost(sum(c.cpu for c in found) / 2, max(c.wall for c in found) / 2)


class FileDataset:
    """What most people write first: one JPEG file per picture, opened with PIL."""

    def __init__(self, opened: store.Store, folder: Path) -> None:
        self.cameras = list(opened.frames)
        self.folder = folder
        for name, column in opened.frames.items():
            for row, data in enumerate(column.stored(np.arange(len(opened)))):
                (folder / f"{name}_{row}.jpg").write_bytes(data)
        self.state = np.array(opened.tables["state"])
        self.action = np.array(opened.tables["action"])
        windows = store.Windows(opened, HORIZONS, split="train")
        found = windows.rows(np.arange(len(windows)))
        self.obs, self.chunk = found.obs, found.action

    def __len__(self) -> int:
        return len(self.obs)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        sample = {"state": self.state[self.obs[index]], "action": self.action[self.chunk[index]]}
        for name in self.cameras:
            ticks = [
                np.asarray(Image.open(self.folder / f"{name}_{row}.jpg").convert("RGB"))
                for row in self.obs[index]
            ]
            sample[name] = np.stack(ticks)
        return sample


def load_files(dataset: FileDataset, workers: int, batches: int) -> int:
    """torch's DataLoader over the files, as many epochs as it takes."""
    import torch

    torch.set_num_threads(1)
    loader = torch.utils.data.DataLoader(
        dataset,  # pyright: ignore[reportArgumentType]
        batch_size=BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        generator=torch.Generator().manual_seed(0),
        persistent_workers=workers > 0,
    )
    left = batches
    while left:
        for batch in loader:
            assert len(batch["state"]) == BATCH
            left -= 1
            if not left:
                break
    del loader  # ends the workers, so that their CPU time counts
    return batches * BATCH


BARE = "bare decoder, one buffer"
BARE_TWICE = "bare decoder, one buffer, 2 processes at once"

PARQUET = "pictures in parquet"
"""LeRobot's slow rows, ten times slower than video and more: measured once, with fewer samples."""


class LeRobot:
    """LeRobot in an environment of its own, with the same episodes; measures when asked.

    Args:
        environment: folder that `bench/peers/lerobot.sh` made.
        layout: of the pictures.
        folder: for the data sets.
        script: what its process runs, in `bench/peers`.
        source: the episodes; None makes pictures up.
    """

    ROWS = (
        ("video, torchcodec, 0 workers", {"storage": "video", "workers": 0}),
        ("video, torchcodec, 2 workers", {"storage": "video", "workers": 2}),
        ("video, torchcodec, 2 workers, batch 8", {"storage": "video", "workers": 2, "batch": 8}),
        (f"{PARQUET}, 0 workers, batch 8", {"storage": "image", "workers": 0, "batch": 8}),
        (f"{PARQUET}, 2 workers, batch 8", {"storage": "image", "workers": 2, "batch": 8}),
    )

    def __init__(
        self,
        environment: Path,
        layout: Layout,
        folder: Path,
        script: str = "loader_lerobot.py",
        source: Pictures | None = None,
    ) -> None:
        frames = folder / "frames"
        frames.mkdir(parents=True)
        self._hand_over(layout, frames, source or Made(layout))
        # Its threads are its own affair: only ours are told how many to take.
        variables = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        variables["SVT_LOG"] = "1"  # errors only
        program = Path(__file__).parent / "peers" / script
        self._process = subprocess.Popen(
            [environment.resolve() / "bin" / "lrpy", program, frames, folder / "lerobot"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=variables,
        )
        print("LeRobot:", json.dumps(self._answer()))

    def works(self, batches: int) -> dict[str, Callable[[], Cost]]:
        """What is measured, by name."""
        return {f"LeRobot: {name}": partial(self._run, job, batches) for name, job in self.ROWS}

    def check(self, opened: store.Store) -> None:
        """Stop unless a few samples of LeRobot's lossless pictures are those of a raw store."""
        windows = store.Windows(opened, HORIZONS, split="train")
        for index in (0, len(windows) // 3, len(windows) - 1):
            rows = windows.rows(np.asarray([index]))
            levels = 0
            for name in opened.frames:
                shape = (len(rows.obs[0]), *opened.frames[name].feature.shape)
                out = np.empty(shape, np.uint8)
                for row, picture in zip(rows.obs[0].tolist(), out, strict=True):
                    opened.frames[name].decode_into(row, picture)
                levels += int(out.sum(dtype=np.int64))
            state = opened.tables["state"][rows.obs].sum(dtype=np.float64)
            action = opened.tables["action"][rows.action].sum(dtype=np.float64)
            job = {"storage": "image", "backend": "torchcodec", "sample": index}
            theirs = self.ask(job)["sums"]
            if not np.allclose(theirs, [levels, state, action], rtol=0, atol=1e-3):
                raise SystemExit(
                    f"sample {index}: LeRobot holds {theirs}, {[levels, state, action]}"
                )

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        if self._process.wait():
            raise SystemExit(f"LeRobot's process ended with {self._process.returncode}.")

    def _hand_over(self, layout: Layout, frames: Path, source: Pictures) -> None:
        for index in range(len(source.episodes)):
            episode = source.read(index)
            for name in ("state", "action"):
                np.save(frames / f"{index}_{name}.npy", episode.arrays[name])
            for camera, name in enumerate(layout.cameras):
                np.save(frames / f"{index}_{name}.npy", source.pictures(index, camera))
        told = {
            "cameras": layout.cameras,
            "height": layout.height,
            "width": layout.width,
            "episodes": len(source.episodes),
            "length": source.episodes[0].length,
            "numbers": source.spec.action().shape[0],
            "state_numbers": source.spec["state"].shape[0],
            "fps": source.spec.fps,
            "obs_horizon": TO,
            "pred_horizon": TP,
        }
        (frames / "layout.json").write_text(json.dumps(told))

    def _run(self, job: dict[str, str | int], batches: int) -> Cost:
        size = int(job.get("batch", BATCH))
        # Enough that the few batches its workers hold ready do not count.
        count = max(batches, 10) * BATCH // size
        if job["storage"] == "image":
            count = -(-count // 8)
        whole = {"backend": "torchcodec", **job, "batch": size, "batches": count}
        said = self.ask(whole)
        return Cost(said["cpu_s"] / said["samples"], said["wall_s"] / said["samples"])

    def ask(self, job: dict[str, Any]) -> dict[str, Any]:
        """Have one job done; see the script."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("bench/loader.py: LeRobot's process has ended; its error is above.")
        return json.loads(line)


def works_of(
    layout: Layout, source: Pictures, folder: Path, batches: int
) -> dict[str, Callable[[], Cost]]:
    """Everything of ours that is measured for one layout, by name."""
    folder.mkdir()
    found: dict[str, Callable[[], Cost]] = {}
    for codec in ("jpeg", "raw"):
        config = store.WriteConfig(codec=codec, val_fraction=0.0)
        opened = store.open(store.write(folder / codec, source, config, workers=2).path)
        many = batches if codec == "jpeg" else 16 * batches
        if codec == "jpeg":
            sizes = [
                f"{column.size_bytes / len(opened) / 1000:.1f}" for column in opened.frames.values()
            ]
            print(
                f"{layout.name}: {len(opened)} steps of {layout.kind} in {len(source.episodes)} "
                f"episodes, {' and '.join(sizes)} kB each as JPEG"
            )
        alone = bare(opened, many, 1)
        found[f"{codec}: {BARE}"] = partial(spent, alone)
        # A loader fills whole batches, which do not fit the cache as one picture does.
        slots = (PREFETCH + 1) * BATCH * TO * len(layout.cameras)
        ring = bare(opened, many, slots)
        found[f"{codec}: bare decoder, {PREFETCH + 1} batches of buffers"] = partial(spent, ring)
        found[f"{codec}: {BARE_TWICE}"] = partial(at_once, alone)
        for threads in (1, 2):
            name = f"{codec}: store.Loader, {threads} thread{'s' * (threads > 1)}"
            found[name] = partial(Running(opened, threads).cost, many)
        if codec == "jpeg":
            # What training does by itself when they fit; decoded on the first pass only.
            found["jpeg: store.Loader, 2 threads, kept in memory"] = partial(
                Running(opened, 2, cache="memory").cost, 16 * batches
            )
        found[f"{codec}: store.Loader, 2 threads, augment=bridge"] = partial(
            Running(opened, 2, "bridge").cost, batches
        )
    files = folder / "files"
    files.mkdir()
    dataset = FileDataset(store.open(folder / "jpeg"), files)
    for workers in (0, 2):
        found[f"jpeg: torch Dataset with PIL, {workers} workers"] = partial(
            spent, partial(load_files, dataset, workers, batches)
        )
    return found


def table(layout: Layout, costs: dict[str, Cost]) -> str:
    """Markdown, with each row against the bare decoder of its codec."""
    lines = [
        f"| {layout.name}, To {TO}, Tp {TP}, batch {BATCH} | CPU-s per 1000 samples | "
        "of the bare decoder | of 2 at once | samples/s (wall) | of 2 at once |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, cost in costs.items():
        codec = name.split(":")[0]
        alone, twice = costs.get(f"{codec}: {BARE}"), costs.get(f"{codec}: {BARE_TWICE}")
        shares = [
            _share(alone and alone.cpu, cost.cpu),
            _share(twice and twice.cpu, cost.cpu),
            f"{1 / cost.wall:.0f}",
            _share(twice and twice.wall, cost.wall),
        ]
        lines.append(f"| {name} | {1000 * cost.cpu:.3f} | {' | '.join(shares)} |")
    theirs = [cost for name, cost in costs.items() if name.startswith("LeRobot")]
    if theirs:
        wall, cpu = min(cost.wall for cost in theirs), min(cost.cpu for cost in theirs)
        lines += [
            "",
            "| against the best of LeRobot's rows | samples/s | CPU |",
            "| --- | --- | --- |",
        ]
        for name, cost in costs.items():
            if "store.Loader" in name:
                ratios = f"{wall / cost.wall:.1f}x | {cpu / cost.cpu:.1f}x less"
                lines.append(f"| {name} | {ratios} |")
    return "\n".join(lines)


def _share(reference: float | None, cost: float) -> str:
    return f"{100 * reference / cost:.0f} %" if reference else "–"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=4, help="times each row is measured (4)")
    parser.add_argument("--batches", type=int, default=6, help="batches per measurement (6)")
    parser.add_argument(
        "--pictures",
        choices=["real", "textures", "waves"],
        default="real",
        help="a recording's, or made up (real)",
    )
    parser.add_argument(
        "--recording",
        type=Path,
        help=f"where real ones come from; any that Deft reads ({RECORDING} below DEFT_TEST_DATA)",
    )
    parser.add_argument(
        "--steps", type=int, default=150, help="of each recorded episode, its first so many (150)"
    )
    parser.add_argument("--only", default="", help="only rows that match this pattern")
    parser.add_argument(
        "--lerobot", type=Path, default=Path(".peers/lerobot"), help="LeRobot's environment"
    )
    args = parser.parse_args()
    if not args.lerobot.exists():
        print(f"no LeRobot: bench/peers/lerobot.sh {args.lerobot} makes its environment")
    with tempfile.TemporaryDirectory() as folder:
        for number, size in enumerate(LAYOUTS):
            layout = replace(size, kind=args.pictures)
            source = source_of(layout, recording(args.recording), args.steps)
            works = works_of(layout, source, Path(folder) / f"ours{number}", args.batches)
            peer = None
            if args.lerobot.exists():
                theirs = Path(folder) / f"theirs{number}"
                peer = LeRobot(args.lerobot, layout, theirs, source=source)
                peer.check(store.open(Path(folder) / f"ours{number}" / "raw"))
                works |= peer.works(args.batches)
            costs: dict[str, Cost] = {}
            for turn in range(args.rounds):
                for name, work in works.items():
                    if re.search(args.only, name) and not (turn and PARQUET in name):
                        cost = work()
                        costs[name] = cost.least(costs.get(name, cost))
            if peer is not None:
                peer.close()
            print(f"\n{table(layout, costs)}\n", flush=True)
            load = os.getloadavg()[0]
            print(f"Load at the end {load:.1f} on {os.cpu_count()} cores.\n", flush=True)


if __name__ == "__main__":
    main()
