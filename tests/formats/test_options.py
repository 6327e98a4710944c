"""Options of formats from the words of a command line."""

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from deft.errors import FormatError
from deft.formats.options import NoOptions, build_options


@dataclass(frozen=True, kw_only=True)
class Inner:
    reach: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Options:
    cameras: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()
    pack: bool = False
    count: int | None = 3
    kind: Literal["auto", "none"] = "auto"
    unit: str = ""
    map: dict[str, str] = field(default_factory=dict)
    inner: Inner = field(default_factory=Inner)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, Options()),
        ({"cameras": "a,b"}, Options(cameras=("a", "b"))),
        ({"cameras": "1"}, Options(cameras=("1",))),
        ({"cameras": ["a"]}, Options(cameras=("a",))),
        ({"sizes": "3, 4"}, Options(sizes=(3, 4))),
        ({"sizes": "[3]"}, Options(sizes=(3,))),
        ({"pack": "yes"}, Options(pack=True)),
        ({"pack": True}, Options(pack=True)),
        ({"count": "7"}, Options(count=7)),
        ({"count": "null"}, Options(count=None)),
        ({"kind": "none"}, Options(kind="none")),
        ({"unit": "7"}, Options(unit="7")),
        ({"map": "a=b,c=d"}, Options(map={"a": "b", "c": "d"})),
        ({"map": '{"a": "b=c"}'}, Options(map={"a": "b=c"})),
        ({"inner.reach": "2"}, Options(inner=Inner(reach=2.0))),
        ({"inner": '{"reach": 2}'}, Options(inner=Inner(reach=2.0))),
    ],
)
def test_words_become_values(given: dict[str, Any], wanted: Options) -> None:
    assert build_options(Options, given, "x") == wanted


@pytest.mark.parametrize(
    "given",
    [
        {"camera": "a"},
        {"pack": "maybe"},
        {"sizes": "a"},
        {"count": "many"},
        {"kind": "some"},
        {"inner.far": "2"},
        {"inner": "2"},
        {"unit": "a", "unit.b": "c"},
    ],
)
def test_what_makes_no_sense_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(FormatError, match="Fix"):
        build_options(Options, given, "x")
    with pytest.raises(FormatError, match="no options"):
        build_options(NoOptions, given, "x")
