"""What a command names: pairs, default names, options of formats, and how a source is seen."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from deft import formats, store, train
from deft.cli.ingest import as_store
from deft.cli.main import main
from deft.cli.sources import SourceRequest, check_renames, default_name, folder_name, parse_pairs
from deft.errors import ConfigError, FormatError
from deft.spec import from_plain, to_plain
from suites.bridge_trees import write_trajectory
from suites.demonstrations import write_store
from suites.recordings import demonstration, replay_files, write_folder, write_lerobot


def request(path: Path, **changes: object) -> SourceRequest:
    given: dict[str, object] = {"path": str(path), "name": "x/y", "options": {}, "renames": {}}
    return SourceRequest(**{**given, **changes})  # pyright: ignore[reportArgumentType]


def test_pairs_are_read() -> None:
    assert parse_pairs(["a=b", " c = d=e ", "f="]) == {"a": "b", "c": "d=e", "f": ""}
    for words in (["a"], ["=b"], ["a=b", "a=c"]):
        with pytest.raises(ConfigError, match="--map"):
            parse_pairs(words, "--map")


@pytest.mark.parametrize(
    ("text", "path", "name"),
    [
        ("pusht.zarr.zip", "/data/lab/pusht.zarr.zip", "lab/pusht.zarr.zip"),
        ("x", "/x", "x"),
        ("hf://owner/name@v1", "/cache/0123", "owner/name"),
    ],
)
def test_the_default_name(text: str, path: str, name: str) -> None:
    assert default_name(text, Path(path)) == name


def test_endings_of_files_are_no_names() -> None:
    assert folder_name("lab/pusht.zarr.zip") == "lab/pusht"
    assert folder_name("lab/v2.1") == "lab/v2.1"


def test_requests_survive_json() -> None:
    made = request(Path("/x"), options={"a": "b"}, renames={"c": ""}, fps=3.0, cameras=("top",))
    assert from_plain(SourceRequest, json.loads(json.dumps(to_plain(made)))) == made
    assert "/x" not in json.dumps(made.origin())


def test_readers_are_told_what_they_know(tmp_path: Path) -> None:
    for number, cameras in enumerate([("images0", "images1"), ("images0",)]):
        place = tmp_path / f"raw/task/00/2022-03-04_10-11-1{number}/raw/traj_group0/traj0"
        write_trajectory(place, number, 5, cameras=cameras)
    # Without the option, a camera that some episodes lack is no camera of the recording.
    assert formats.open(tmp_path / "raw").spec.role("image")[0].name == "image_0"
    asked = request(tmp_path / "raw", cameras=("image_1",))
    source = asked.seen(asked.open())
    assert [feature.name for feature in source.spec.role("image")] == ["image_1"]
    assert len(source.episodes) == 1
    assert source.name == "x/y"


@pytest.mark.parametrize("old", ["observation.state", "state"])
def test_a_rename_may_name_the_files_key_or_our_name(tmp_path: Path, old: str) -> None:
    robot = write_lerobot(tmp_path / "robot", (4, 6, 5))
    asked = request(robot, renames={old: "pose"})
    assert "pose" in asked.seen(asked.open()).spec
    with pytest.raises(ConfigError, match="Did you mean 'state'"):
        check_renames({"stat": "pose"}, set(), [formats.open(robot)])


def test_a_rename_may_be_meant_for_another(tmp_path: Path) -> None:
    robot = write_lerobot(tmp_path / "robot", (4, 6, 5))
    asked = request(robot, renames={"qpos": "pose"}, is_one_of_many=True)
    found = set[str]()
    assert asked.seen(asked.open(found)).spec == formats.open(robot).spec
    assert not found
    with pytest.raises(FormatError, match="no feature 'qpos' to rename"):
        asked.open()


def test_saliency_that_a_source_cannot_have_is_refused(tmp_path: Path) -> None:
    robot = write_lerobot(tmp_path / "robot", (4, 6, 5))
    for kind in ("maps", "boxes", "fixations"):
        with pytest.raises(ConfigError, match=f"--saliency {kind}"):
            request(robot, saliency=kind).open()
    for kind in ("auto", "none"):
        asked = request(robot, saliency=kind)
        assert asked.seen(asked.open()).spec == formats.open(robot).spec


@pytest.mark.parametrize("command", ["inspect", "view"])
def test_other_commands_take_options(
    tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    robot = write_lerobot(tmp_path / "robot", (4, 6, 5))
    out = ["--out", str(tmp_path / "page.html")] if command == "view" else []
    words = [command, str(robot), *out, "--option"]
    assert main([*words, "map=observation.state=pose"]) == 0
    said = capsys.readouterr().out
    assert "pose" in (said if command == "inspect" else (tmp_path / "page.html").read_text())
    assert main([*words, "maps=a=b"]) == 1
    assert "Did you mean 'map'" in capsys.readouterr().err
    home = write_store(tmp_path / "home", episodes=3, length=4)
    assert main([command, str(home), *out, "--option", "a=b"]) == 1


@pytest.fixture
def uncertain(tmp_path: Path) -> Path:
    """A LeRobot set whose columns have names that say nothing."""
    robot = write_lerobot(tmp_path / "robot", (4, 6, 5), "image")
    info = json.loads((robot / "meta/info.json").read_text())
    names = {"action": "leader", "observation.state": "follower"}
    info["features"] = {names.get(key, key): each for key, each in info["features"].items()}
    (robot / "meta/info.json").write_text(json.dumps(info))
    for file in robot.glob("data/*/*.parquet"):
        table = pyarrow.parquet.read_table(file)
        table = table.rename_columns([names.get(key, key) for key in table.column_names])
        pyarrow.parquet.write_table(table, file)
    return robot


MAPS = ["--map", "leader=action", "--map", "follower=state"]


def test_names_that_only_a_person_knows(
    uncertain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(uncertain)]) == 1
    assert "as in `--map follower=action`" in capsys.readouterr().err
    assert main(["inspect", str(uncertain), "--json", *MAPS]) == 0
    features = json.loads(capsys.readouterr().out)["spec"]["features"]
    assert {"action", "state"} <= {each["name"] for each in features if each["role"] != "other"}
    assert main(["inspect", str(uncertain), "--actions", "--json", *MAPS]) == 0
    assert json.loads(capsys.readouterr().out)["groups"][0]["width"] == 2
    page = tmp_path / "page.html"
    assert main(["view", str(uncertain), "--out", str(page), *MAPS]) == 0
    assert "leader" not in page.read_text().partition("Contract")[2]
    assert main(["convert", str(uncertain), str(tmp_path / "made"), *MAPS]) == 0
    made = store.source(store.open(tmp_path / "made"))
    assert made.spec.names == ("state", "action", "top", "reward")
    assert made.read(1).arrays["action"] == pytest.approx(demonstration(1, 6)["action"])


def test_an_uncertain_name_among_several_sources(uncertain: Path, tmp_path: Path) -> None:
    sure = write_lerobot(tmp_path / "sure", (4, 6), "image")
    words = ["convert", str(uncertain), str(sure), str(tmp_path / "made"), *MAPS]
    assert main(words) == 0
    assert len(store.open(tmp_path / "made").episodes) == 5


def test_training_renames_recordings_of_every_format(tmp_path: Path, uncertain: Path) -> None:
    robot = train.DataConfig(path=str(uncertain), options={"map": "leader=action,follower=pose"})
    assert "pose" in store.open(as_store(robot, uncertain)).spec
    home = write_folder(tmp_path / "pusht.zarr", replay_files((5, 4)))
    data = train.DataConfig(path=str(home), fps=10.0, options={"map": ["state=pose"]})
    assert "pose" in store.open(as_store(data, home)).spec


@pytest.mark.parametrize("command", ["inspect", "view", "convert"])
def test_a_rename_of_what_is_not_there_is_refused(command: str, tmp_path: Path) -> None:
    out = {"view": ["--out", str(tmp_path / "p.html")], "convert": [str(tmp_path / "made")]}
    for place in (
        write_lerobot(tmp_path / "robot", (4, 6, 5), "image"),
        write_store(tmp_path / "home", episodes=3, length=4),
    ):
        assert main([command, str(place), *out.get(command, []), "--map", "stat=pose"]) > 0
        assert main([command, str(place), *out.get(command, []), "--map", "stat="]) > 0


def test_names_are_swapped_and_left_out_once(tmp_path: Path) -> None:
    words = ["--map", "state=action", "--map", "action=state"]
    for place in (
        write_lerobot(tmp_path / "robot", (4, 6, 5), "image"),
        write_store(tmp_path / "home", episodes=3, length=4),
    ):
        made = tmp_path / f"{place.name}2"
        assert main(["convert", str(place), str(made), *words]) == 0
        is_store = store.is_store(place)
        original = store.source(store.open(place)) if is_store else formats.open(place)
        got, had = store.source(store.open(made)).read(0), original.read(0)
        assert np.array_equal(got.arrays["action"], had.arrays["state"])
        assert (
            main(["convert", str(place), str(tmp_path / f"{place.name}3"), "--map", "state="]) == 0
        )
        assert "state" not in store.open(tmp_path / f"{place.name}3").spec


def test_cameras_go_by_their_old_names(tmp_path: Path) -> None:
    robot = write_lerobot(tmp_path / "robot", (4, 6, 5), "image")
    asked = request(robot, renames={"top": "front"}, cameras=("top",))
    assert [f.name for f in asked.seen(asked.open()).spec.role("image")] == ["front"]


def test_strict_stops_at_what_the_reader_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(3):
        place = tmp_path / f"raw/task/00/2022-03-04_10-11-1{number}/raw/traj_group0/traj0"
        write_trajectory(place, number, 5)
    picture = tmp_path / "raw/task/00/2022-03-04_10-11-11/raw/traj_group0/traj0/images0/im_3.jpg"
    picture.write_bytes(picture.read_bytes()[:200])
    words = ["convert", str(tmp_path / "raw"), str(tmp_path / "made")]
    assert main([*words, "--strict"]) > 0
    assert "2022-03-04_10-11-11" in capsys.readouterr().err.partition("--strict:")[2]
    assert not (tmp_path / "made").exists()
    assert main(words) == 0
    assert len(store.open(tmp_path / "made").episodes) == 2
    assert main(["inspect", str(tmp_path / "raw")]) == 0
    assert main(["inspect", str(tmp_path / "raw"), "--check"]) == 1
    assert main(["inspect", str(tmp_path / "made"), "--check"]) == 0
