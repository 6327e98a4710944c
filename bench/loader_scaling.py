"""How the loader scales: with threads, with the size of the store, and over epochs.

    python bench/loader_scaling.py               all tables, a minute or two
    python bench/loader_scaling.py --rounds 1    a quick look

JPEG pictures of 96x96, To=2 observed ticks, batch 64. Throughput is per CPU second of all threads,
which other work on the machine hardly touches, and per second of wall clock. Stores of different
sizes hold the same kind of episodes; rows of a table are measured in turn, `--rounds` times, and
the least CPU time and the least wall time of each are shown. Memory is the process's resident set
after each epoch, its pages of files left out, since those are the page cache's.
"""

import argparse
import tempfile
import time
from pathlib import Path

from loader_step import Made

from deft import spec, store

BATCH = 64
PREFETCH = 3  # the loader's default
HORIZONS = spec.Horizons(obs_horizon=2, pred_horizon=16)


def own_memory_mb() -> float:
    """Resident memory that is no file's, in millions of bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    sizes = {line.split(":")[0]: line.split(":")[1] for line in lines}
    return sum(int(sizes[name].split()[0]) for name in ("RssAnon", "RssShmem")) * 1024 / 1e6


def opened(folder: Path, episodes: int) -> store.Store:
    path = folder / str(episodes)
    if not path.exists():
        config = store.WriteConfig(val_fraction=0.0)
        store.write(path, Made(episodes, 40), config, workers=2)
    return store.open(path)


def running(data: store.Store, threads: int) -> store.Loader:
    """A loader whose ring has been round once."""
    loader = store.batches(data, BATCH, horizons=HORIZONS, threads=threads)
    for _ in range(8):
        next(loader)
    return loader


def spent(loader: store.Loader, batches: int) -> tuple[float, float]:
    """CPU and wall seconds per sample, of batches that come as fast as they are made."""
    for _ in range(PREFETCH + 1):  # empty the ring, so that what is half made counts both times
        next(loader)
    began, wall = time.process_time(), time.perf_counter()
    for _ in range(batches):
        next(loader)
    cpu, wall = time.process_time() - began, time.perf_counter() - wall
    while loader.ready < PREFETCH:  # its threads sleep while others are measured
        time.sleep(0.005)
    return cpu / (batches * BATCH), wall / (batches * BATCH)


def table(rows: dict[str, store.Loader], rounds: int, batches: int, title: str) -> None:
    best: dict[str, tuple[float, float]] = {}
    for _ in range(rounds):
        for name, loader in rows.items():
            cpu, wall = spent(loader, batches)
            before = best.get(name, (cpu, wall))
            best[name] = (min(before[0], cpu), min(before[1], wall))
    first = next(iter(best.values()))
    print(
        f"\n| {title} | samples per CPU-s | against the first | samples/s (wall) | "
        "against the first |\n| --- | --- | --- | --- | --- |"
    )
    for name, (cpu, wall) in best.items():
        cells = (
            f"{1 / cpu:.0f}",
            f"{first[0] / cpu:.2f}",
            f"{1 / wall:.0f}",
            f"{first[1] / wall:.2f}",
        )
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    for loader in rows.values():
        loader.close()


def epochs(data: store.Store, count: int) -> None:
    """Memory after each epoch."""
    size = len(store.Windows(data, HORIZONS, split="train"))
    print(f"\n| epoch of {size} samples | own memory, MB | against the first |")
    print("| --- | --- | --- |")
    first = 0.0
    with running(data, 2) as loader:
        for epoch in range(1, count + 1):
            for _ in range(size // BATCH):
                next(loader)
            now = own_memory_mb()
            first = first or now
            print(f"| {epoch} | {now:.1f} | {now / first:.3f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=4, help="times each row is measured (4)")
    parser.add_argument("--batches", type=int, default=30, help="batches per measurement (30)")
    parser.add_argument("--sizes", default="10,100,1000", help="episodes of the stores")
    args = parser.parse_args()
    sizes = [int(size) for size in args.sizes.split(",")]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stores = {size: opened(folder, size) for size in sizes}
        threads = {f"{n} thread{'s' * (n > 1)}": running(stores[sizes[0]], n) for n in (1, 2)}
        table(threads, args.rounds, args.batches, "threads")
        grown = {f"{size} episodes": running(data, 2) for size, data in stores.items()}
        table(grown, args.rounds, args.batches, "store, 2 threads")
        epochs(stores[sizes[len(sizes) // 2]], 5)


if __name__ == "__main__":
    main()
