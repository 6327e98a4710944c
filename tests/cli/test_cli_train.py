"""`deft train` as a user types it."""

from pathlib import Path

import pytest
import yaml

from deft import store, train
from deft.cli.main import main
from suites.demonstrations import SPEC, episode, write_store
from suites.recordings import write_lerobot


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_store(tmp_path_factory.mktemp("data") / "home")


SMALL = [
    "data.observations=[state]",
    "policy.width=16",
    "policy.depth=1",
    "train.steps=4",
    "train.batch_size=4",
    "train.save_freq=2",
    "val.offline_freq=2",
    "device=cpu",
]


def run(runs: Path, data: Path, *words: str) -> int:
    return main(["train", f"data.path={data}", f"runs_dir={runs}", *SMALL, *words])


def test_a_run_leaves_all_that_is_needed_to_repeat_it(data: Path, tmp_path: Path) -> None:
    assert run(tmp_path, data, "policy=bc", "session=a", "seed=3") == 0
    folder = tmp_path / "custom" / "bc" / "a"
    written = yaml.safe_load((folder / "config.yaml").read_text())
    assert (written["seed"], written["policy"]["family"]) == (3, "bc")
    assert train.steps(folder)[-1] == 4
    again = ["train", "--config", str(folder / "config.yaml"), "session=b", f"runs_dir={tmp_path}"]
    assert main(again) == 0
    metrics = [train.read_metrics(folder.with_name(s) / "metrics.jsonl") for s in ("a", "b")]
    keys = ("train/loss", "val/loss")
    assert [[m.get(k) for k in keys] for m in metrics[0]] == [
        [m.get(k) for k in keys] for m in metrics[1]
    ]


def test_an_existing_session_is_refused_and_resumed(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, data, "session=a") == 0
    assert run(tmp_path, data, "session=a") == 2
    assert "resume=true" in capsys.readouterr().err
    # The run's own settings hold; only what may change does.
    short = ["train", "session=a", "resume=true", "train.steps=6", f"runs_dir={tmp_path}"]
    assert main(short) == 0
    assert train.steps(tmp_path / "custom" / "flow" / "a")[-1] == 6
    capsys.readouterr()
    assert main([*short, "seed=9"]) == 2
    assert "seed: 0 -> 9" in capsys.readouterr().err


def test_a_run_is_named_by_its_folder_or_its_settings(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, data, "policy=bc", "session=a", "seed=3") == 0
    folder = tmp_path / "custom" / "bc" / "a"
    (tmp_path / "other").mkdir()
    moved = folder.parent.parent.rename(tmp_path / "other" / "custom") / "bc" / "a"
    capsys.readouterr()
    assert main(["train", str(moved), "resume=true", "train.steps=6", "train.save_freq=3"]) == 0
    said = capsys.readouterr().err
    assert "settings changed since the last launch" in said
    assert "train.save_freq: 2 -> 3" in said
    assert train.steps(moved)[-1] == 6
    config = moved / "config.yaml"
    assert main(["train", str(config), "session=b", f"runs_dir={tmp_path}", "seed=4"]) == 0
    again = yaml.safe_load((tmp_path / "custom" / "bc" / "b" / "config.yaml").read_text())
    assert (again["seed"], again["train"]["steps"]) == (4, 6)
    assert main(["train", str(tmp_path), "seed=1"]) == 2
    assert main(["train", str(config), str(moved)]) == 2


def test_a_run_from_before_a_setting_existed_goes_on(data: Path, tmp_path: Path) -> None:
    assert run(tmp_path, data, "policy=bc", "session=a") == 0
    config = tmp_path / "custom" / "bc" / "a" / "config.yaml"
    tree = yaml.safe_load(config.read_text())
    del tree["train"]["precision"], tree["val"]["best"], tree["init_from"]
    config.write_text(yaml.safe_dump(tree))
    assert run(tmp_path, data, "policy=bc", "session=a", "resume=true", "train.steps=6") == 0


def test_a_run_out_of_time_says_so_by_its_exit_code(data: Path, tmp_path: Path) -> None:
    words = ["policy=bc", "session=a", "train.steps=100000", "train.save_freq=100000"]
    assert run(tmp_path, data, *words, "train.max_minutes=0.001") == 3
    folder = tmp_path / "custom" / "bc" / "a"
    [stopped] = train.steps(folder)
    assert 1 <= stopped < 100_000
    assert run(tmp_path, data, *words, "resume=true", f"train.steps={stopped + 2}") == 0
    assert train.steps(folder)[-1] == stopped + 2


def test_a_finished_run_resumed_is_finished(data: Path, tmp_path: Path) -> None:
    assert run(tmp_path, data, "session=a") == 0
    assert run(tmp_path, data, "session=a", "resume=true") == 0
    assert train.steps(tmp_path / "custom" / "flow" / "a")[-1] == 4


def test_every_combination_has_a_session_of_its_own(data: Path, tmp_path: Path) -> None:
    assert run(tmp_path, data, "policy=bc,flow", "seed=1,2", "session=s", "-m") == 0
    found = sorted(str(p.parent.relative_to(tmp_path)) for p in tmp_path.rglob("config.yaml"))
    assert found == [
        "custom/bc/s-seed_1",
        "custom/bc/s-seed_2",
        "custom/flow/s-seed_1",
        "custom/flow/s-seed_2",
    ]


def test_one_bad_combination_does_not_cost_the_others(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["data.observations=[state],[nothing]", "session=s", "-m"]
    assert run(tmp_path, data, *words) == 1
    assert "1 of 2 runs failed" in capsys.readouterr().err
    assert len(list(tmp_path.rglob("last"))) == 1


def test_debug_passes_through_everything_once(data: Path, tmp_path: Path) -> None:
    words = ["train", f"data.path={data}", f"runs_dir={tmp_path}", "session=d", "debug=true"]
    assert main([*words, "device=cpu"]) == 0
    folder = tmp_path / "custom" / "flow" / "d"
    assert train.steps(folder)[-1] == 6
    assert any("val/loss" in row for row in train.read_metrics(folder / "metrics.jsonl"))


def test_settings_can_be_looked_at(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["policy=bc", "task=metaworld", f"data.path={data}", "optim.lr=0.5"]
    assert main(["train", *words, "--cfg", "job"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["optim"]["lr"] == 0.5
    assert shown["data"]["observations"] == ["state"]


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["polcy=bc"], "Did you mean 'policy"),
        (["policy=bcc"], "Did you mean 'bc'"),
        (["task=pust"], "Did you mean 'pusht'"),
        (["train.step=3"], "Did you mean 'train.steps'"),
        (["steps=3"], "Did you mean 'train.steps'"),
        (["train.num_steps=3"], "Here it is train.steps."),
        (["algo=bc"], "Here it is policy."),
        (["eval.episodes=3"], "val.num_episodes"),
        (["training.num_epochs=3"], "Here it is train.epochs."),
        (["n_obs_steps=2"], "Here it is policy.obs_horizon."),
        (["train.batch_size=x"], "train.batch_size"),
        (["train.precision=fp8"], "bf16"),
        (["train.grad_accum_steps=3"], "train.batch_size=3 or 6"),
        (["val.online_freq=2"], "val.env"),
        (["val.best=eval/success"], "val.online_freq"),
        (["init_from=nowhere"], "nowhere"),
        (["train.steps=x"], "wanted a whole number"),
        (["train.steps=0"], "train.steps is 0"),
        (["policy.action_horizon=99"], "action_horizon"),
        (["device=cuda:7"], "cuda:7"),
        (["data.include=[go hoem]"], "go home"),
        (["data.image_size=48x64"], "height 32, width 32"),
        (["data.image_size=48y64"], "HEIGHTxWIDTH"),
        (["data.fps=30"], "10 ticks per second"),
        (["data.path=nowhere"], "There is no data at 'nowhere'"),
    ],
)
def test_wrong_words_are_answered_before_anything_is_written(
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    answer: str,
) -> None:
    assert run(tmp_path, data, "session=x", *words) in (1, 2)
    assert answer in capsys.readouterr().err
    assert not list(tmp_path.rglob("checkpoints"))


def test_include_selects_tasks_of_a_store(tmp_path: Path) -> None:
    config = store.WriteConfig(val_fraction=0.3)
    with store.Writer(tmp_path / "two", SPEC, config, {}) as writer:
        tasks = ["go home", "go away"]
        made = [episode(number, task=tasks[number % 2]) for number in range(12)]
        for each in made:
            writer.add(each)
        writer.finish([each.id for each in made])
    assert run(tmp_path, tmp_path / "two", "session=i", "data.include=[go away]") == 0
    (tmp_path / "tasks.txt").write_text("# those that leave\n\ngo away\n")
    for number, listed in enumerate((f"@{tmp_path}/tasks.txt", f"[@{tmp_path}/tasks.txt]")):
        words = (f"session=l{number}", f"data.include={listed}", "data.exclude=[episode-001]")
        assert run(tmp_path, tmp_path / "two", *words) == 0
        written = yaml.safe_load((tmp_path / f"custom/flow/l{number}/config.yaml").read_text())
        assert written["data"]["include"] == ["go away"]  # the run needs no such file
        assert written["data"]["exclude"] == ["episode-001"]


@pytest.mark.parametrize("text", [None, "# nobody\n"])
def test_a_list_of_tasks_that_names_nothing_is_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None
) -> None:
    if text is not None:
        (tmp_path / "tasks.txt").write_text(text)
    assert run(tmp_path, data, "session=n", f"data.include=@{tmp_path}/tasks.txt") != 0
    said = capsys.readouterr().err
    assert "data.include" in said
    assert "tasks.txt" in said


def test_named_places_come_from_the_environment(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEFT_DATA_DIR", str(data.parent))
    monkeypatch.setenv("DEFT_RUNS_DIR", str(tmp_path / "elsewhere"))
    assert main(["train", "data.path=home", "session=e", *SMALL]) == 0
    folder = tmp_path / "elsewhere" / "custom" / "flow" / "e"
    assert yaml.safe_load((folder / "config.yaml").read_text())["data"]["path"] == str(data)


def test_options_of_a_recordings_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEFT_DATA_DIR", str(tmp_path / "data"))
    robot = write_lerobot(tmp_path / "robot", (12, 12, 12))
    words = [
        f"data.path={robot}",
        'data.options.map=["observation.state=pose"]',
        "data.observations=[pose]",
        "policy.pred_horizon=2",
        "policy.action_horizon=1",
        "debug=true",
        f"runs_dir={tmp_path}/runs",
        "session=a",
        "device=cpu",
    ]
    assert main(["train", "policy=bc", *words]) == 0
    (made,) = (tmp_path / "data/stores").iterdir()
    assert "pose" in store.open(made).spec
