"""What is installed, what is wrong with it, and the command that fixes it.

examples:
  deft doctor                               this machine, the data folder, the usual port
  deft doctor --data /mnt/robots            space and speed where the data is
  deft doctor --port 9000 --json            for programs

Looks at packages and extras, GPU, driver, CUDA libraries and cuDNN, packages of older JAX and
TensorFlow set-ups that stand beside, video decoders, off-screen drawing, /dev/shm, open files, the
disk, W&B and the port. Exit code 1 when something is broken; warnings do not count.
"""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deft.errors import ConfigError

if TYPE_CHECKING:
    from deft.cli.doctor_checks import Finding
    from deft.cli.doctor_facts import Facts

_MARKS = {"ok": "[green]ok[/]", "note": "note", "warning": "[yellow]warning[/]",
          "error": "[bold red]error[/]"}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", metavar="PATH", help="where data is or will be")
    parser.add_argument("--port", type=int, default=8000, help="port to serve on (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    from deft.cli import doctor_checks, doctor_facts, places

    if not 0 < args.port < 65536:
        raise ConfigError(f"--port is {args.port}.\nFix: give 1 to 65535.")
    data = Path(args.data).expanduser() if args.data else places.data_dir()
    if args.data and not data.exists():
        raise ConfigError(f"--data {data}: there is nothing.\nFix: give a folder that exists.")
    facts = doctor_facts.gather(data, args.port)
    findings = doctor_checks.diagnose(facts)
    has_error = any(each.severity == "error" for each in findings)
    if args.json:
        print(json.dumps(report(facts, findings), indent=2))
    else:
        show(facts, findings)
    return 1 if has_error else 0


def report(facts: "Facts", findings: "list[Finding]") -> dict[str, Any]:
    """Everything for programs."""
    from deft import __version__
    from deft.cli import doctor_checks

    return {
        "ok": not any(each.severity == "error" for each in findings),
        "deft": __version__,
        "python": ".".join(map(str, facts.python)),
        "checks": [dataclasses.asdict(each) for each in findings],
        "packages": _own_packages(facts),
        "extras": {
            name: {"installed": not missing, "missing": missing}
            for name, missing in doctor_checks.extras(facts).items()
            if name
        },
    }


def show(facts: "Facts", findings: "list[Finding]") -> None:
    """The same for people, worst last, where a terminal shows it."""
    from rich.console import Console
    from rich.markup import escape

    from deft import __version__
    from deft.cli import doctor_checks

    console = Console(highlight=False, soft_wrap=True)
    versions = "  ".join(f"{name} {version}" for name, version in _own_packages(facts).items())
    console.print(f"deft {__version__}  {escape(versions)}")
    for name, missing in doctor_checks.extras(facts).items():
        if name and missing:
            console.print(f"  extra \\[{name}] is not there: pip install 'deft-robotics\\[{name}]'")
    order = ("ok", "note", "warning", "error")
    for each in sorted(findings, key=lambda finding: order.index(finding.severity)):
        console.print(f"{_MARKS[each.severity]}  {each.check}: {escape(each.found)}")
        if each.effect:
            console.print(f"    breaks: {escape(each.effect)}")
        if each.fix:
            console.print(f"    fix:    {escape(each.fix)}")
    counts = {key: sum(each.severity == key for each in findings) for key in order}
    console.print(f"{counts['error']} errors, {counts['warning']} warnings")


def _own_packages(facts: "Facts") -> dict[str, str]:
    """Versions of what Deft asks for, in its core and in its extras, where it is installed."""
    import re

    from deft.cli.doctor_facts import plain_name

    found: dict[str, str] = {}
    for line in facts.requires.get("deft-robotics", ()):
        match = re.match(r"[\w.\-]+", line)
        name = plain_name(match[0]) if match else ""
        if name in facts.packages and name != "deft-robotics":
            found[name] = facts.packages[name]
    return dict(sorted(found.items()))
