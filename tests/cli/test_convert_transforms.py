"""`deft convert --transform`: episodes are changed as they are converted, and the store says so."""

import json
from pathlib import Path

import numpy as np
import pytest

from deft import formats, store, transforms
from deft.cli.main import main
from deft.cli.sources import parse_transforms
from deft.errors import ConfigError
from suites.bridge_trees import write_trajectory

CHAIN = (transforms.BinarizeGripper(open_above=0.9), transforms.RelabelActions(angles=()))
WORDS = [
    "--transform",
    "binarize_gripper:open_above=0.9",
    "--transform",
    "relabel_actions:angles=[]",
]


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    for number in range(2):
        place = f"raw/task/0{number}/2022-03-04_10-11-12/raw/traj_group0/traj0"
        rng = np.random.default_rng(number)
        state, actions = rng.normal(size=(6, 7)), rng.random((5, 7))
        actions[:, -1] = 1.0, 0.6, 0.0, 0.4, 0.0
        changes = {"full_state": state}
        write_trajectory(tmp_path / place, number, 6, changes=changes, actions=list(actions))
    return tmp_path / "raw"


def test_words_and_files_say_the_same(tmp_path: Path) -> None:
    saved = transforms.save(CHAIN)
    (tmp_path / "chain.json").write_text(json.dumps(saved))
    assert list(parse_transforms(WORDS[1::2])) == saved
    assert list(parse_transforms([str(tmp_path / "chain.json")])) == saved
    (one,) = parse_transforms(["relabel_actions:state=state,angles=roll,pitch"])
    assert one == {"name": "relabel_actions", "state": "state", "angles": ["roll", "pitch"]}


@pytest.mark.parametrize("to", ["store", "bridge_tfrecord"])
def test_episodes_come_out_changed(raw: Path, tmp_path: Path, to: str) -> None:
    words = ["convert", str(raw), str(tmp_path / "out"), "--to", to]
    assert main([*words, *WORDS]) == 0
    wanted = transforms.changed(formats.open(raw), CHAIN)
    plain = formats.open(raw)
    opened = tmp_path / "out"
    found = store.source(store.open(opened)) if to == "store" else formats.open(opened)
    got = sorted(found.read(n).arrays["action"][:-1].tobytes() for n in range(2))
    assert got == sorted(wanted.read(n).arrays["action"][:-1].tobytes() for n in range(2))
    assert got != sorted(plain.read(n).arrays["action"][:-1].tobytes() for n in range(2))


def test_the_store_remembers_and_refuses_others(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["convert", str(raw), str(tmp_path / "out")]
    assert main([*words, *WORDS]) == 0
    (kept,) = store.open(tmp_path / "out").info["provenance"]["sources"]
    assert kept["transforms"] == transforms.save(CHAIN)
    assert main([*words, *WORDS]) == 0
    assert "nothing to do" in capsys.readouterr().err
    assert main(words) == 1, "the store there was made otherwise"


def test_a_shift_makes_episodes_shorter(raw: Path, tmp_path: Path) -> None:
    words = ["convert", str(raw), str(tmp_path / "out"), "--transform", "latency_shift:steps=2"]
    assert main(words) == 0
    lengths = [info.length for info in store.source(store.open(tmp_path / "out")).episodes]
    assert lengths == [4, 4]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("relabel_action", "relabel_actions"),
        ("latency_shift:step=2", "steps"),
        ("latency_shift:steps=two", "steps"),
        ("latency_shift:steps", "KEY=VALUE"),
        ("nowhere.json", "cannot be read"),
    ],
)
def test_what_cannot_be_is_refused(word: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_transforms([word])


def test_a_transform_for_windows_is_refused(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    word = 'relative_actions:linear=["dx"]'
    assert main(["convert", str(raw), str(tmp_path / "out"), "--transform", word]) != 0
    assert "windows" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_arrays_stay_finite(raw: Path, tmp_path: Path) -> None:
    assert main(["convert", str(raw), str(tmp_path / "out"), *WORDS]) == 0
    episode = store.source(store.open(tmp_path / "out")).read(0)
    assert np.isfinite(episode.arrays["action"]).all()
    assert set(np.unique(episode.arrays["action"][:, -1])) <= {0.0, 1.0}
