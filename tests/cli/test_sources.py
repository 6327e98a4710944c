"""What a command names: pairs, default names, options of formats, and how a source is seen."""

import json
from pathlib import Path

import pytest

from deft import formats
from deft.cli.main import main
from deft.cli.sources import SourceRequest, check_renames, default_name, folder_name, parse_pairs
from deft.errors import ConfigError
from deft.spec import from_plain, to_plain
from suites.bridge_trees import write_trajectory
from suites.demonstrations import write_store
from suites.recordings import write_lerobot


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
    opened = asked.open()
    check_renames(asked.renames, [opened])
    assert "pose" in asked.seen(opened).spec
    with pytest.raises(ConfigError, match="Did you mean 'state'"):
        check_renames({"stat": "pose"}, [formats.open(robot)])


def test_a_rename_may_be_meant_for_another(tmp_path: Path) -> None:
    robot = write_lerobot(tmp_path / "robot", (4, 6, 5))
    asked = request(robot, renames={"qpos": "pose"}, is_one_of_many=True)
    assert asked.seen(asked.open()).spec == formats.open(robot).spec


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
