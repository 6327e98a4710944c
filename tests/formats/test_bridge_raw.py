"""The tree that BridgeData's recorder leaves, with everything that is wrong in some of it."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deft import formats, transforms
from deft.errors import FormatError
from deft.formats import Recording
from deft.transforms import BinarizeGripper, RelabelActions
from suites.bridge_trees import DATED, OLD, hold, recorded, write_trajectory
from suites.formats import FormatChecks, complaint, repeatable
from suites.recordings import HEIGHT, WIDTH, demonstration, jpeg


class TestBridgeRaw(FormatChecks):
    format = "bridge_raw"
    cameras = ("image_0",)
    picture_error = 4.0

    @classmethod
    def write(cls, folder: Path) -> Path:
        for number, length in enumerate(cls.lengths):
            group = folder / DATED / "raw" / f"traj_group{number // 2}"
            write_trajectory(group / f"traj{number}", number, length, protocol=2 + number)
        return folder

    def test_every_episode_holds_what_was_recorded(self, recording: Recording) -> None:
        for number, info in enumerate(recording.episodes):
            episode, made = recording.read(number), recorded(number, info.length)
            assert info.id == f"{DATED}/traj_group{number // 2}/traj{number}"
            assert episode.task == "put the carrot on the plate"
            np.testing.assert_array_equal(episode.arrays["state"], made["state"])
            np.testing.assert_array_equal(episode.arrays["action"], made["action"])
            pictures = np.stack(list(episode.frames["image_0"]))
            assert np.abs(pictures.astype(float) - made["image"]).mean() < self.picture_error
            assert episode.valid is not None
            assert episode.valid.tolist() == [True] * (info.length - 1) + [False]
            np.testing.assert_allclose(
                episode.arrays["time_stamp"], 0.2 * np.arange(info.length), atol=1e-6
            )

    def test_the_contract_is_that_of_the_robot(self, recording: Recording) -> None:
        assert recording.spec.embodiment == "widowx"
        assert recording.spec.fps == 5
        assert recording.spec.names == ("action", "state", "image_0", "qpos", "time_stamp")
        image = recording.spec["image_0"]
        assert (image.height, image.width) == (HEIGHT, WIDTH)

    def test_jpegs_are_handed_out_as_they_are(self, recording: Recording, path: Path) -> None:
        frames: Any = recording.read(0).frames["image_0"]
        file = path / DATED / "raw/traj_group0/traj0/images0/im_3.jpg"
        assert frames.encoded(3) == file.read_bytes()

    def test_any_part_of_the_tree_may_be_opened(self, path: Path) -> None:
        parts = [DATED.split("/")[:depth] for depth in range(6)] + [[*DATED.split("/"), "raw"]]
        for part in parts:
            assert len(formats.open(path.joinpath(*part)).episodes) == 3
        one = formats.open(path / DATED / "raw/traj_group0/traj1")
        assert [(info.id, info.length) for info in one.episodes] == [("traj1", 4)]


def write_one(folder: Path, length: int = 5, number: int = 0, **options: Any) -> Path:
    name = f"raw/traj_group0/traj{number}"
    return write_trajectory(folder / DATED / name, number, length, **options)


def findings(recording: Recording) -> dict[str, str]:
    """What is said of each episode, by the name of its folder."""
    return {each.episode.rsplit("/", 1)[-1]: each.what for each in recording.problems}


def test_folders_at_different_depths_are_one_recording(tmp_path: Path) -> None:
    for place in (DATED, OLD, "scripted/x/2022-06-07_01-02-03"):
        write_trajectory(tmp_path / place / "raw/traj_group0/traj0", len(place), 5)
    (tmp_path / DATED / "config.json").write_text("{}")
    write_trajectory(tmp_path / "icra/lmdb/raw/traj_group0/traj0", 9, 5)
    ids = [info.id for info in formats.open(tmp_path).episodes]
    assert ids == [
        f"{OLD}/traj_group0/traj0",
        f"{DATED}/traj_group0/traj0",
        "scripted/x/2022-06-07_01-02-03/traj_group0/traj0",
    ]


def test_trajectories_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (10, 9, 1):
        write_one(tmp_path, number=number)
    names = [info.id.rsplit("/", 1)[-1] for info in formats.open(tmp_path).episodes]
    assert names == ["traj1", "traj9", "traj10"]


@pytest.mark.parametrize("shift", [True, False])
def test_old_episodes_lose_their_first_frame(tmp_path: Path, shift: bool) -> None:
    write_trajectory(tmp_path / OLD / "raw/traj_group0/traj0", 0, 6)
    recording = formats.open(tmp_path, options={"latency_shift": shift})
    episode, made = recording.read(0), demonstration(0, 6)
    drop = int(shift)
    assert len(episode) == recording.episodes[0].length == 6 - drop
    np.testing.assert_array_equal(episode.arrays["state"], made["state"][drop:])
    wanted = hold(made["action"][: 5 - drop]).astype(np.float32)
    np.testing.assert_array_equal(episode.arrays["action"], wanted)
    first = episode.frames["image_0"][0].astype(float)
    assert np.abs(first - made["image"][drop]).mean() < 4
    assert any("before 2021-07-23" in each.what for each in recording.problems) is shift


def test_relabelled_motion_does_not_depend_on_the_shift(tmp_path: Path) -> None:
    """Pictures and state move together: only the gripper is given to another step."""
    rng = np.random.default_rng(0)
    actions, state = rng.normal(size=(6, 7)), np.cumsum(rng.normal(size=(7, 7)) / 9, 0)
    actions[:, 6] = [1, 0.7, 0.3, 0, 0, 1]
    folder = tmp_path / OLD / "raw/traj_group0/traj0"
    write_trajectory(folder, 0, 7, actions=list(actions), changes={"full_state": state})
    chain = [BinarizeGripper(), RelabelActions(angles=())]
    found: dict[bool, np.ndarray] = {}
    for shift in (True, False):
        recording = formats.open(tmp_path, options={"latency_shift": shift})
        changed = transforms.apply(chain, recording.read(0))
        found[shift] = changed.arrays["action"][changed.valid]
    motion = np.diff(state.astype(np.float32)[:, :6], axis=0)
    np.testing.assert_allclose(found[False][:, :6], motion, atol=1e-6)
    np.testing.assert_allclose(found[True][:, :6], motion[1:], atol=1e-6)
    assert found[False][:, 6].tolist() == [1, 0, 0, 0, 0, 1]
    # The last action is dropped before grippers are decided, as upstream does it.
    assert found[True][:, 6].tolist() == [1, 0, 0, 0, 0]


def test_the_day_of_the_change_is_not_shifted(tmp_path: Path) -> None:
    for number, date in enumerate(("2021-07-22_23-59-59", "2021-07-23_00-00-00")):
        write_trajectory(tmp_path / f"a/{date}/raw/traj_group0/traj{number}", number, 6)
    assert [info.length for info in formats.open(tmp_path).episodes] == [5, 6]


def test_a_folder_without_a_date_is_reported(tmp_path: Path) -> None:
    write_trajectory(tmp_path / "traj_group0/traj0", 0, 6)
    recording = formats.open(tmp_path)
    assert recording.episodes[0].length == 6
    assert any("no folder with a date" in each.what for each in recording.problems)


def test_several_cameras_and_depth_are_kept(tmp_path: Path) -> None:
    write_one(tmp_path, cameras=("images0", "images1", "images10", "depth_images0"))
    recording = formats.open(tmp_path)
    assert recording.spec.names[2:6] == ("image_0", "image_1", "image_10", "depth_0")
    assert recording.spec["depth_0"].describe() == (
        "depth height 32, width 48, 1 channels uint16 [mm]"
    )
    depth = np.stack(list(recording.read(0).frames["depth_0"]))
    wanted = demonstration(0, 5)["image"][..., :1].astype(np.uint16) * 200
    np.testing.assert_array_equal(depth, wanted)


def test_cameras_that_some_episodes_lack(tmp_path: Path) -> None:
    write_one(tmp_path, number=0, cameras=("images0", "images1"))
    write_one(tmp_path, number=1)
    recording = formats.open(tmp_path)
    assert "image_1" not in recording.spec
    assert any("'image_1' is in 1 of 2 episodes" in each.what for each in recording.problems)
    recording = formats.open(tmp_path, options={"cameras": ["image_1"]})
    assert [feature.name for feature in recording.spec.role("image")] == ["image_1"]
    assert [info.id[-5:] for info in recording.episodes] == ["traj0"]
    assert findings(recording)["traj1"] == "the camera 'image_1' is missing"
    with pytest.raises(FormatError, match="no camera 'image_7'"):
        formats.open(tmp_path, options={"cameras": ["image_7"]})


def test_instructions(tmp_path: Path) -> None:
    said = ["  first ", "confidence: 1", "", "second"]
    for number, lines in enumerate((said, ["confidence: 0"], None)):
        write_one(tmp_path, number=number, language=lines)
    recording = formats.open(tmp_path)
    assert [info.task for info in recording.episodes] == ["first", "", ""]
    said = " ".join(each.what for each in recording.problems)
    assert "2 of 3 episodes have no instruction" in said
    assert "1 of 3 episodes have several instructions" in said
    assert [info.instructions for info in recording.episodes] == [("first", "second"), (), ()]
    recording = formats.open(tmp_path, options={"language": "all"})
    assert recording.episodes[0].task == "first\nsecond"


def test_actions_without_dictionaries_and_7_numbers(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    actions, state = list(rng.normal(size=(4, 7))), rng.normal(size=(5, 7))
    write_one(tmp_path, actions=actions, changes={"full_state": list(state)})
    recording = formats.open(tmp_path)
    episode = recording.read(0)
    np.testing.assert_array_equal(episode.arrays["action"][:4], np.array(actions, np.float32))
    assert recording.spec["action"].names[0] == "dx"
    assert recording.spec["state"].names[-1] == "gripper"
    assert recording.spec["state"].frame == "base"
    last = episode.arrays["action"][4]
    assert last.tolist() == [0, 0, 0, 0, 0, 0, np.float32(actions[3][6])]


def test_surplus_at_the_end_is_not_used_and_reported(tmp_path: Path) -> None:
    folder = write_one(tmp_path, changes={"full_state": np.zeros((7, 3))})
    (folder / "images0/im_5.jpg").write_bytes(jpeg(demonstration(0, 6)["image"][5]))
    recording = formats.open(tmp_path)
    assert recording.episodes[0].length == 5
    assert findings(recording)["traj0"] == "6 pictures, 7 states, for 4 actions"
    assert len(recording.read(0)) == 5


def test_saliency_maps_are_kept(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    maps = rng.random((5, 1, 24, 30)).astype(np.float32)
    for number, count in enumerate((5, 4)):
        folder = write_one(tmp_path, number=number)
        (folder / "saliency_map.pkl").write_bytes(pickle.dumps(maps[:count]))
    recording = formats.open(tmp_path)
    assert recording.spec["saliency"].describe() == (
        "saliency height 24, width 30, 1 channels float32"
    )
    held = np.stack(list(recording.read(0).frames["saliency"]))
    np.testing.assert_array_equal(held, maps.reshape(5, 24, 30, 1))
    held = np.stack(list(recording.read(1).frames["saliency"]))
    np.testing.assert_array_equal(held[:4], maps[:4].reshape(4, 24, 30, 1))
    assert not held[4].any()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("picture missing", "im_2.jpg is missing"),
        ("picture cut short", "im_2.jpg: the picture cannot be decoded"),
        ("picture empty", "im_2.jpg: is empty"),
        ("no pictures", "there are no pictures"),
        ("second camera short", "images1: im_4.jpg is missing"),
        ("states short", "one frame more than actions"),
        ("actions long", "one frame more than actions"),
        ("no state", "there is no 'full_state'"),
        ("not a number", "'state' is not finite"),
        ("no policy", "policy_out.pkl: cannot be read"),
        ("evil", "it asks for posix.system"),
        ("rows differ", "the rows differ in shape"),
        ("no actions", "step 1 has no 'actions'"),
        ("one frame", "is too short"),
        ("other size", "'image_0' is image height 16, width 16"),
        ("other width", "'action' is action 5 float32"),
        ("header", "a JPEG whose header is damaged"),
        ("language", "lang.txt: is no UTF-8"),
    ],
)
def test_what_cannot_be_used_is_left_out_by_name(tmp_path: Path, change: str, said: str) -> None:
    for number in (1, 2):
        write_one(tmp_path, number=number, cameras=("images0", "images1"))
    options: dict[str, Any] = {"cameras": ("images0", "images1")}
    if change == "no pictures":
        options["cameras"] = ("depth_images0",)
    elif change == "states short":
        options["changes"] = {"full_state": np.zeros((4, 3))}
    elif change == "actions long":
        options["actions"] = list(np.zeros((5, 2)))
    elif change == "not a number":
        options["changes"] = {"full_state": np.full((5, 3), np.nan)}
    elif change == "rows differ":
        options["actions"] = [np.zeros(2), np.zeros(3), np.zeros(2), np.zeros(2)]
    elif change == "no actions":
        options["actions"] = [{"actions": np.zeros(2)}] + [{"action": np.zeros(2)}] * 3
    elif change == "one frame":
        options |= {"length": 1, "actions": np.zeros((0, 2))}
    elif change == "other size":
        options["picture"] = lambda pixels: jpeg(pixels[:16, :16])
    elif change == "other width":
        options["actions"] = list(np.zeros((4, 5)))
    folder = write_one(tmp_path, **options)
    if change == "picture missing":
        (folder / "images0/im_2.jpg").unlink()
    elif change == "picture cut short":
        file = folder / "images1/im_2.jpg"
        file.write_bytes(file.read_bytes()[:-300])
    elif change == "picture empty":
        (folder / "images1/im_2.jpg").write_bytes(b"")
    elif change == "second camera short":
        (folder / "images1/im_4.jpg").unlink()
    elif change == "no state":
        (folder / "obs_dict.pkl").write_bytes(pickle.dumps({"state": np.zeros((5, 3))}))
    elif change == "no policy":
        (folder / "policy_out.pkl").unlink()
    elif change == "evil":
        evil = pickle.dumps({"full_state": __import__("os").system})
        (folder / "obs_dict.pkl").write_bytes(evil)
    elif change == "header":
        (folder / "images0/im_0.jpg").write_bytes(b"\xff\xd8\xff\xe0 and nothing more")
    elif change == "language":
        (folder / "lang.txt").write_bytes(b"put \xff")
    recording = formats.open(tmp_path)
    assert len(recording.episodes) == 2
    assert said in findings(recording)["traj0"]
    assert next(p for p in recording.problems if p.episode).severity == "error"


def test_a_picture_that_is_damaged_inside_is_named_when_it_is_read(tmp_path: Path) -> None:
    folder = write_one(tmp_path)
    file = folder / "images0/im_3.jpg"
    file.write_bytes(file.read_bytes()[:300] + b"\xff\xd9")
    frames = formats.open(tmp_path).read(0).frames["image_0"]
    assert frames[2].any()
    with pytest.raises(FormatError, match=r"images0, step 3.*(?s:.)*leave this episode out"):
        frames[3]


def test_bytes_behind_a_picture_do_no_harm(tmp_path: Path) -> None:
    folder = write_one(tmp_path)
    file = folder / "images0/im_3.jpg"
    file.write_bytes(file.read_bytes() + bytes(500))
    recording = formats.open(tmp_path)
    assert recording.problems == ()
    assert recording.read(0).frames["image_0"][3].any()


def test_a_pickle_that_changes_after_opening_is_named(tmp_path: Path) -> None:
    folder = write_one(tmp_path)
    recording = formats.open(tmp_path)
    (folder / "obs_dict.pkl").write_bytes(pickle.dumps({"full_state": np.zeros((5, 3))}))
    with pytest.raises(FormatError, match="changed since it was opened"):
        recording.read(0)


def test_no_usable_trajectory_at_all(tmp_path: Path) -> None:
    folder = write_one(tmp_path)
    (folder / "obs_dict.pkl").write_bytes(b"")
    with pytest.raises(FormatError, match=rf"{tmp_path}: there is no usable episode"):
        formats.open(tmp_path)


def test_a_table_that_is_laid_out_in_two_ways_is_left_out(tmp_path: Path) -> None:
    write_one(tmp_path, number=0)
    write_one(tmp_path, number=1, changes={"qpos": np.zeros((5, 7))})
    recording = formats.open(tmp_path)
    assert "qpos" not in recording.spec
    assert len(recording.episodes) == 2


@settings(repeatable, max_examples=40)
@given(st.data())
def test_a_damaged_pickle_gives_an_episode_or_a_clear_finding(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("tree")
    file = write_one(folder, length=3) / data.draw(st.sampled_from(["obs_dict", "policy_out"]))
    file = file.with_suffix(".pkl")
    content = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    file.write_bytes(content)

    def read_all() -> None:
        recording = formats.open(folder)
        for number in range(len(recording.episodes)):
            recording.read(number)

    said = complaint(read_all)
    assert said == "" or str(folder) in said
