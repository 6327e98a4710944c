"""Held-out action errors, checked against what can be worked out by hand."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deft import eval as evaluation
from deft import store
from deft.errors import ShapeError, SpecError, StoreError
from deft.spec import ActionChunk, Feature, Horizons, Observation, Spec
from deft.transforms import resize_as, resized_feature
from suites.demonstrations import SPEC, episode, write_store

TP = 4


class Demonstrator:
    """Knows the demonstrations' rule, a fifth of the way home; `share` of it is done."""

    def __init__(self, share: float = 1.0, spec: Spec = SPEC) -> None:
        horizons = Horizons(obs_horizon=2, pred_horizon=TP, action_horizon=3)
        self.spec = replace(spec, horizons=horizons)
        self.share = share
        self.keys: list[int] = []
        self.seen: list[Observation] = []

    def reset(self) -> None:
        pass

    def act(self, observation: Observation) -> ActionChunk:
        place = observation["state"][-1]
        rows = [-0.2 * 0.8**k * self.share * place for k in range(TP)]
        return ActionChunk(np.asarray(rows, np.float32))

    def act_many(
        self, observations: Sequence[Observation], keys: Sequence[int]
    ) -> list[ActionChunk]:
        self.keys += keys
        self.seen += observations
        return [self.act(each) for each in observations]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> store.Store:
    return store.open(write_store(tmp_path_factory.mktemp("offline") / "store"))


def held_out(opened: store.Store) -> list[int]:
    return [i for i, split in enumerate(opened.episodes.split) if split == "val"]


def test_pictures_of_the_recorded_size_are_resized_as_recorded(opened: store.Store) -> None:
    small = resized_feature(SPEC["image"], 8, 16, "crop", "lanczos")
    actor = Demonstrator(spec=replace(SPEC, features=(SPEC["state"], small, SPEC["action"])))
    assert evaluation.offline(actor, opened, max_windows=2).methods["policy"].mae.max() < 1e-6
    episode_ = store.source(opened).read(held_out(opened)[0])
    first = resize_as(small, episode_.frames["image"][0])
    np.testing.assert_array_equal(actor.seen[0]["image"], [first, first])


def test_a_perfect_actor_has_no_error(opened: store.Store) -> None:
    result = evaluation.offline(Demonstrator(), opened)
    assert list(result.methods) == ["policy", "mean", "repeat last", "nearest"]
    policy = result.methods["policy"]
    assert policy.normalised_mae < 1e-5
    assert policy.mae.max() < 1e-6
    for name in ("mean", "repeat last", "nearest"):
        assert result.methods[name].normalised_mae > 0.01
    assert result.names == ("x", "y")
    assert result.unit == "m"


def test_only_rows_inside_the_episode_count(opened: store.Store) -> None:
    result = evaluation.offline(Demonstrator(), opened)
    count = len(held_out(opened))
    assert (result.windows, result.episodes) == (12 * count, count)
    assert result.rows == count * sum(min(TP, 12 - step) for step in range(12))


def test_errors_are_what_they_should_be(opened: store.Store) -> None:
    result = evaluation.offline(Demonstrator(share=0.5), opened)
    actions = [episode(i).arrays["action"].astype(np.float64) for i in held_out(opened)]
    rows = np.concatenate([a[s : s + TP] for a in actions for s in range(12)])
    policy = result.methods["policy"]
    np.testing.assert_allclose(policy.mae, np.abs(0.5 * rows).mean(0), rtol=1e-4)
    np.testing.assert_allclose(policy.mse, np.square(0.5 * rows).mean(0), rtol=1e-4)
    std = opened.stats["action"].std
    assert policy.normalised_mae == pytest.approx((np.abs(0.5 * rows) / std).mean(), rel=1e-4)
    assert policy.normalised_mse == pytest.approx(np.square(0.5 * rows / std).mean(), rel=1e-4)
    mean = result.methods["mean"]
    expected = np.abs(rows - opened.stats["action"].mean).mean(0)
    np.testing.assert_allclose(mean.mae, expected, rtol=1e-5)
    for k in range(TP):
        ahead = np.concatenate([a[k:] for a in actions])
        want = (np.abs(0.5 * ahead) / std).mean()
        assert policy.normalised_mae_ahead[k] == pytest.approx(want, rel=1e-4)
    assert policy.low is not None
    assert policy.high is not None
    assert policy.low <= policy.normalised_mae <= policy.high


def test_repeat_last_holds_the_action_before(opened: store.Store) -> None:
    result = evaluation.offline(Demonstrator(), opened)
    mean = opened.stats["action"].mean
    errors = []
    for i in held_out(opened):
        actions = episode(i).arrays["action"].astype(np.float64)
        for step in range(12):
            last = actions[step - 1] if step else mean
            errors += [np.abs(row - last) for row in actions[step : step + TP]]
    np.testing.assert_allclose(result.methods["repeat last"].mae, np.mean(errors, 0), rtol=1e-5)


def test_the_nearest_neighbour_of_a_training_step_is_itself(opened: store.Store) -> None:
    result = evaluation.offline(Demonstrator(), opened, split="train")
    assert result.methods["nearest"].mae.max() < 1e-7
    assert "trained on" in result.notes[0]


def test_windows_are_spread_and_repeatable(opened: store.Store) -> None:
    first, second = Demonstrator(), Demonstrator()
    told: list[tuple[int, int]] = []
    one = evaluation.offline(
        first, opened, max_windows=5, progress=lambda done, total: told.append((done, total))
    )
    two = evaluation.offline(second, opened, max_windows=5)
    assert one.to_json() == two.to_json()
    assert first.keys == second.keys
    assert one.windows == 5
    assert told == [(5, 5)]
    starts = opened.episodes.start[held_out(opened)]
    assert first.keys[0] == starts[0]  # the key is the row of the store that is now
    assert first.keys[4] == starts[-1] + 11


def test_the_actor_sees_history_and_pictures(opened: store.Store) -> None:
    actor = Demonstrator()
    evaluation.offline(actor, opened, max_windows=3)
    for key, seen in zip(actor.keys[:3], actor.seen[:3], strict=True):
        number, step = opened.episodes.at(key)
        demo = episode(number)
        before = max(step - 1, 0)
        np.testing.assert_array_equal(seen["state"], demo.arrays["state"][[before, step]])
        assert seen["image"].shape == (2, 32, 32, 3)
        difference = np.abs(seen["image"][-1].astype(int) - demo.frames["image"][step])
        assert difference.mean() < 8  # JPEG


def test_the_trace_follows_one_episode(opened: store.Store) -> None:
    trace = evaluation.offline(Demonstrator(share=0.5), opened).trace
    demo = episode(int(trace.episode[-3:]))
    np.testing.assert_array_equal(trace.recorded, demo.arrays["action"])
    assert trace.every == 3
    np.testing.assert_allclose(trace.predicted, 0.5 * trace.recorded, atol=1e-6)


def test_language_is_the_task(opened: store.Store) -> None:
    text = Feature(name="language", role="language", shape=(), dtype="str")
    actor = Demonstrator(spec=replace(SPEC, features=(*SPEC.features, text)))
    with_text = replace(opened, spec=replace(opened.spec, features=(*opened.spec.features, text)))
    evaluation.offline(actor, with_text, max_windows=2)
    assert actor.seen[0]["language"] == "go home"


def test_one_episode_has_no_interval(tmp_path: Path) -> None:
    opened = store.open(write_store(tmp_path / "store", episodes=2))
    error = evaluation.offline(Demonstrator(share=0.5), opened).methods["policy"]
    assert error.low is None
    assert error.high is None


def test_constant_dimensions_stay_out_of_the_figure(opened: store.Store) -> None:
    stats = opened.stats["action"]
    held = replace(opened, stats={**opened.stats, "action": replace(stats, std=stats.std * [1, 0])})
    result = evaluation.offline(Demonstrator(share=0.5), held)
    assert "left out of the one figure: y" in result.notes[0]
    policy = result.methods["policy"]
    assert policy.normalised_mae == pytest.approx(policy.mae[0] / stats.std[0])


def test_nothing_that_varies_leaves_no_figure(opened: store.Store) -> None:
    stats = opened.stats["action"]
    held = replace(opened, stats={**opened.stats, "action": replace(stats, std=stats.std * 0)})
    result = evaluation.offline(Demonstrator(share=0.5), held)
    policy = json.loads(json.dumps(result.to_json(), allow_nan=False))["methods"]["policy"]
    assert policy["normalised_mae"] is None
    assert policy["normalised_mae_ahead"] == [None] * TP
    assert min(policy["mae"]) > 0


def test_a_misfit_is_refused(opened: store.Store) -> None:
    other = replace(SPEC, features=(replace(SPEC["state"], names=("y", "x")), SPEC["action"]))
    with pytest.raises(SpecError, match="reorder by name"):
        evaluation.offline(Demonstrator(spec=other), opened)
    with pytest.raises(StoreError, match="no episode is in split"):
        evaluation.offline(Demonstrator(), opened, split="test")


def test_a_broken_actor_is_named_with_the_step(opened: store.Store) -> None:
    with pytest.raises(ShapeError, match=r"step \d+: predicted actions.*not finite"):
        evaluation.offline(Demonstrator(share=float("nan")), opened)


def test_the_report_is_written(opened: store.Store, tmp_path: Path) -> None:
    result = evaluation.offline(Demonstrator(share=0.5), opened)
    command = "deft eval run data.path=store"
    page = evaluation.write_offline(
        tmp_path, result, title="t", command=command, settings={"policy": "abc"}
    )
    assert page == tmp_path / "offline.html"
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "offline.html",
        "offline.json",
        "offline.md",
    ]
    data = json.loads((tmp_path / "offline.json").read_text())
    assert data["command"] == command
    assert data["methods"]["policy"] == result.methods["policy"].to_json()
    html = page.read_text()
    for piece in (command, "repeat last", "Error by step ahead", "95 % interval", "[m]"):
        assert piece in html
