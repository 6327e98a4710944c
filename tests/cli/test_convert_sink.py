"""Conversions whose episodes are worked on elsewhere: by helpers, as a cluster's processes are."""

import json
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import pytest

from deft import formats, store
from deft.cli import convert_sink
from deft.cli.conversion import Conversion
from deft.cli.sources import SourceRequest
from deft.errors import DeftError, FormatError, StoreError
from suites.demonstrations import write_store


def conversion(tmp_path: Path, name: str, to: str, **changes: Any) -> Conversion:
    source = tmp_path / "in"
    if not source.exists():
        write_store(source, episodes=6, length=8)
    request = SourceRequest(path=str(source), name="lab/in", options={}, renames={"image": "cam"})
    given: dict[str, Any] = {
        "sources": (request,),
        "to": to,
        "dst": str(tmp_path / name),
        "config": store.WriteConfig(image_height=16, image_width=16),
        "write_options": {},
        "train_proportion": 0.5,
        **changes,
    }
    return Conversion(**given)


def helped(made: Conversion) -> store.Engine:
    """An engine that does what a process elsewhere does, from the conversion's text alone."""
    text = made.to_text()

    def engine(
        _one: Callable[[int], store.Work], numbers: Sequence[int], /
    ) -> Generator[tuple[int, store.Work | DeftError]]:
        for number in reversed(numbers):
            found = convert_sink.work(text, number)
            yield number, StoreError(found) if isinstance(found, str) else found

    return engine


def files(path: Path) -> dict[str, bytes]:
    found = [path, *sorted(path.rglob("*"))]
    return {str(each.relative_to(path)): each.read_bytes() for each in found if each.is_file()}


@pytest.mark.parametrize("to", ["store", "robomimic", "bridge_numpy"])
def test_helpers_give_the_same_bytes(tmp_path: Path, to: str) -> None:
    for name, engine in (("here", store.Threads(2)), ("there", None)):
        made = conversion(tmp_path, name, to)
        source = made.source()
        outcome = convert_sink.convert(made, source, engine or helped(made))
        assert (outcome.episodes, outcome.left_out) == (6, ())
        assert convert_sink.is_done(made, source)
    assert files(tmp_path / "there") == files(tmp_path / "here")
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("to", ["store", "robomimic"])
def test_nobody_helps_where_nothing_was_begun(tmp_path: Path, to: str) -> None:
    with pytest.raises((StoreError, FormatError), match="Fix"):
        convert_sink.work(conversion(tmp_path, "out", to).to_text(), 0)


def test_conversions_survive_json(tmp_path: Path) -> None:
    made = conversion(tmp_path, "out", "store", episodes=(1, 2), include=("go*",))
    assert Conversion.from_text(made.to_text()) == made
    assert str(tmp_path) not in json.dumps(made.origin())


@pytest.mark.parametrize(
    "change",
    [
        {"config": store.WriteConfig(image_height=8, image_width=8)},
        {"config": store.WriteConfig(image_height=16, image_width=16, split_seed=9)},
        {"episodes": (0, 1)},
        {"write_options": {"compress": True}},
    ],
)
def test_another_conversion_is_not_done(tmp_path: Path, change: dict[str, Any]) -> None:
    made = conversion(tmp_path, "out", "robomimic")
    convert_sink.convert(made, made.source(), store.Threads(1))
    other = conversion(tmp_path, "out", "robomimic", **change)
    assert not convert_sink.is_done(other, other.source())
    with pytest.raises(FormatError, match="something is there already"):
        convert_sink.convert(other, other.source(), store.Threads(1))
    convert_sink.convert(other, other.source(), store.Threads(1), overwrite=True)
    assert convert_sink.is_done(other, other.source())


def test_a_split_drawn_anew_is_not_mixed_with_the_last(tmp_path: Path) -> None:
    made = conversion(tmp_path, "out", "robomimic")
    source = made.source()

    def dies(one: Callable[[int], store.Work], numbers: Sequence[int], /) -> store.Outcomes:
        yield numbers[0], one(numbers[0])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert_sink.convert(made, source, dies)
    other = conversion(
        tmp_path,
        "out",
        "robomimic",
        config=store.WriteConfig(image_height=16, image_width=16, split_seed=5),
    )
    with pytest.raises(FormatError, match="other arguments"):
        convert_sink.convert(other, other.source(), store.Threads(1))
    convert_sink.convert(made, source, store.Threads(1))
    assert len(formats.open(tmp_path / "out").episodes) == 6
