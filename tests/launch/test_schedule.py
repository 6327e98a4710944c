"""Sweeps of small made-up trainings: ends of every kind, and going on after them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from deft import launch
from deft.errors import ConfigError, DeftError
from deft.launch import book as books
from deft.launch import child

TRAINING = """
import json, os, signal, sys, time
from pathlib import Path
folder, words = Path(sys.argv[1]), dict(w.split("=", 1) for w in sys.argv[2:])
signal.signal(signal.SIGTERM, lambda *a: sys.exit(143))
time.sleep(float(words.get("late", 0)))
folder.mkdir(parents=True, exist_ok=True)
(folder / "config.yaml").write_text("train:\\n  steps: 4\\n  epochs: null\\nval:\\n  steps: 9\\n")
done = len(list((folder / "checkpoints").glob("step_*")))
print("begins at", done, flush=True)
for step in range(done + 1, 5):
    time.sleep(float(words.get("pause", 0)))
    with (folder / "metrics.jsonl").open("a") as file:
        values = {"step": step, "train/loss": int(words["seed"]) / step}
        file.write(json.dumps(values) + chr(10))
    (folder / "checkpoints" / f"step_{step:010d}").mkdir(parents=True)
    if words.get("ends") == "badly" and step == 2:
        sys.exit("it broke: " + os.environ.get("WORD", "?"))
    if words.get("ends") == "early":
        sys.exit(3)
    if words.get("ends") == "nowhere" and step == 2:
        os.rmdir(folder / "checkpoints" / f"step_{step:010d}")
        sys.exit(3)
"""


def fake(run: launch.Run, has_gpus: bool) -> list[str]:
    return [sys.executable, "-c", TRAINING, run.folder, *run.words]


class Bench:
    """A sweep's folder, its plan and what was reported."""

    def __init__(self, tmp_path: Path, **tree: object) -> None:
        self.config = launch.config(tree)
        self.book = launch.Book(tmp_path / "sweep")
        self.runs = launch.runs(self.config, "sweep", tmp_path / "runs")
        self.changes: list[tuple[str, str]] = []
        self.open()

    def open(self) -> None:
        self.book.open(self.runs, Path.cwd(), {"metrics": list(self.config.metrics)})

    def sweep(
        self, slots: int = 2, *, retry: bool = False, on_tick: Callable[[], None] = lambda: None
    ) -> launch.Sweep:
        return launch.Sweep(
            self.config, self.book, self.runs, launch.Local([], slots), retry=retry, command=fake,
            on_change=lambda name, state: self.changes.append((name, state)), on_tick=on_tick,
        )  # fmt: skip

    def states(self) -> dict[str, str]:
        return {row.name: row.state for row in launch.rows(self.book)}


def until(claim: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_failed_run_stops_no_other_and_says_why(tmp_path: Path) -> None:
    bench = Bench(
        tmp_path,
        env={"WORD": "outer"},
        runs=[{"seed": 1, "name": "a"}, {"seed": 2, "name": "b", "ends": "badly",
                                          "env": {"WORD": "inner"}}, {"seed": 3, "name": "c"}],
    )  # fmt: skip
    bench.sweep().work()
    assert bench.states() == {"a": "done", "b": "failed", "c": "done"}
    rows = {row.name: row for row in launch.rows(bench.book)}
    assert rows["b"].last_lines[-1] == "it broke: inner"
    assert (rows["a"].step, rows["a"].steps, rows["a"].loss) == (4, 4, 0.25)
    assert bench.changes.count(("b", "failed")) == 1

    # What failed is tried again only on request, and then goes on.
    bench.sweep().work()
    assert bench.book.order("b").attempt == 1  # type: ignore[union-attr]
    bench.sweep(retry=True).work()
    assert bench.states() == {"a": "done", "b": "done", "c": "done"}
    assert "begins at 2" in bench.book.log("b").read_text()


def test_slots_are_never_exceeded(tmp_path: Path) -> None:
    bench = Bench(tmp_path, matrix={"seed": [1, 2, 3, 4, 5]}, defaults={"pause": 0.02})
    seen: list[int] = []
    sweep = bench.sweep(2, on_tick=lambda: seen.append(len(sweep.running)))
    sweep.work()
    assert max(seen) <= 2
    assert set(bench.states().values()) == {"done"}


def test_a_recording_is_converted_by_one_run_while_the_others_of_it_wait(tmp_path: Path) -> None:
    runs = [{"seed": seed, "name": f"{path}{seed}", "data.path": path, "late": 0.6}
            for path in ("a", "b") for seed in (1, 2)]  # fmt: skip
    bench = Bench(tmp_path, runs=runs)
    bench.sweep(4).work()
    assert set(bench.states().values()) == {"done"}
    began = {name: bench.book.order(name).began for name in bench.states()}  # type: ignore[union-attr]
    for path in ("a", "b"):
        settled = (Path(bench.runs[0].folder).parent / f"{path}1" / "config.yaml").stat().st_mtime
        assert began[f"{path}2"] > settled
    assert began["b1"] < began["a2"]


def test_a_run_out_of_time_goes_on_as_long_as_it_gets_further(tmp_path: Path) -> None:
    bench = Bench(
        tmp_path,
        runs=[{"seed": 1, "name": "a", "ends": "early"}, {"seed": 1, "name": "b",
                                                          "ends": "nowhere"}],
    )  # fmt: skip
    bench.sweep().work()
    rows = {row.name: row for row in launch.rows(bench.book)}
    assert (rows["a"].state, rows["a"].step, rows["a"].attempt) == ("done", 4, 5)
    assert (rows["b"].state, rows["b"].attempt) == ("stopped", 2)


SWEEP = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from test_schedule import Bench
bench = Bench(Path(sys.argv[1]), matrix={"seed": [1, 2, 3]}, defaults={"pause": 0.5})
bench.sweep().work()
"""


def start_sweep(tmp_path: Path) -> "subprocess.Popen[bytes]":
    here = Path(__file__).parent
    return subprocess.Popen(
        [sys.executable, "-c", SWEEP, str(tmp_path), str(here), str(here.parent)],
        start_new_session=True,
    )


def bench_of(tmp_path: Path) -> Bench:
    return Bench(tmp_path, matrix={"seed": [1, 2, 3]}, defaults={"pause": 0.5})


def test_a_killed_sweep_leaves_its_runs_at_work_and_takes_them_over(tmp_path: Path) -> None:
    process = start_sweep(tmp_path)
    metrics = tmp_path / "runs/custom/flow/seed_1/metrics.jsonl"
    until(metrics.exists)
    process.kill()
    process.wait()
    bench = bench_of(tmp_path)
    assert bench.states()["seed_1"] == "running"
    bench.sweep().work()
    assert set(bench.states().values()) == {"done"}
    assert [row.attempt for row in launch.rows(bench.book)] == [1, 1, 1]


def test_after_everything_was_killed_each_run_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    process = start_sweep(tmp_path)
    until((tmp_path / "runs/custom/flow/seed_2/metrics.jsonl").exists)
    process.kill()
    process.wait()
    bench = bench_of(tmp_path)
    for name in ("seed_1", "seed_2"):
        order = bench.book.order(name)
        assert order is not None
        os.killpg(int(Path(order.lock).read_text()), signal.SIGKILL)
        until(lambda order=order: not books.is_held(Path(order.lock)))
    assert bench.states() == {"seed_1": "interrupted", "seed_2": "interrupted", "seed_3": "waiting"}
    bench.sweep().work()
    assert set(bench.states().values()) == {"done"}
    printed = bench.book.log("seed_2").read_text().splitlines()
    assert sum(line.startswith("begins at") for line in printed) == 2
    rows = (tmp_path / "runs/custom/flow/seed_2/metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == [1, 2, 3, 4]


def test_a_watcher_that_is_killed_is_no_end_of_its_training(tmp_path: Path) -> None:
    bench = Bench(tmp_path, matrix={"seed": [1]}, defaults={"pause": 0.4})
    killed: list[int] = []

    def kill_the_watcher() -> None:
        order = bench.book.order("seed_1")
        if not killed and order and (tmp_path / "runs/custom/flow/seed_1/metrics.jsonl").exists():
            killed.append(int(Path(order.lock).read_text()))
            os.kill(killed[0], signal.SIGKILL)

    bench.sweep(on_tick=kill_the_watcher).work()
    assert killed
    assert bench.states() == {"seed_1": "done"}
    rows = (tmp_path / "runs/custom/flow/seed_1/metrics.jsonl").read_text().splitlines()
    assert len(rows) == 4  # never two at once


def test_stopping_asks_every_run_to_save(tmp_path: Path) -> None:
    bench = Bench(tmp_path, matrix={"seed": [1, 2, 3]}, defaults={"pause": 0.3})

    def stop() -> None:
        if all((Path(run.folder) / "metrics.jsonl").exists() for run in bench.runs[:2]):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.sweep(on_tick=stop).work()
    assert bench.states() == {"seed_1": "stopped", "seed_2": "stopped", "seed_3": "waiting"}
    bench.sweep().work()
    assert set(bench.states().values()) == {"done"}


def test_two_sweeps_at_once_are_refused(tmp_path: Path) -> None:
    bench = Bench(tmp_path, matrix={"seed": [1]})
    with bench.book.at_work():
        assert bench.book.worker() == os.getpid()
        code = "import sys; from pathlib import Path; from deft import launch\n"
        code += "with launch.Book(Path(sys.argv[1])).at_work(): pass"
        done = subprocess.run(
            [sys.executable, "-c", code, str(bench.book.folder)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert "at work already" in done.stderr
    assert bench.book.worker() is None


def test_a_changed_plan_is_taken_only_for_what_is_not_begun(tmp_path: Path) -> None:
    bench = Bench(tmp_path, matrix={"seed": [1]})
    bench.sweep().work()
    bench.runs = [*bench.runs, replace(bench.runs[0], name="new", folder=str(tmp_path / "new"))]
    bench.open()
    assert bench.states() == {"seed_1": "done", "new": "waiting"}
    bench.runs = [replace(bench.runs[0], words=("seed=9",))]
    with pytest.raises(ConfigError, match="other settings"):
        bench.open()


def test_a_session_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "runs/custom/flow/seed_1"
    folder.mkdir(parents=True)
    (folder / "config.yaml").touch()
    with pytest.raises(ConfigError, match="exists already"):
        Bench(tmp_path, matrix={"seed": [1]})


def test_a_command_that_is_not_there_fails_with_its_reason(tmp_path: Path) -> None:
    bench = Bench(tmp_path, matrix={"seed": [1]})
    order = bench.book.give(bench.runs[0], ["/no/such/program"], {})
    assert child.main(str(order.path)) == 127
    assert bench.states() == {"seed_1": "failed"}
    assert "/no/such/program" in bench.book.tail("seed_1", 3)[-1]


def test_gpus_are_shared_out(tmp_path: Path) -> None:
    one, two, three = launch.runs(
        launch.config({"runs": [{"seed": 1}, {"seed": 2, "gpus_per_run": 2}, {"seed": 3}]}),
        "s", tmp_path,
    )  # fmt: skip
    engine = launch.Local([0, 2, 5], 1)
    assert engine.environment(one) == {"CUDA_VISIBLE_DEVICES": "0"}
    assert engine.environment(two) == {"CUDA_VISIBLE_DEVICES": "2,5"}
    assert not engine.has_room(three)
    engine.release(one.name)
    assert engine.environment(three) == {"CUDA_VISIBLE_DEVICES": "0"}
    with pytest.raises(DeftError, match="wants 2 GPUs"):
        launch.Local([0], 1).has_room(two)
    assert launch.Local([], 2).environment(one)["CUDA_VISIBLE_DEVICES"] == ""
    words = launch.train_command(two, has_gpus=True)
    assert words[1:5] == ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    assert words[5:8] == ["-m", "deft", "train"]
    assert "torch.distributed.run" not in launch.train_command(two, has_gpus=False)


def test_gpus_are_found_without_torch() -> None:
    assert launch.find_gpus({"CUDA_VISIBLE_DEVICES": "1,3"}) == [1, 3]
    assert launch.find_gpus({"CUDA_VISIBLE_DEVICES": ""}) == []


def test_wheels_come_before_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cudnn", "cublas"):
        (tmp_path / "nvidia" / name / "lib").mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setattr("site.getsitepackages", list)
    found = launch.libraries("pip", {"LD_LIBRARY_PATH": "/usr/local/cuda/lib64"})
    expected = [f"{tmp_path}/nvidia/{name}/lib" for name in ("cublas", "cudnn")]
    assert found["LD_LIBRARY_PATH"].split(":") == [*expected, "/usr/local/cuda/lib64"]
    assert launch.libraries("system", {"LD_LIBRARY_PATH": "/x"}) == {}


def test_groups_are_means_over_seeds_of_what_is_done() -> None:
    def row(policy: str, seed: int, state: str, loss: float) -> launch.Row:
        labels = {"policy": policy, "seed": str(seed)}
        return launch.Row(name=f"{policy}{seed}", state=state, labels=labels, values={"l": loss})

    rows = [row("bc", 1, "done", 1.0), row("bc", 2, "done", 3.0), row("bc", 3, "failed", 99.0),
            row("flow", 1, "done", 5.0)]  # fmt: skip
    bc, flow = launch.groups(rows, ["l", "absent"])
    assert (bc.label, bc.count, bc.wanted, bc.mean) == ("policy=bc", 2, 3, 2.0)
    assert bc.high - bc.mean == pytest.approx(1.959964)
    assert (flow.label, flow.mean, flow.low, flow.high) == ("policy=flow", 5.0, 5.0, 5.0)
