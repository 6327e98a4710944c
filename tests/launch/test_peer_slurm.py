"""`launcher: slurm` through the real submitit: its scripts, and its executor on this machine."""

import json
import subprocess
from pathlib import Path

import pytest

from suites.peers import peer_program
from suites.sweeps import peer_environment, write_sweep

pytestmark = pytest.mark.peer

SBATCH = """#!/bin/sh
cp "$1" {folder}/script_$(ls {folder} | wc -l).sh
echo "Submitted batch job 1234$(ls {folder} | wc -l)"
"""


def test_submitit_runs_jobs_on_this_machine(tmp_path: Path) -> None:
    python = peer_program("slurm")
    path = write_sweep(
        tmp_path,
        launcher="slurm",
        slurm={"cluster": "local", "timeout_min": 5},
        runs=[{"policy": "bc", "seed": 1, "name": "good"},
              {"policy": "bc", "name": "bad", "data.observations": ["nothing"]}],
    )  # fmt: skip
    done = subprocess.run(
        [python, "-m", "deft", "sweep", path, "--json"], capture_output=True, text=True,
        timeout=280, env=peer_environment(), cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr[-3000:]
    states = {row["name"]: row["state"] for row in json.loads(done.stdout)["runs"]}
    assert states == {"good": "done", "bad": "failed"}


def test_the_script_for_slurm_asks_for_what_the_sweep_says(tmp_path: Path) -> None:
    python = peer_program("slurm")
    path = write_sweep(tmp_path, matrix={"seed": [1, 2]}, launcher="slurm", gpus=[0],
                       gpus_per_run=2, slurm={"slurm_partition": "big", "mem_gb": 12,
                                              "timeout_min": 90, "cpus_per_task": 6})  # fmt: skip
    tools, scripts = tmp_path / "bin", tmp_path / "scripts"
    tools.mkdir()
    scripts.mkdir()
    for name, text in {"sbatch": SBATCH.format(folder=scripts), "srun": "#!/bin/sh\n",
                       "sacct": "#!/bin/sh\necho 'JobID|State'\n"}.items():  # fmt: skip
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    environment = peer_environment()
    environment["PATH"] = f"{tools}:{environment['PATH']}"
    command = [python, "-m", "deft", "sweep", path]
    for _ in range(2):  # the second one finds the jobs in the queue, and gives no new ones
        with subprocess.Popen(
            command, env=environment, cwd=tmp_path, stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        ) as sweep:  # fmt: skip
            with pytest.raises(subprocess.TimeoutExpired):
                sweep.wait(15)  # nobody ever runs these jobs
            sweep.kill()
            assert sweep.stderr is not None
            said = sweep.stderr.read().decode()
        written = sorted(scripts.glob("*.sh"))
        assert len(written) == 2, said
    text = written[0].read_text()
    for line in ("--partition=big", "--mem=12GB", "--time=90", "--cpus-per-task=6",
                 "--gpus-per-node=2", "--job-name=deft-seed_1"):  # fmt: skip
        assert f"#SBATCH {line}" in text
    folder = tmp_path / "runs" / "sweeps" / "experiments"
    order = json.loads((folder / "orders" / "seed_1.json").read_text())
    assert "torch.distributed.run" in order["command"]
    assert (folder / "orders" / "seed_1.job1").read_text().startswith("1234")
