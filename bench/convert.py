"""BridgeData's raw tree into a store, next to a straightforward script with PIL and numpy.

    OMP_NUM_THREADS=1 python bench/convert.py

Both read the same made-up tree (`bridge_tree.py`): 640x480 JPEG of 60 to 100 kB. The script
(`plain_convert.py`) opens one picture after the other and writes `out.npy`; Deft writes a store
with JPEG at the new size. Each case runs in a process of its own. CPU seconds are those of the
whole process tree. Memory is given twice, each at its highest moment: its proportional set size,
which counts its share of libraries and of files that are mapped (memory that the kernel can take
back), and what is anonymous, which it cannot.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from bridge_tree import make_tree, repeat_tree

HERE = Path(__file__).parent
FILTERS = {
    "Deft": "auto",
    "Deft, JPEG decoded whole (`area`)": "area",
    "Deft, `lanczos`": "lanczos",
}
SCRIPT = "PIL and numpy, a file at a time"
CHILD = """
import sys
from deft import formats, store
source, target, height, width, filter_, workers = sys.argv[1:]
config = store.WriteConfig(
    image_height=int(height), image_width=int(width), resize_filter=filter_)
converted = []
report = store.write(target, formats.open(source), config, workers=int(workers),
                     progress=lambda now: converted.append(now.frames))
assert not report.left_out, report.left_out
print(max(converted))  # pictures that this process has encoded itself
"""


@dataclass
class Result:
    """One case."""

    name: str
    workers: int
    episodes: int
    pictures: int
    wall_s: float
    cpu_s: float
    peak_mib: float
    """Proportional set size."""
    anonymous_mib: float


def main() -> None:
    options = parse()
    root = options.folder or Path(tempfile.mkdtemp(prefix="deft-bench-"))
    tree = root / f"raw_{options.trajectories}x{options.frames}"
    print(f"Making {options.trajectories} trajectories in {tree} ...", file=sys.stderr)
    make_tree(tree, options.trajectories, options.frames)
    results = list(measure(tree, root, options))
    if options.flat:
        results += flat(tree, root, options)
    print(table(results))
    print(pixels(tree, options.height, options.width))
    print(machine(tree))
    if options.json:
        options.json.write_text(json.dumps([asdict(each) for each in results], indent=1))
    if options.folder is None:
        shutil.rmtree(root)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--trajectories", type=int, default=200)
    add("--frames", type=int, default=40, help="transitions of each; there is one picture more")
    add("--image-size", default="128x128", metavar="HxW", help="height x width; squares only")
    add("--workers", type=int, nargs="*", default=[1, 2])
    add("--rounds", type=int, default=1, help="of each case; the least CPU time counts")
    add("--flat", type=int, nargs="*", default=[50, 500], help="trajectories for peak memory")
    add("--skip", nargs="*", default=[], choices=["script", "auto", "area", "lanczos"])
    add("--folder", type=Path, help="where the tree stays for the next time; else it is removed")
    add("--json", type=Path, help="write the results here as well")
    options = parser.parse_args()
    options.height, options.width = map(int, options.image_size.split("x"))
    if options.height != options.width:
        parser.error("BridgeData's script knows squares only")
    return options


def measure(tree: Path, root: Path, options: argparse.Namespace) -> Iterator[Result]:
    """All cases, round by round, so that a busy moment does not fall on one of them."""
    best: dict[tuple[str, int], Result] = {}
    for _ in range(options.rounds):
        for workers in options.workers:
            if "script" not in options.skip:
                keep(best, run_script(tree, root, options, workers))
            for name, filter_ in FILTERS.items():
                if filter_ not in options.skip:
                    keep(best, run_deft(name, tree, root, options, filter_, workers))
    yield from best.values()


def keep(best: dict[tuple[str, int], Result], result: Result) -> None:
    key = (result.name, result.workers)
    if key not in best or result.cpu_s < best[key].cpu_s:
        best[key] = result


def flat(tree: Path, root: Path, options: argparse.Namespace) -> Iterator[Result]:
    """The same trajectories again and again, as links: only memory is of interest."""
    for count in options.flat:
        more = root / f"links_{count}x{options.frames}"
        repeat_tree(tree, more, count)
        for workers in options.workers:
            name = f"Deft, {count} trajectories"
            yield run_deft(name, more, root, options, "auto", workers)


def run_script(tree: Path, root: Path, options: argparse.Namespace, workers: int) -> Result:
    out = root / "script"
    command = [sys.executable, str(HERE / "plain_convert.py"), str(tree), str(out)]
    command += ["--im-size", str(options.height), "--workers", str(workers)]
    return run(SCRIPT, command, tree, out, workers)


def run_deft(
    name: str, tree: Path, root: Path, options: argparse.Namespace, filter_: str, workers: int
) -> Result:
    out = root / "store"
    sizes = [str(options.height), str(options.width)]
    command = [sys.executable, "-c", CHILD, str(tree), str(out), *sizes, filter_, str(workers)]
    return run(name, command, tree, out, workers)


def run(name: str, command: list[str], tree: Path, out: Path, workers: int) -> Result:
    """One process tree, watched until it ends; what it wrote is removed."""
    # A conversion that was stopped waits beside its target, and would be gone on with.
    for leftover in (out, out.with_name(out.name + ".partial")):
        shutil.rmtree(leftover, ignore_errors=True)
    episodes = sum(1 for _ in tree.rglob("obs_dict.pkl"))
    pictures = sum(1 for _ in tree.rglob("im_*.jpg"))
    warm(tree)
    print(f"{name}, {workers} workers ...", file=sys.stderr)
    began, before = time.monotonic(), os.times()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peak = np.zeros(2)
    while process.poll() is None:
        peak = np.maximum(peak, memory_mib(process.pid))
        time.sleep(0.05)
    wall, after = time.monotonic() - began, os.times()
    if process.returncode:
        raise SystemExit(f"{name} ended with status {process.returncode}.")
    assert process.stdout is not None
    done, wanted = int(process.stdout.read()), episodes if name == SCRIPT else pictures
    if done != wanted:
        raise SystemExit(f"{name} has converted {done} of {wanted}: its time means nothing.")
    shutil.rmtree(out)
    cpu = after.children_user + after.children_system
    cpu -= before.children_user + before.children_system
    load = os.getloadavg()[0]
    print(f"  {cpu / pictures * 1e3:.2f} CPU ms per picture, load {load:.1f}", file=sys.stderr)
    return Result(name, workers, episodes, pictures, wall, cpu, *peak.tolist())


def warm(tree: Path) -> None:
    """Every case finds the pictures in the page cache, as far as they fit."""
    for path in tree.rglob("im_*.jpg"):
        path.read_bytes()


def memory_mib(pid: int) -> np.ndarray:
    """Memory of a process and of all below it: proportional set size, and what is anonymous."""
    found = np.zeros(2)
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            for place, word in enumerate(("Pss:", "Pss_Anon:")):
                if line.startswith(word):
                    found[place] = int(line.split()[1]) / 1024
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += memory_mib(int(child))
    except OSError:
        pass  # it has just ended
    return found


def table(results: list[Result]) -> str:
    bases = {each.workers: each for each in results if each.name == SCRIPT}
    lines = [
        "| | workers | episodes/s | pictures/s | CPU ms per picture | against the script, per core"
        " | peak MiB | anonymous MiB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for each in results:
        cost, base = each.cpu_s / each.pictures, bases.get(each.workers)
        ratio = f"{base.cpu_s / base.pictures / cost:.2f}" if base else "-"
        lines.append(
            f"| {each.name} | {each.workers} | {each.episodes / each.wall_s:.1f} | "
            f"{each.pictures / each.wall_s:.0f} | {cost * 1e3:.2f} | {ratio} | "
            f"{each.peak_mib:.0f} | {each.anonymous_mib:.0f} |"
        )
    return "\n".join(lines)


def pixels(tree: Path, height: int, width: int) -> str:
    """How far the ways of resizing lie apart, over 40 pictures, before JPEG."""
    from PIL import Image

    from deft.formats.pictures import EncodedFrames
    from deft.transforms import resize

    files = sorted(tree.rglob("im_*.jpg"))
    files = files[:: max(1, len(files) // 40)][:40]
    frames = EncodedFrames([file.read_bytes() for file in files], (480, 640, 3), "uint8", "bench")
    found = frames.reduced(height, width)
    smaller = found[1] if found else frames
    ways: dict[str, list[np.ndarray]] = {"auto": [], "area": [], "lanczos": [], "script": []}
    for step, file in enumerate(files):
        whole = frames[step]
        ways["auto"].append(resize(smaller[step], height, width, "squash", "area"))
        ways["area"].append(resize(whole, height, width, "squash", "area"))
        ways["lanczos"].append(resize(whole, height, width, "squash", "lanczos"))
        image = Image.open(file).resize((width, height), Image.Resampling.LANCZOS)
        ways["script"].append(np.asarray(image))
    lines = [
        "| pictures | mean difference, of 255 | largest | PSNR, dB |",
        "| --- | --- | --- | --- |",
    ]
    for one, other in (
        ("auto", "area"),
        ("auto", "script"),
        ("area", "script"),
        ("lanczos", "script"),
    ):
        error = np.stack(ways[one]).astype(float) - np.stack(ways[other])
        square = float((error**2).mean())
        psnr = f"{10 * np.log10(255**2 / square):.1f}" if square else "equal"
        lines.append(
            f"| {one} - {other} | {np.abs(error).mean():.2f} | {np.abs(error).max():.0f} | {psnr} |"
        )
    scale = f"JPEG decoded at 1/{found[0]}" if found else "JPEG decoded whole: the size is too near"
    return "\n".join(["", *lines, "", f"auto: {scale}."])


def machine(tree: Path) -> str:
    files = list(tree.rglob("im_*.jpg"))[:500]
    size = sum(file.stat().st_size for file in files) / len(files) / 1e3
    return (
        f"{size:.0f} kB per picture; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the "
        f"end, {platform.machine()}, Python {platform.python_version()}."
    )


if __name__ == "__main__":
    main()
