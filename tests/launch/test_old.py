"""The older launcher's file becomes a sweep, key by key."""

from pathlib import Path

import pytest
import yaml

from deft import launch
from deft.cli.main import main
from deft.errors import ConfigError

OLD = """
global:
  data_root: /data/bridge
  save_dir: /data/runs
  train_batch_size: 64
  val_batch_size: 32
  num_steps: 2000
  eval_interval: 200
  save_interval: 500
  log_interval: 50
  warmup_steps: 100
  eval_batches: 4
  gc_bc_decay_steps: 1500
  cuda_visible_devices: "0,1"
  xla_flags: --xla_gpu_autotune_level=0
  use_pip_cuda_libs: true
  jax_platform_name: gpu
  name_format: "{algo}_{task}"
  extra_args: ["--config.seed", "7", "--config.mystery=1"]
"""


def became(text: str) -> tuple[dict[str, object], dict[str, str]]:
    made, notes = launch.convert(yaml.safe_load(text))
    return made, dict(notes)


def test_a_matrix_keeps_its_meaning() -> None:
    made, notes = became(OLD + "matrix: {algos: [gc_bc, contrastive_rl_td], tasks: [lift, fold]}")
    assert made["defaults"] == {
        "task": "bridge",
        "data.path": "/data/bridge",
        "train.batch_size": 64,
        "val.batch_size": 32,
        "train.steps": 2000,
        "val.offline_freq": 200,
        "train.save_freq": 500,
        "train.log_freq": 50,
        "optim.warmup_steps": 100,
        "val.max_batches": 4,
        "seed": 7,
    }
    assert made["matrix"] == {
        "policy": ["gc_bc", "contrastive_rl"],
        "data.include": [["lift"], ["fold"]],
    }
    assert (made["gpus"], made["gpus_per_run"], made["cuda_libs"]) == ([0, 1], 2, "pip")
    names = [run.name for run in launch.runs(launch.config(made), "s", Path("/r"))]
    assert names == ["gc_bc_lift", "gc_bc_fold", "contrastive_rl_lift", "contrastive_rl_fold"]
    assert notes["global.xla_flags"].startswith("dropped")
    assert notes["global.gc_bc_decay_steps"].startswith("dropped")
    assert notes["global.extra_args --config.mystery=1"].startswith("dropped")
    assert notes["global.num_steps"] == "train.steps=2000"


def test_runs_keep_what_is_their_own() -> None:
    made, notes = became(
        OLD + "runs:\n- {algo: gc_bc, task: lift, name: mine, num_steps: 10, "
        "extra_args: --config.batch_size=8, overrides: {learning_rate: 0.1, odd: 1}}\n"
    )
    assert made["runs"] == [
        {
            "policy": "gc_bc",
            "data.include": ["lift"],
            "name": "mine",
            "train.steps": 10,
            "train.batch_size": 8,
            "optim.lr": 0.1,
            "optim.decay_steps": 1500,
        }
    ]
    assert notes["runs[0].overrides.odd"].startswith("dropped")
    (run,) = launch.runs(launch.config(made), "s", Path("/r"))
    assert (run.name, run.gpus) == ("mine", 2)
    assert "train.steps=10" in run.words


def test_the_cpu_stays_the_cpu() -> None:
    made, _ = became("global: {jax_platform_name: cpu}\nmatrix: {algos: [bc], tasks: [a]}")
    assert made["gpus"] == []
    made, _ = became("global: {bc_decay_steps: 5}\nmatrix: {algos: [bc], tasks: [a]}")
    assert made["defaults"]["optim.decay_steps"] == 5  # type: ignore[index]


def test_the_command_writes_a_file_that_says_what_became_of_each_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = tmp_path / "old.yaml", tmp_path / "experiments.yaml"
    old.write_text(OLD + "matrix: {algos: [bc], tasks: [lift]}")
    assert main(["sweep", "--import-old", str(old), str(new)]) == 0
    assert "global.xla_flags" in capsys.readouterr().out
    assert "# global.num_steps: train.steps=2000" in new.read_text()
    assert len(launch.runs(launch.config(launch.read(new)), "s", tmp_path)) == 1
    assert main(["sweep", "--import-old", str(old), str(new)]) == 2
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["a: 1", "global: 3\nmatrix: {}", "matrix: [1]", "runs: [1]"])
def test_other_files_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="Fix:"):
        became(text)
