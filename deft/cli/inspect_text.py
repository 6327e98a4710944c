"""What `deft inspect` shows to people: lines above, tables below."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deft.spec import Spec

_SHOWN = 20
"""Tasks and problems that people see; `--json` has all of them."""


def show_report(report: dict[str, Any]) -> None:
    """Print the report on a recording, store or policy."""
    _show(_head(report), _sections(report))


def show_actions(report: dict[str, Any]) -> None:
    """Print action widths: tasks one by one, then by width."""
    groups = report["groups"]
    head = [
        ("path", str(report["path"])),
        ("tasks", f"{sum(len(each['tasks']) for each in groups):,}"),
        ("widths", ", ".join(_width(each) for each in groups) or "none"),
    ]
    if len(groups) > 1:
        hint = "train each width by itself, or keep the arms that all tasks share"
        head.append(("note", f"the widths differ: {hint}"))
    head.append(("took", f"{report['seconds']:.2f} s"))
    sections = [
        _Section(
            f"action width {_width(group)}: {len(group['tasks'])} tasks",
            ("task", "episodes", "steps", "recording"),
            [
                (e["task"] or "(none)", f"{e['episodes']:,}", f"{e['steps']:,}", e["recording"])
                for e in group["tasks"]
            ],
        )
        for group in groups
    ]
    failed = [(each["recording"], each["what"]) for each in report["failed"]]
    sections += [_Section("not counted", ("recording", "why"), failed)] if failed else []
    _show(head, sections)


def _width(group: dict[str, Any]) -> str:
    arms = ", ".join(f"{side} {width}" for side, width in group["arms"].items())
    return f"{group['width']} ({arms})" if arms else str(group["width"])


@dataclass(frozen=True)
class _Section:
    """A table with its heading."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[str]]


def _heard(known: dict[str, Any]) -> str:
    made = f"vectors of {known['encoder']}" if known["encoder"] else "vectors that came with it"
    return f"{known['count']:,} known, as {known['first'][0]!r}; {made}"


def _head(report: dict[str, Any]) -> list[tuple[str, str]]:
    """The lines above the tables: a word and what it is."""
    spec = _spec(report)
    if report["kind"] == "policy":
        weights = report["weights"]
        lines = [
            ("policy", f"{report['family']}, {report['path']}"),
            ("digest", str(report["digest"])),
            ("weights", f"{weights['numbers']:,} numbers in {weights['tensors']} tensors"),
        ]
        if spec.horizons is not None:
            parts = asdict(spec.horizons).items()
            lines.append(("horizons", ", ".join(f"{name} {ticks}" for name, ticks in parts)))
        if report["sentences"]:
            lines.append(("sentences", _heard(report["sentences"])))
        if report["checkpoints"]:
            lines.append(("checkpoints", ", ".join(report["checkpoints"])))
    else:
        length = report["length"]
        kind = report.get("format", "store")
        lines = [
            (report["kind"], f"{report['name']} ({kind}), {report['path']}"),
            ("episodes", f"{report['episodes']:,} with {report['steps']:,} steps"),
            ("length", f"{length['min']} to {length['max']} steps, mean {length['mean']:.1f}"),
        ]
        if report["seconds_recorded"]:
            lines.append(("duration", f"{report['seconds_recorded'] / 60:.1f} min"))
        widths = report["action_width"].items()
        lines.append(("actions", ", ".join(f"{name}: {n} wide" for name, n in widths) or "none"))
    lines.append(
        (
            "rate",
            f"{spec.fps:g} Hz" if spec.fps else "not in the files; `deft convert --fps` sets it",
        )
    )
    lines.append(("embodiment", spec.embodiment or "unknown"))
    if "failed" in report:
        lines.append(("check", _verdict(report)))
    lines.append(("took", f"{report['seconds']:.2f} s"))
    return lines


def _sections(report: dict[str, Any]) -> Iterator[_Section]:
    yield _features(_spec(report))
    if report["kind"] == "policy":
        yield from _checkpoints(report["scores"])
        yield _Section("settings", ("setting", "value"), list(_flat(report["config"])))
    if report["kind"] == "store":
        yield from _kept(report)
    yield from _groups(report)
    titles = {
        "problems": "problems",
        "failed": "failed the check",
        "noticed": "noticed in the check",
    }
    for key, title in titles.items():
        if report.get(key):
            rows = [
                (e["severity"], e["episode"] or "(all)", e["what"], e["effect"])
                for e in report[key]
            ]
            yield _Section(title, ("severity", "episode", "what", "effect"), _cut(rows))
    if report.get("left_out"):
        rows = [(entry["id"], entry["why"]) for entry in report["left_out"]]
        yield _Section("left out when the store was written", ("episode", "why"), _cut(rows))


def _checkpoints(scores: dict[str, Any]) -> Iterator[_Section]:
    """The checkpoints of a run beside what was measured at each."""
    steps = {each["step"]: each["scores"] for each in scores.values()}
    # What is told apart by dimension or step ahead is in --json.
    known = dict.fromkeys(k for own in steps.values() for k in own if k.count("/") < 2)
    if not known:
        return
    rows: list[Sequence[str]] = []
    for step, own in sorted(steps.items()):
        names = [n for n, each in scores.items() if each["step"] == step and n != str(step)]
        shown = [f"{own[key]:.4g}" if key in own else "" for key in known]
        rows.append((str(step), " ".join(names), *shown))
    yield _Section("checkpoints", ("step", "", *known), rows)


def _kept(report: dict[str, Any]) -> Iterator[_Section]:
    """How a store keeps what it holds."""
    pictures: list[tuple[str, ...]] = []
    for each in report["pictures"]:
        codec = each["codec"] + (f" {each['quality']}" if each["quality"] else "")
        if each["levels"]:
            codec += f", 0 to 1 in {each['levels']} steps"
        size = f"{each['bytes'] / 1e6:.1f}", f"{each['bytes'] / 1e3 / report['steps']:.1f}"
        pictures.append((each["feature"], codec, *size, each["why"]))
    if pictures:
        yield _Section("pictures", ("feature", "codec", "MB", "kB each", "why"), pictures)
    if len(report["parts"]) > 1:
        parts = [
            (
                each["folder"] or "(first)",
                f"{each['episodes']:,}",
                f"{each['steps']:,}",
                each["source"],
            )
            for each in report["parts"]
        ]
        yield _Section("parts", ("folder", "episodes", "steps", "source"), _cut(parts))
    vectors = [(e["name"], f"{e['texts']} of {report['texts']}") for e in report["embeddings"]]
    if vectors:
        yield _Section("embeddings", ("name", "texts"), vectors)
    elsewhere = [(each["feature"], each["file"]) for each in report["references"]]
    if elsewhere:
        yield _Section("kept elsewhere", ("feature", "file"), elsewhere)


def _groups(report: dict[str, Any]) -> Iterator[_Section]:
    """Splits, and tasks with an example of each."""
    splits = report.get("splits", [])
    if any(each["split"] for each in splits):
        rows = [(e["split"] or "(none)", f"{e['episodes']:,}", f"{e['steps']:,}") for e in splits]
        yield _Section("splits", ("split", "episodes", "steps"), _cut(rows))
    tasks = report.get("tasks", [])
    if tasks:
        columns = ("task", "episodes", "steps", "example", "its steps", "cameras", "actions")
        rows = [
            (
                each["task"] or "(no instruction)",
                f"{each['episodes']:,}",
                f"{each['steps']:,}",
                each["example"]["episode"],
                f"{each['example']['steps']:,}",
                ", ".join(each["cameras"]) or "none",
                ", ".join(f"{name} {width}" for name, width in each["action_width"].items()),
            )
            for each in tasks
        ]
        yield _Section("tasks", columns, _cut(rows))


def _verdict(report: dict[str, Any]) -> str:
    counts = [
        f"{len(report[key])} {word}"
        for key, word in (("failed", "failed"), ("noticed", "noticed"))
        if report.get(key)
    ]
    return ", ".join(counts) or "sound"


def _features(spec: "Spec") -> _Section:
    columns = (
        "feature",
        "role",
        "height",
        "width",
        "channels",
        "shape",
        "dtype",
        "unit",
        "elements",
    )
    rows: list[tuple[str, ...]] = []
    for feature in spec.features:
        if feature.is_frame:
            size = (str(feature.height), str(feature.width), str(feature.channels), "")
        else:
            size = ("", "", "", " x ".join(map(str, feature.shape)) or "scalar")
        names = " ".join(feature.names[:8]) + (" …" if len(feature.names) > 8 else "")
        rows.append((feature.name, feature.role, *size, feature.dtype, feature.unit, names))
    return _Section("features", columns, rows)


def _flat(tree: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """A tree of settings as dotted names with their values."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _flat(value, f"{name}.{key}" if name else str(key))
    else:
        yield name, json.dumps(tree)


def _cut(rows: Sequence[Sequence[str]]) -> Sequence[Sequence[str]]:
    if len(rows) <= _SHOWN:
        return rows
    rest = f"… and {len(rows) - _SHOWN} more; `--json` shows them all"
    return [*rows[:_SHOWN], (rest, *[""] * (len(rows[0]) - 1))]


def _spec(report: dict[str, Any]) -> "Spec":
    from deft.spec import Spec

    return Spec.from_json(report["spec"])


def _show(head: Sequence[tuple[str, str]], sections: Iterable[_Section]) -> None:
    if sys.stdout.isatty():
        _show_rich(head, sections)
        return
    width = max(len(word) for word, _ in head)
    for word, text in head:
        print(f"{word:<{width}}  {text}")
    for section in sections:
        print(f"\n{section.title}")
        # A message of several lines stays in its column.
        cells = [
            [" ".join(cell.split()) for cell in row] for row in (section.columns, *section.rows)
        ]
        used = [n for n in range(len(section.columns)) if any(row[n] for row in cells[1:])]
        widths = {n: max(len(row[n]) for row in cells) for n in used}
        for row in cells:
            print("  " + "  ".join(f"{row[n]:<{widths[n]}}" for n in used).rstrip())


def _show_rich(head: Sequence[tuple[str, str]], sections: Iterable[_Section]) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    top = Table.grid(padding=(0, 2))
    for word, text in head:
        top.add_row(Text(word, style="bold"), Text(text))
    console.print(top)
    for section in sections:
        used = [n for n in range(len(section.columns)) if any(row[n] for row in section.rows)]
        table = Table(title=section.title, title_justify="left", title_style="bold", box=SIMPLE)
        for n in used:
            table.add_column(section.columns[n], overflow="fold")
        for row in section.rows:
            table.add_row(*(Text(row[n]) for n in used))
        console.print(table)
