"""Settings, the store's contract, and the split."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deft.errors import ConfigError
from deft.spec import Feature, Resized, Spec, from_plain, to_plain
from deft.store import WriteConfig, plan_frames, stored_spec
from deft.store.layout import split_episodes


def feature(dtype: str = "uint8", channels: int = 3, role: str = "image") -> Feature:
    return Feature(name="cam", role=role, shape=(48, 64, channels), dtype=dtype)


def test_the_config_survives_json() -> None:
    config = WriteConfig(
        image_height=24, image_width=32, codec="auto", codecs={"a/b": "png"}, val_fraction=0.25
    )
    assert from_plain(WriteConfig, json.loads(json.dumps(to_plain(config)))) == config


@pytest.mark.parametrize(
    "wrong",
    [
        {"image_height": 24},
        {"image_height": 0, "image_width": 24},
        {"quality": 101},
        {"val_fraction": 1.0},
        {"val_fraction": -0.1},
        {"codec": "bmp"},
        {"codecs": {"cam": "bmp"}},
        {"raw_limit_mb": -1},
        {"shard_mb": 0},
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="Fix:"):
        WriteConfig(**wrong)  # pyright: ignore[reportArgumentType]


def test_the_way_of_resizing_is_recorded() -> None:
    small = WriteConfig(image_height=24, image_width=32)
    large = WriteConfig(image_height=96, image_width=32)
    before = {"height": 48, "width": 64}
    for source, config, filter_ in (
        (feature(), small, "area"),
        (feature(), large, "linear"),
        (feature(), replace(small, resize_filter="lanczos"), "lanczos"),
        (feature("uint16", 1, "depth"), replace(small, resize_filter="lanczos"), "nearest"),
    ):
        step = Resized(**before, filter=filter_)
        assert plan_frames(source, config).resize == step
        assert plan_frames(source, config).stored.resized == (step,)
    padded = plan_frames(feature(), replace(small, resize="pad"))
    assert padded.stored.to_json()["resized"] == [{**before, "mode": "pad", "filter": "area"}]
    assert plan_frames(feature(), WriteConfig(image_height=48, image_width=64)).resize is None
    with pytest.raises(ConfigError, match="cannot be resized"):
        plan_frames(feature("int32"), small)


def test_the_contract_of_the_store() -> None:
    spec = Spec(
        features=(
            feature(),
            Feature(name="a", role="action", shape=(2,), dtype="float64"),
            Feature(name="n", role="other", shape=(), dtype="int64"),
            Feature(name="half", role="state", shape=(2,), dtype="float16"),
            Feature(name="task", role="language", shape=(), dtype="str"),
            Feature(name="note", role="other", shape=(), dtype="str"),
        ),
        fps=5,
    )
    kept = stored_spec(spec, WriteConfig(image_height=24, image_width=32))
    assert kept["cam"].shape == (24, 32, 3)
    assert kept["a"].dtype == "float32"
    assert kept["n"].dtype == "int64"
    assert kept["half"].dtype == "float16"
    assert "task" in kept
    assert "note" not in kept


ids = st.lists(st.text("abcdef/0123", min_size=1, max_size=6), min_size=1, unique=True)
fractions = st.sampled_from([0.0, 0.01, 0.1, 0.5, 0.99])


@given(ids, fractions, st.integers(0, 5), st.data())
def test_the_split_never_changes_when_the_store_grows(
    ids: list[str], fraction: float, seed: int, data: st.DataObject
) -> None:
    config = WriteConfig(val_fraction=fraction, split_seed=seed)
    whole, came_from = split_episodes(ids, [""] * len(ids), config)
    fewer = data.draw(st.integers(1, len(ids)))
    assert split_episodes(ids[:fewer], [""] * fewer, config)[0] == whole[:fewer]
    assert came_from == "hash"
    assert "train" in whole
    assert ("val" in whole) == (fraction > 0 and len(ids) > 1)


def test_the_share_is_about_the_fraction_and_the_seed_counts() -> None:
    ids = [f"episode {n}" for n in range(4000)]
    said = [""] * len(ids)
    one = split_episodes(ids, said, WriteConfig(val_fraction=0.2))[0]
    other = split_episodes(ids, said, WriteConfig(val_fraction=0.2, split_seed=1))[0]
    assert 700 < one.count("val") < 900
    assert one != other


def test_what_the_source_says_goes_first() -> None:
    config = WriteConfig(val_fraction=0.0)
    ids = ["a", "b", "c", "d"]
    said = ["val", "train", "test", "val"]
    assert split_episodes(ids, said, config) == (said, "source")
    # A source that calls everything train holds nothing out; this is no split.
    everything = split_episodes(ids, ["train"] * 4, WriteConfig())
    assert everything[0][:2] == ["train", "val"]
    assert everything[1] == "hash"
    assert split_episodes(ids, ["test", "", "", ""], config)[0][0] == "test"
