"""Sources seen otherwise, and several as one."""

from dataclasses import replace

import numpy as np
import pytest

from deft import transforms
from deft.errors import ConfigError, SpecError
from deft.spec import Episode, Feature, Problem, Resized, Source, Spec
from deft.transforms import resize_as
from suites.formats import same
from suites.memory_source import MemorySource
from suites.transforms import POSE, arm_spec


def source(name: str = "one", **changes: object) -> MemorySource:
    spec = Spec(
        features=(
            Feature(name="image", role="image", shape=(24, 32, 3), dtype="uint8"),
            Feature(name="wrist", role="image", shape=(24, 32, 3), dtype="uint8"),
            Feature(name="depth", role="depth", shape=(24, 32, 1), dtype="uint16", unit="mm"),
            Feature(name="state", role="state", shape=(3,), dtype="float32", unit="m"),
            Feature(name="action", role="action", shape=(2,), dtype="float32"),
        ),
        fps=10.0,
    )
    given: dict[str, object] = {"spec": spec, "name": name, "splits": ("train", "val"), **changes}
    return MemorySource(**given)  # pyright: ignore[reportArgumentType]


def check_consistent(view: Source) -> None:
    """What is said about episodes is what they are."""
    for number, info in enumerate(view.episodes):
        episode = view.read(number)
        assert episode.spec == view.spec
        assert (episode.id, len(episode), episode.split) == (info.id, info.length, info.split)


def test_features_get_other_names_or_go() -> None:
    made = source()
    view = transforms.renamed(made, {"image": "cam", "wrist": "", "state": "pose"})
    check_consistent(view)
    assert view.spec.names == ("cam", "depth", "pose", "action")
    mine, theirs = view.read(1), made.read(1)
    np.testing.assert_array_equal(mine.arrays["pose"], theirs.arrays["state"])
    np.testing.assert_array_equal(mine.frames["cam"][0], theirs.frames["image"][0])
    assert view.spec["pose"].unit == "m"
    swapped = transforms.renamed(made, {"image": "wrist", "wrist": "image"})
    np.testing.assert_array_equal(swapped.read(0).frames["wrist"][1], theirs_first(made))
    assert transforms.renamed(made, {}) is made


def theirs_first(made: MemorySource) -> np.ndarray:
    return made.read(0).frames["image"][1]


@pytest.mark.parametrize("names", [{"imag": "x"}, {"image": "wrist"}])
def test_names_that_do_not_work_are_refused(names: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="Fix"):
        transforms.renamed(source(), names)


def test_some_cameras() -> None:
    view = transforms.with_cameras(source(), ["wrist"])
    check_consistent(view)
    assert view.spec.names == ("wrist", "state", "action")
    with pytest.raises(ConfigError, match="Did you mean 'wrist'"):
        transforms.with_cameras(source(), ["wrists"])


@pytest.mark.parametrize("fps", [5.0, 3.0, 10.0, 20.0])
def test_another_tick_rate(fps: float) -> None:
    view = transforms.resampled(source(), fps)
    check_consistent(view)
    assert view.spec.fps == fps
    wanted = transforms.Resample(fps=fps).apply(source().read(1))
    assert same(view.read(1), wanted if fps != 10 else source().read(1))
    with pytest.raises(SpecError, match="does not say"):
        transforms.resampled(source(spec=replace(source().spec, fps=0.0)), 5.0)


def test_another_size_is_recorded_and_done() -> None:
    view = transforms.resized(source(), 8, 8, "pad", "lanczos")
    check_consistent(view)
    cam = view.spec["image"]
    assert cam.resized == (Resized(height=24, width=32, mode="pad", filter="lanczos"),)
    assert view.spec["depth"].resized[0].filter == "nearest"
    wanted = resize_as(cam, source().read(2).frames["image"][3])
    np.testing.assert_array_equal(view.read(2).frames["image"][3], wanted)
    assert list(view.read(2).frames["image"])[3].shape == (8, 8, 3)
    made = source()
    assert transforms.resized(made, 24, 32) is made


def test_other_splits_and_names() -> None:
    made = source()
    view = transforms.with_splits(made, ["", "test", "", "val"])
    check_consistent(view)
    assert [info.split for info in view.episodes] == ["", "test", "", "val"]
    assert transforms.with_name(made, "other").name == "other"
    assert transforms.with_name(made, "one") is made


def test_views_stand_on_views() -> None:
    view = transforms.renamed(transforms.resized(source(), 8, 8), {"image": "cam"})
    view = transforms.with_cameras(transforms.resampled(view, 5.0), ["cam"])
    check_consistent(view)
    assert view.spec["cam"].shape == (8, 8, 3)
    assert len(view.read(0).frames["cam"]) == view.episodes[0].length


def test_changes_are_known_by_their_names() -> None:
    names = ("dx", "dyaw", "gripper", "left.delta_x", "delta.z", "drawer")
    feature = Feature(name="action", role="action", shape=(6,), dtype="float32", names=names)
    assert transforms.is_change(feature) == ["dx", "dyaw", "left.delta_x", "delta.z"]


def test_several_sources_become_one() -> None:
    one = source("one")
    problem = Problem(episode="", what="is odd", effect="kept")
    spec = replace(one.spec, features=one.spec.features[::-1], embodiment="widowx")
    plain = [replace(f, unit="") if f.name == "state" else f for f in one.spec.features]
    other = source("two", spec=spec, lengths=(4, 6), splits=("",))
    other = replace(other, problems=(problem, replace(problem, episode=other.episodes[0].id)))
    first = source("one", spec=replace(one.spec, features=tuple(plain)))
    both = transforms.merged([first, other])
    check_consistent(both)
    assert both.spec == replace(one.spec, embodiment="widowx")
    assert both.name == "one + two"
    assert len(both.episodes) == len(first.episodes) + 2
    assert [each.what for each in both.problems] == ["two: is odd", "is odd"]
    assert both.problems[1].episode == f"two/{other.episodes[0].id}"
    # The made-up ids are alike, so both sets show their names.
    assert both.episodes[0].id == f"one/{first.episodes[0].id}"
    last = both.read(len(both.episodes) - 1)
    assert last.id == f"two/{other.episodes[1].id}"
    np.testing.assert_array_equal(last.arrays["state"], other.read(1).arrays["state"])
    assert transforms.merged([one]) is one


def test_ids_that_differ_stay() -> None:
    one = source("one")
    other = transforms.with_prefix(source("two"), "x")
    both = transforms.merged([one, other])
    assert [info.id for info in both.episodes][: len(one.episodes)] == [i.id for i in one.episodes]
    named_alike = transforms.merged([one, source("one")])
    assert named_alike.episodes[-1].id.startswith("one-2/")


def test_every_difference_is_told_with_its_repair() -> None:
    one = source("one")
    features = [replace(f, name="cam") if f.name == "image" else f for f in one.spec.features]
    features[1] = replace(features[1], shape=(48, 64, 3))
    features.append(replace(features[3], name="spare"))
    other = source("two", spec=Spec(features=tuple(features), fps=5.0, embodiment="franka"))
    first = source("one", spec=replace(one.spec, embodiment="widowx"))
    with pytest.raises(SpecError) as caught:
        transforms.merged([first, other])
    said = str(caught.value)
    assert "5 difference(s)" in said
    for words in ("--map cam=image", "--image-size", "--fps 10", "franka", "spare: is not in one"):
        assert words in said
    silent = source("three", spec=replace(one.spec, fps=0.0))
    with pytest.raises(SpecError, match="only one of the two says its tick rate"):
        transforms.merged([one, silent])


def test_episodes_changed_by_transforms() -> None:
    spec = arm_spec((*(f"d{axis}" for axis in POSE), "gripper"))
    made = MemorySource(lengths=(5, 9), spec=spec)
    made.change = lambda _, episode: arm_episode_like(episode)
    chain = [
        transforms.LatencyShift(),
        transforms.BinarizeGripper(),
        transforms.RelabelActions(angles=()),
        transforms.Resample(fps=2 * spec.fps),
    ]
    view = transforms.changed(made, chain)
    check_consistent(view)
    assert [info.length for info in view.episodes] == [7, 15]
    for number in range(2):
        assert same(view.read(number), transforms.apply(chain, made.read(number)))
    assert transforms.changed(made, []) is made
    with pytest.raises(SpecError, match="depends on the step"):
        transforms.changed(made, [transforms.RelativeActions(linear=("gripper",))])


def arm_episode_like(episode: Episode) -> Episode:
    """Poses that change, for an episode that has none."""
    rng = np.random.default_rng(len(episode))
    arrays = {
        feature.name: rng.random((len(episode), *feature.shape)).astype(feature.dtype)
        for feature in episode.spec.features
        if not feature.is_frame
    }
    return replace(episode, arrays=arrays)
