"""A person's own defaults for places, device, trackers and the loader."""

from pathlib import Path

import pytest
import yaml

from deft.cli import places, profile
from deft.cli.main import main
from deft.errors import ConfigError
from suites.demonstrations import write_store


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "profile.yaml"
    path.write_text("")
    monkeypatch.setenv("DEFT_PROFILE", str(path))
    for name in ("DEFT_DATA_DIR", "DEFT_RUNS_DIR"):
        monkeypatch.delenv(name, raising=False)
    return path


def test_without_one_everything_is_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DEFT_PROFILE", raising=False)
    monkeypatch.delenv("DEFT_RUNS_DIR", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert profile.load() == {}
    assert places.runs_dir() == Path("runs")


def test_places_come_from_it_and_the_environment_goes_before(
    mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine.write_text("data_dir: /robots\nruns_dir: ~/runs\n")
    assert places.data_dir() == Path("/robots")
    assert places.runs_dir() == Path.home() / "runs"
    monkeypatch.setenv("DEFT_DATA_DIR", "/elsewhere")
    assert places.data_dir() == Path("/elsewhere")


def shown(words: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, object]]:
    assert main(["train", "data.path=x", *words, "--cfg", "job"]) == 0
    return yaml.safe_load(capsys.readouterr().out)


def test_words_of_the_command_go_before_it(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine.write_text("tracker: wandb\ntracker.tags: [a, 'b c']\ndevice: cpu\ndata: {threads: 7}\n")
    found = shown([], capsys)
    assert (found["device"], found["data"]["threads"]) == ("cpu", 7)
    assert (found["tracker"]["kind"], found["tracker"]["tags"]) == ("wandb", ["a", "b c"])
    found = shown(["tracker=none", "data.threads=2"], capsys)
    assert (found["tracker"]["kind"], found["data"]["threads"]) == ("none", 2)


def test_a_run_that_goes_on_keeps_its_own(mine: Path, tmp_path: Path) -> None:
    data = write_store(tmp_path / "home")
    words = ["train", f"data.path={data}", f"runs_dir={tmp_path}/runs", "session=a", "policy=bc",
             "data.observations=[state]", "debug=true"]  # fmt: skip
    mine.write_text("device: cpu\ntracker.project: one\n")
    assert main(words) == 0
    mine.write_text("device: cuda:9\ntracker.project: two\n")
    assert main([*words, "resume=true"]) == 0
    kept = yaml.safe_load((tmp_path / "runs/custom/bc/a/config.yaml").read_text())
    assert (kept["device"], kept["tracker"]["project"]) == ("cpu", "one")


@pytest.mark.parametrize(
    ("text", "answer"),
    [("devise: cpu", "Did you mean 'device'"), ("optim: {lr: 1}", "cannot be set by a profile"),
     ("- a", "no settings"), ("a: [", "cannot be read")],
)  # fmt: skip
def test_mistakes_are_answered(mine: Path, text: str, answer: str) -> None:
    mine.write_text(text)
    with pytest.raises(ConfigError, match=answer):
        profile.load()


def test_a_profile_that_is_named_must_be_there(mine: Path) -> None:
    mine.unlink()
    with pytest.raises(ConfigError, match="DEFT_PROFILE"):
        profile.load()
