"""`--engine ray` on a real, local Ray with two worker processes: the same bytes as threads."""

import subprocess
from pathlib import Path

import pytest

from deft.cli.main import main
from suites.bridge_trees import write_trajectory
from suites.peers import ROOT, peer_program

pytestmark = pytest.mark.peer


def files(path: Path) -> dict[str, bytes]:
    found = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return {str(file.relative_to(path)): file.read_bytes() for file in found}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ray") / "raw"
    for number in range(7):
        place = folder / f"task/0{number % 2}/2022-03-04_10-11-1{number}/raw/traj_group0/traj0"
        write_trajectory(place, number, 12)
        if number == 3:  # found out when it is decoded
            broken = place / "images0/im_5.jpg"
            data = bytearray(broken.read_bytes())
            data[20:40] = bytes(20)
            broken.write_bytes(bytes(data))
    return folder


@pytest.mark.parametrize("to", ["store", "bridge_tfrecord", "bridge_numpy"])
def test_ray_gives_the_same_bytes(raw: Path, tmp_path: Path, to: str) -> None:
    python = peer_program("ray")
    words = ["--to", to, "--image-size", "16x16", "--train-proportion", "0.5", "--workers", "2"]
    assert main(["convert", str(raw), str(tmp_path / "threads"), *words]) == 0
    done = subprocess.run(
        [python, "-m", "deft", "convert", raw, tmp_path / "ray", *words, "--engine", "ray"],
        capture_output=True,
        text=True,
        timeout=200,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "RAY_DEDUP_LOGS": "0"},
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "left out" in done.stdout
    assert files(tmp_path / "ray") == files(tmp_path / "threads")
    assert not list(tmp_path.glob("*.partial"))
