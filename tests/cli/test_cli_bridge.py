"""BridgeData's six policies as a user trains and measures them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deft import store
from deft.cli.main import main
from suites.demonstrations import write_store
from suites.recordings import rlds_features, rlds_values, tensor_entry, write_rlds

SIX = ("bc", "gc_bc", "lc_bc", "gc_ddpm_bc", "gc_iql", "contrastive_rl")
FORMS = ("rlds", "bridge_numpy", "bridge_tfrecord")
CLIPS, LENGTH, VECTOR = 6, 5, 4

SMALL = (
    "task=bridge",
    "policy.encoder.image=cnn",
    "policy.encoder.cnn_channels=8",
    "train.steps=2",
    "train.batch_size=4",
    "train.log_freq=1",
    "val.offline_freq=0",
    "device=cpu",
)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An RLDS folder as BridgeData's, whose `val` holds the episodes of `train`."""
    features = rlds_features()
    step = features["featuresDict"]["features"]["steps"]["sequence"]["feature"]["featuresDict"]
    seen = step["features"]["observation"]["featuresDict"]["features"]
    del seen["wrist"]
    step["features"]["language_embedding"] = tensor_entry(VECTOR)
    clips = [_values(number) for number in range(CLIPS)]
    path = tmp_path_factory.mktemp("sample") / "bridge"
    return write_rlds(path, {"train": clips, "val": clips}, features)


def _values(number: int) -> dict[str, Any]:
    made = rlds_values(number, LENGTH)
    del made["steps/observation/wrist"]
    text = made["steps/language_instruction"][0]
    vector = np.random.default_rng(len(text)).normal(size=VECTOR).astype(np.float32)
    return made | {"steps/language_embedding": np.tile(vector, (LENGTH, 1))}


@pytest.fixture(scope="module")
def forms(sample: Path) -> dict[str, Path]:
    return _converted(sample, sample.parent)


def _converted(recording: Path, folder: Path) -> dict[str, Path]:
    """The recording, and what `deft convert` makes of it for the older code bases."""
    for form in FORMS[1:]:
        assert main(["convert", str(recording), str(folder / form), "--to", form]) == 0
    return {"rlds": recording, **{form: folder / form for form in FORMS[1:]}}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where runs and converted data go."""
    monkeypatch.setenv("DEFT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("DEFT_RUNS_DIR", str(tmp_path / "runs"))
    return tmp_path


def train(policy: str, data: Path, *words: str) -> int:
    narrow = {"bc": "policy.width=16", "gc_ddpm_bc": "policy.width=16"}
    size = narrow.get(policy, "policy.head.hidden=[16]")
    given = (f"policy={policy}", f"data.path={data}", size, "session=a")
    return main(["train", *SMALL, *given, *words])


def run_of(home: Path, policy: str) -> Path:
    return home / "runs" / "bridge" / policy / "a"


def evaluated(
    run: Path, data: Path, capsys: pytest.CaptureFixture[str], *words: str
) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["eval", str(run), f"data.path={data}", "device=cpu", "--json", *words]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("policy", "form"),
    # Every policy and every form; all of them together are tried on the real sample.
    [
        *((policy, "rlds") for policy in SIX),
        *zip(SIX, (*FORMS[1:], *FORMS[:0:-1], *FORMS[1:]), strict=True),
    ],
)
def test_one_command_trains_from_every_form_of_the_recording(
    forms: dict[str, Path], home: Path, policy: str, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    held = ("data.include=[train-*]", "val.split=2")
    assert train(policy, forms[form], *held) == 0
    found = evaluated(run_of(home, policy), forms[form], capsys)
    assert (found["split"], found["episodes"]) == ("val", 2)
    assert np.isfinite(found["methods"]["policy"]["normalised_mae"])


def test_measured_are_the_episodes_that_the_run_held_out(
    sample: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("data.include=[train-*]", "val.split=2", "val.split_seed=3")
    assert train("gc_bc", sample, *words) == 0
    run = run_of(home, "gc_bc")
    seen = evaluated(run, sample, capsys, "data.split=train")
    unseen = evaluated(run, sample, capsys)
    assert (seen["episodes"], unseen["episodes"]) == (CLIPS - 2, 2)
    # The conversion, named by its own path, is the same data.
    (kept,) = (home / "data" / "stores").iterdir()
    again = evaluated(run, kept, capsys)
    assert again["methods"] == unseen["methods"]
    assert all(id_.startswith("train-") for id_ in store.open(kept).episodes.ids)


def test_data_that_a_run_has_not_seen_keeps_its_own_split(
    sample: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = home / "other"
    assert main(["convert", str(sample), str(other), "--to", "store"]) == 0
    assert train("gc_bc", sample, "data.include=[train-*]", "val.split=2") == 0
    assert evaluated(run_of(home, "gc_bc"), other, capsys)["episodes"] == CLIPS


def test_a_run_from_several_stores_says_what_is_measured(
    sample: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [home / name for name in ("one", "two")]
    for path in paths:
        assert main(["convert", str(sample), str(path), "--to", "store"]) == 0
    both = f"[{paths[0]},{paths[1]}]"
    assert train("gc_bc", Path(both), "val.split=2") == 0
    capsys.readouterr()
    words = ["eval", str(run_of(home, "gc_bc")), f"data.path={paths[0]}", "device=cpu", "--json"]
    assert main(words) == 0
    assert "val.split=2" in capsys.readouterr().err


def test_a_broken_run_and_a_recording_without_a_run_are_told(
    sample: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("gc_bc", sample) == 0
    run = run_of(home, "gc_bc")
    bundle = home / "alone"
    assert main(["export", str(run), str(bundle)]) == 0
    assert main(["eval", str(bundle), f"data.path={sample}", "device=cpu"]) == 1
    assert "no store" in capsys.readouterr().err
    for text in ("data: [", "a: 1"):
        (run / "config.yaml").write_text(text)
        assert main(["eval", str(run), f"data.path={sample}", "device=cpu"]) == 2
        assert "`logs` folder" in capsys.readouterr().err


REFUSED = {
    "chunks for a critic": (
        "gc_iql",
        ["policy.pred_horizon=4", "policy.action_horizon=4"],
        "a critic judges single actions",
    ),
    "chunks for a contrast": (
        "contrastive_rl",
        ["policy.pred_horizon=2"],
        "set policy.pred_horizon=1",
    ),
    "no other goal": ("contrastive_rl", ["train.batch_size=1"], "2 rows or more"),
    "no other goal in a piece": (
        "gc_iql",
        ["train.grad_accum_steps=4"],
        "2 rows or more",
    ),
    "goals of something else": ("gc_bc", ["policy.goals=[image_1]"], "Did you mean 'image_0'"),
    "goals of nothing": ("gc_bc", ["policy.goals=[]"], "nothing to take a goal of"),
    "words for a goal policy": (
        "gc_bc",
        ["policy.encoder.image=resnetv1-18-bridge-film"],
        "set encoder.image=resnetv1-18-bridge",
    ),
    "squashed deviations": ("gc_bc", ["policy.head.tanh=true"], "policy.normalize.action=bounds"),
    "normalised pictures": ("gc_bc", ["policy.normalize.image_0=bounds"], "pictures are always"),
    "maps that are not there": ("gc_bc", ["policy.saliency.enabled=true"], "--saliency auto"),
    "an episode that is not there": ("gc_bc", ["data.include=[trian-*]"], "no episode fits"),
    "everybody held out": ("gc_bc", ["val.split=99"], "99 episodes to hold out"),
}


@pytest.mark.parametrize(("policy", "words", "answer"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_trained_is_told_at_the_start(
    sample: Path,
    home: Path,
    capsys: pytest.CaptureFixture[str],
    policy: str,
    words: list[str],
    answer: str,
) -> None:
    assert train(policy, sample, *words) in (1, 2)
    told = capsys.readouterr().err
    assert answer in told
    assert "Fix:" in told
    assert not list(run_of(home, policy).glob("checkpoints/step_*"))


def test_single_rows_are_no_matter_without_negatives(sample: Path, home: Path) -> None:
    assert train("gc_iql", sample, "policy.negatives=0", "train.batch_size=1") == 0


def test_squashed_actions_train_within_bounds(sample: Path, home: Path) -> None:
    words = ("policy.head.tanh=true", "policy.normalize.action=bounds")
    assert train("gc_bc", sample, *words) == 0


def test_without_instructions_the_goal_policy_is_named(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("lc_bc", write_store(home / "mute"), "data.observations=[image]") in (1, 2)
    assert "policy=gc_bc" in capsys.readouterr().err
    assert not list(run_of(home, "lc_bc").glob("checkpoints/step_*"))


@pytest.mark.data
@pytest.mark.parametrize("form", FORMS)
def test_the_real_sample_trains_all_six(
    real_data: Path,
    home: Path,
    capsys: pytest.CaptureFixture[str],
    tmp_path_factory: pytest.TempPathFactory,
    form: str,
) -> None:
    forms = _converted(real_data / "bridge_rlds_sample" / "1.0.0", tmp_path_factory.mktemp("forms"))
    for policy in SIX:
        assert train(policy, forms[form], "data.include=[train-*]", "val.split=5") == 0
        found = evaluated(run_of(home, policy), forms[form], capsys, "data.max_windows=16")
        assert found["episodes"] == 5
        assert np.isfinite(found["methods"]["policy"]["normalised_mae"])
    assert len(list((home / "data" / "stores").iterdir())) == 1
