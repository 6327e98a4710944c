"""LeRobot videos into a store, next to the bare work: PyAV decode, resize, JPEG, in one loop.

    OMP_NUM_THREADS=1 python bench/convert_lerobot.py

The data sets are made here: 640x480 pictures with drifting waves, a blob and fixed texture, in
LeRobot's own default encoding (AV1, CRF 30, a key frame every second frame) and in H.264 with a
key frame every 30; v2.1 keeps a video per episode, v3.0 all of them in one. The bare loop reads
the videos of v2.1, several at a time with `--workers`, and keeps the JPEGs in one file each. Deft
also reads tables, checks every picture, sums and syncs what it writes, and packs the store.

Each case runs in a process of its own. CPU seconds are those of its whole life, so that other
work on the machine does not count; memory is its own at the highest moment.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from deft import formats, spec

HEIGHT, WIDTH, FPS = 480, 640, 30

ENCODINGS = {"AV1": {"codec": "av1"}, "H.264": {"codec": "h264", "gop": 30}}
BARE = "bare loop"
BARE_CHILD = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import av, cv2, simplejpeg
source, target, height, width, workers = sys.argv[1:]
Path(target).mkdir()
def one(path):
    done = 0
    with av.open(str(path)) as container, open(f"{target}/{path.stem}.bin", "wb") as out:
        container.streams.video[0].thread_type = "NONE"
        for frame in container.decode(video=0):
            picture = frame.to_ndarray(format="rgb24")
            picture = cv2.resize(picture, (int(width), int(height)), interpolation=cv2.INTER_AREA)
            out.write(simplejpeg.encode_jpeg(
                picture, quality=90, colorspace="RGB", colorsubsampling="420"))
            done += 1
    return done
cv2.setNumThreads(1)
began, cpu = time.monotonic(), time.process_time()
with ThreadPoolExecutor(int(workers)) as pool:
    print(sum(pool.map(one, sorted(Path(source).rglob("*.mp4")))))
print(time.monotonic() - began, time.process_time() - cpu)
"""
DEFT_CHILD = """
import sys, time
import cv2
from deft import formats, store
source, target, height, width, workers = sys.argv[1:]
config = store.WriteConfig(image_height=int(height), image_width=int(width))
cv2.setNumThreads(1)
began, cpu = time.monotonic(), time.process_time()
report = store.write(target, formats.open(source), config, workers=int(workers))
assert not report.left_out, report.left_out
print(report.frames)
print(time.monotonic() - began, time.process_time() - cpu)
"""


@dataclass
class Result:
    """One case."""

    encoding: str
    name: str
    workers: int
    pictures: int
    wall_s: float
    cpu_s: float
    peak_mib: float


def main() -> None:
    options = parse()
    root = options.folder or Path(tempfile.mkdtemp(prefix="deft-bench-"))
    best: dict[tuple[str, str, int], Result] = {}
    for encoding in options.encodings:
        make(root, encoding, options)
    for _ in range(options.rounds):
        for result in measure(root, options):
            key = (result.encoding, result.name, result.workers)
            if key not in best or result.cpu_s < best[key].cpu_s:
                best[key] = result
    print(table(list(best.values())))
    print(
        f"{options.episodes} episodes x {options.frames} frames, {HEIGHT} high, {WIDTH} wide, to "
        f"{options.image_size}; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end, "
        f"{platform.machine()}, Python {platform.python_version()}."
    )
    if options.json:
        options.json.write_text(json.dumps([asdict(each) for each in best.values()], indent=1))
    if options.folder is None:
        shutil.rmtree(root)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--episodes", type=int, default=40)
    add("--frames", type=int, default=200, help="of each episode")
    add("--image-size", default="256x256", metavar="HxW", help="height x width")
    add("--workers", type=int, nargs="*", default=[1, 2])
    add("--encodings", nargs="*", default=list(ENCODINGS), choices=list(ENCODINGS))
    add("--rounds", type=int, default=2, help="of each case; the least CPU time counts")
    add("--folder", type=Path, help="where the data sets stay for the next time; else removed")
    add("--json", type=Path, help="write the results here as well")
    options = parser.parse_args()
    options.height, options.width = map(int, options.image_size.split("x"))
    return options


def make(root: Path, encoding: str, options: argparse.Namespace) -> None:
    """The same episodes as v2.1 and v3.0, unless they are there."""
    contract = spec.Spec(
        features=(
            spec.Feature(name="cam", role="image", shape=(HEIGHT, WIDTH, 3), dtype="uint8"),
            spec.Feature(name="state", role="state", shape=(7,), dtype="float32"),
            spec.Feature(name="action", role="action", shape=(7,), dtype="float32"),
        ),
        fps=FPS,
    )
    for version in ("v21", "v30"):
        path = place(root, encoding, version, options)
        if path.exists():
            continue
        print(f"Making {path} ...", file=sys.stderr)
        with formats.write(path, f"lerobot_{version}", contract, ENCODINGS[encoding]) as writer:
            ids = [f"episode {number}" for number in range(options.episodes)]
            for number, id_ in enumerate(ids):
                if not writer.has(id_):
                    writer.add(episode(contract, id_, number, options.frames))
            writer.finish(ids)


def place(root: Path, encoding: str, version: str, options: argparse.Namespace) -> Path:
    return root / f"{encoding}_{version}_{options.episodes}x{options.frames}"


class Drawn:
    """Pictures drawn one at a time."""

    def __init__(self, number: int, frames: int) -> None:
        self._frames = frames
        self._rng = np.random.default_rng(number)
        texture = np.random.default_rng(99).normal(0, 4, (HEIGHT, WIDTH, 1))
        self._texture = texture.astype(np.float32)

    def __len__(self) -> int:
        return self._frames

    def __getitem__(self, index: int, /) -> np.ndarray:
        raise TypeError("These pictures are drawn one after the other; iterate over them.")

    def __iter__(self) -> Iterator[np.ndarray]:
        rows = np.linspace(0, 1, HEIGHT, dtype=np.float32)[:, None]
        columns = np.linspace(0, 1, WIDTH, dtype=np.float32)[None, :]
        waves = self._rng.uniform(2, 6, (3, 2)).astype(np.float32)
        drift = self._rng.uniform(0.2, 1.0, 3).astype(np.float32)
        for step in range(self._frames):
            second = np.float32(step / FPS)
            planes = [
                128 + 70 * np.sin(6.3 * (w[0] * rows + w[1] * columns + d * second))
                for w, d in zip(waves, drift, strict=True)
            ]
            picture = np.stack(planes, -1)
            row, column = 0.5 + 0.3 * np.sin(second), 0.5 + 0.3 * np.cos(1.3 * second)
            blob = np.exp(-(((rows - row) ** 2) + (columns - column) ** 2) / 0.01)[..., None]
            picture = picture * (1 - blob) + blob * np.array([240, 60, 40], np.float32)
            noise = self._rng.normal(0, 2, (HEIGHT, WIDTH, 1)).astype(np.float32)
            yield np.clip(picture + self._texture + noise, 0, 255).astype(np.uint8)


def episode(contract: spec.Spec, id_: str, number: int, frames: int) -> spec.Episode:
    path = np.random.default_rng(number).normal(size=(frames, 7)).cumsum(0).astype(np.float32)
    return spec.Episode(
        spec=contract,
        id=id_,
        arrays={"state": path, "action": path + 1},
        frames={"cam": Drawn(number, frames)},
        task="follow the blob",
    )


def measure(root: Path, options: argparse.Namespace) -> Iterator[Result]:
    """One round; the bare loop stands beside every case of Deft, as the machine may slow down."""
    for encoding in options.encodings:
        v21, v30 = (place(root, encoding, version, options) for version in ("v21", "v30"))
        for workers in options.workers:
            yield run(encoding, BARE, BARE_CHILD, v21 / "videos", root, workers, options)
            yield run(encoding, "Deft, v2.1", DEFT_CHILD, v21, root, workers, options)
            yield run(encoding, "Deft, v3.0", DEFT_CHILD, v30, root, workers, options)


def run(
    encoding: str,
    name: str,
    child: str,
    source: Path,
    root: Path,
    workers: int,
    options: argparse.Namespace,
) -> Result:
    out = root / "out"
    for leftover in (out, out.with_name("out.partial")):
        shutil.rmtree(leftover, ignore_errors=True)
    for file in source.rglob("*.mp4"):
        file.read_bytes()  # every case finds the videos in the page cache
    print(f"{encoding}, {name}, {workers} workers ...", file=sys.stderr)
    arguments = [str(source), str(out), str(options.height), str(options.width), str(workers)]
    # Started through a second process, whose peak memory is this child's alone.
    command = [sys.executable, "-c", child, *arguments]
    done = subprocess.run(
        [sys.executable, "-c", WATCH, *command], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    pictures, times, peak = done.stdout.split("\n")[:3]
    if int(pictures) != options.episodes * options.frames:
        raise SystemExit(f"{name} has converted {pictures} pictures: its time means nothing.")
    wall, cpu = map(float, times.split())
    shutil.rmtree(out)
    return Result(encoding, name, workers, int(pictures), wall, cpu, int(peak) / 1024)


WATCH = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], check=False)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(done.returncode)
"""


def table(results: list[Result]) -> str:
    bare = {(each.encoding, each.workers): each for each in results if each.name == BARE}
    lines = [
        "| video | | workers | pictures/s | CPU ms per picture | speed against the bare loop | per "
        "core | peak MiB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for each in results:
        base = bare[each.encoding, each.workers]
        lines.append(
            f"| {each.encoding} | {each.name} | {each.workers} | "
            f"{each.pictures / each.wall_s:.0f} | {each.cpu_s / each.pictures * 1e3:.2f} | "
            f"{base.wall_s / each.wall_s:.2f} | {base.cpu_s / each.cpu_s:.2f} | "
            f"{each.peak_mib:.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
