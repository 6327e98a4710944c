"""`deft eval` end to end: where results go, what is printed, and what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deft import bundle, envs, policies, store
from deft.cli.main import main
from deft.envs import Step
from deft.spec import Observation
from suites import demonstrations, tiny


class HomeEnv:
    """The task of `suites.demonstrations`, live: go to the origin."""

    made: list[dict[str, Any]]

    def __init__(self, name: str, observations: tuple[str, ...] | None, **options: Any) -> None:
        HomeEnv.made.append({"name": name, "observations": observations, **options})
        self.spec = demonstrations.SPEC
        self.name, self.task = name, "go home"
        self.max_steps = options["max_steps"] or 6
        self.action_range = (np.full(2, -1, np.float32), np.full(2, 1, np.float32))

    def reset(self, seed: int) -> Observation:
        self.place = np.random.default_rng(seed).uniform(-1, 1, 2)
        return self._observe()

    def step(self, action: np.ndarray) -> Step:
        self.place = self.place + action
        distance = float(np.abs(self.place).max())
        done = distance < 0.7
        return Step(observation=self._observe(), reward=-distance, terminated=done, success=done)

    def render(self) -> np.ndarray:
        return np.full((32, 32, 3), 90, np.uint8)

    def close(self) -> None:
        pass

    def _observe(self) -> Observation:
        return {
            "state": self.place.astype(np.float32),
            "image": np.full((32, 32, 3), 30, np.uint8),
        }


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return demonstrations.write_store(tmp_path_factory.mktemp("eval") / "home")


@pytest.fixture(scope="module")
def policy(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with random weights that fits the store."""
    config = tiny.CONFIGS["bc"]
    opened = store.open(data)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = policies.build(config, policies.contract(config, opened.spec), opened.stats)
    path = tmp_path_factory.mktemp("bundle") / "home_bc"
    ticks = range(made.spec.horizons.obs_horizon if made.spec.horizons else 1)
    demo = demonstrations.episode(0)
    seen: Observation = {
        "state": demo.arrays["state"][list(ticks)],
        "image": np.stack([demo.frames["image"][i] for i in ticks]),
    }
    return bundle.save(path, made, provenance={"made by": "tests"}, golden=[(seen, 1)])


@pytest.fixture
def run(policy: Path, tmp_path: Path) -> Path:
    """The same policy as the checkpoint of a run."""
    folder = tmp_path / "runs" / "home" / "bc" / "a"
    shutil.copytree(policy, folder / "checkpoints" / "step_0000000005")
    (folder / "checkpoints" / "last").symlink_to("step_0000000005")
    return folder


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    HomeEnv.made = []
    monkeypatch.setattr(envs, "make", HomeEnv)
    monkeypatch.chdir(tmp_path)
    return tmp_path


SHORT = ["env=home", "episodes=3", "videos=1", "device=cpu"]


def test_a_bundle_is_measured(policy: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(policy), *SHORT]) == 0
    shown = capsys.readouterr()
    folder = here / "eval-home_bc-home"
    assert "95 % interval" in shown.out
    assert "Only 3 episodes" in shown.out
    assert str(Path("eval-home_bc-home/report.html")) in shown.out
    assert shown.err.count("seed 10000") == 3
    seeds = [json.loads(x)["seed"] for x in (folder / "results.jsonl").read_text().splitlines()]
    assert seeds == [100_000, 100_001, 100_002]
    assert [each.name for each in (folder / "videos").iterdir()] == ["seed-100000.mp4"]
    assert f"deft eval {policy} env=home" in (folder / "report.md").read_text()
    assert HomeEnv.made == [
        {
            "name": "home",
            "observations": ("state", "image"),
            "image_height": 32,
            "image_width": 32,
            "max_steps": None,
        }
    ]


def test_json_is_for_programs(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(policy), "--json", *SHORT, "eval.out=there"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["episodes"] == 3
    assert Path(shown["report"]).exists()
    assert shown == {
        **{k: v for k, v in json.loads(Path("there/summary.json").read_text()).items()
           if k in shown},
        "report": str(Path("there/report.html")),
    }  # fmt: skip


def test_the_command_again_costs_nothing(policy: Path) -> None:
    assert main(["eval", str(policy), *SHORT]) == 0
    before = Path("eval-home_bc-home/results.jsonl").read_bytes()
    assert main(["eval", str(policy), *SHORT]) == 0
    assert len(HomeEnv.made) == 1
    assert Path("eval-home_bc-home/results.jsonl").read_bytes() == before


def test_other_settings_do_not_mix(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(policy), *SHORT]) == 0
    assert main(["eval", str(policy), *SHORT, "max_steps=2"]) == 2
    assert "max_steps: there null, now 2" in capsys.readouterr().err


def test_blind_results_stand_apart(policy: Path) -> None:
    assert main(["eval", str(policy), *SHORT, "blind=true"]) == 0
    summary = json.loads(Path("eval-home_bc-home-blind/summary.json").read_text())
    assert summary["settings"]["blind"] is True


def test_a_run_keeps_its_evaluations(run: Path, data: Path) -> None:
    assert main(["eval", str(run), *SHORT]) == 0
    assert main(["eval", f"{run}@5", f"data.path={data}", "device=cpu"]) == 0
    found = sorted(each.name for each in (run / "eval").iterdir())
    assert found == ["home-step_0000000005", "home-val-step_0000000005"]
    title = (run / "eval" / "home-step_0000000005" / "report.md").read_text().splitlines()[0]
    assert title == "# home/bc/a step\\_0000000005 on home"


def test_held_out_errors(policy: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["eval", str(policy), f"data.path={data}", "device=cpu", "data.max_windows=7"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    for piece in ("7 windows", "policy", "repeat last", "nearest", "offline.html"):
        assert piece in shown
    assert main([*words, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["windows"] == 7
    assert set(result["methods"]) == {"policy", "mean", "repeat last", "nearest"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "Give either `env=`"),
        (["env=home", "data.path=x"], "Both `env=`"),
        (["env=home", "episodes=0"], "at least one episode"),
        (["env=home", "epsiodes=3"], "Did you mean 'episodes'"),
        (["env=home", "action_horizon=99"], "action_horizon is 99"),
        (["data.path=nowhere"], "no data at 'nowhere'"),
        (["env=home", "token_file=nowhere"], None),
    ],
)
def test_wrong_use_says_how_to_repair_it(
    policy: Path, words: list[str], said: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    target = str(policy) if said else "ws://127.0.0.1:9"
    assert main(["eval", target, *words, "device=cpu"]) == 2
    assert (said or "token_file=nowhere") in capsys.readouterr().err


def test_nobody_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "unix:///nowhere/socket", "env=home"]) == 1
    assert "no policy server answers" in capsys.readouterr().err
    assert main(["eval", "nowhere", "env=home"]) == 1
    assert "leads to no bundle" in capsys.readouterr().err
