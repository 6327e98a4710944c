"""Writing feature zarr: what every writer does, both layouts, and what does not fit."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deft import formats
from deft.errors import FormatError
from deft.spec import Feature, Spec
from suites.formats import same
from suites.memory_source import MemorySource, with_array
from suites.writers import writable_spec, write_all


def maps(shape: tuple[int, ...] = (3, 4, 8), dtype: str = "float16") -> Spec:
    feature = Feature(name="dinov3", role="feature_map", shape=shape, dtype=dtype)
    return Spec(features=(feature,), fps=15.0)


@pytest.mark.parametrize("layout", ["joined", "episodes"])
@pytest.mark.parametrize(
    "spec", [maps(), maps((12,)), maps(dtype="float32")], ids=["maps", "fused", "wide"]
)
def test_what_was_written_is_read(tmp_path: Path, layout: str, spec: Spec) -> None:
    source = MemorySource(spec=spec, splits=("train", "val"))
    options = {"layout": layout, "attributes": {"backbone": "dinov3_s", "camera": "head_camera"}}
    path = write_all(tmp_path / "features", source, "feature_zarr", options)
    assert formats.recognise(path) == "feature_zarr"
    recording = formats.open(path)
    assert recording.spec == spec
    assert list(recording.episodes) == source.episodes
    assert not recording.problems
    for number in range(4):
        assert same(recording.read(number), source.read(number))
        assert recording.read(number).source == source.read(number).source
    files = {str(file.relative_to(path)): file for file in path.rglob("*") if file.is_file()}
    root = "" if layout == "joined" else "episode0.zarr/"
    about = json.loads(files[f"{root}.zattrs"].read_text())
    assert about["backbone"] == "dinov3_s"
    assert about["dtype"] == spec.features[0].dtype
    assert about.get("grid") == ([3, 4] if len(spec.features[0].shape) == 3 else None)
    again = write_all(tmp_path / "again", source, "feature_zarr", options)
    assert {name: (again / name).read_bytes() for name in files} == {
        name: file.read_bytes() for name, file in files.items()
    }


def test_it_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    source = MemorySource(spec=maps())
    path = tmp_path / "features"
    ids = [info.id for info in source.episodes]
    for number in range(4):
        with formats.write(path, "feature_zarr", source.spec, {"layout": "episodes"}) as writer:
            assert [writer.has(id_) for id_ in ids] == [n < number for n in range(4)]
            writer.add(source.read(number))
            assert not path.exists()
            if number == 3:
                writer.finish(ids)
    assert sorted(each.name for each in path.iterdir()) == [f"episode{n}.zarr" for n in range(4)]
    recording = formats.open(path)
    assert all(same(recording.read(n), source.read(n)) for n in range(4))


@pytest.mark.parametrize(("size", "rows"), [(384, 16), (20_000, 8), (8, 16)])
def test_chunks_hold_8_to_16_steps(tmp_path: Path, size: int, rows: int) -> None:
    source = MemorySource(lengths=(40,), spec=maps((3, 4, size)))
    path = write_all(tmp_path / "features", source, "feature_zarr")
    meta = json.loads((path / "data/features/.zarray").read_text())
    assert meta["chunks"] == [rows, 3, 4, size]
    assert (meta["dtype"], meta["compressor"]["clevel"]) == ("<f2", 3)


def test_numbers_that_overflow_are_refused(tmp_path: Path) -> None:
    source = MemorySource(spec=maps())
    episode = source.read(0)
    with np.errstate(over="ignore"):
        values = (np.ones((5, 3, 4, 8)) * 70_000).astype(np.float16)
    values[:3] = 0
    with (
        formats.write(tmp_path / "f", "feature_zarr", source.spec) as writer,
        pytest.raises(FormatError, match=r"'dinov3', step 3[^$]*float16 ends at 65504"),
    ):
        writer.add(with_array(episode, "dinov3", values))


@pytest.mark.parametrize("spec", [writable_spec(), replace(maps(), features=())])
def test_anything_else_is_refused(tmp_path: Path, spec: Spec) -> None:
    with pytest.raises(FormatError, match="one feature map and nothing else"):
        formats.write(tmp_path / "f", "feature_zarr", spec)


def test_options_are_checked(tmp_path: Path) -> None:
    bad: list[dict[str, Any]] = [{"layout": "flat"}, {"attributes": 3}]
    for options in bad:
        with pytest.raises(FormatError, match="options"):
            formats.write(tmp_path / "f", "feature_zarr", maps(), options)
