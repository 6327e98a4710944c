"""The `deft` command: finds the sub-command in one static table and runs it.

Exit codes: 0 done, 1 failed, 2 wrong use, 130 interrupted.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from deft import __version__
from deft.errors import EXTRAS, ConfigError, DeftError, missing, nearest

COMMANDS = {
    "inspect": "what is in a recording, store, run or bundle",
    "convert": "turn recordings into a training store or another format",
    "view": "look at episodes, statistics and problems as an HTML page",
    "collect": "record demonstrations of a scripted expert in a simulator",
    "train": "train a policy",
    "sweep": "train many policies over GPUs, a cluster or CPU slots",
    "plot": "draw the curves of one or many runs",
    "eval": "measure a policy in a simulator or on held-out episodes",
    "export": "write a checkpoint as a bundle that opens by itself",
    "serve": "answer observations with actions over the network",
    "doctor": "what is installed, what is wrong with it, and the command that fixes it",
}
"""Every command with its line of help; the module of the same name in `deft.cli` runs it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(_overview())
        return 0 if words else 2
    if words[0] == "--version":
        print(f"deft {__version__}")
        return 0
    name = words[0]
    if name not in COMMANDS:
        print(f"deft: there is no command '{name}'. {nearest(name, COMMANDS)}", file=sys.stderr)
        return 2
    module = importlib.import_module(f"deft.cli.{name}")
    parser = argparse.ArgumentParser(
        prog=f"deft {name}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.add_arguments(parser)
    try:
        code = int(module.run(parser.parse_intermixed_args(words[1:])))
        sys.stdout.flush()
        return code
    except DeftError as error:
        print(f"deft {name}: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except ModuleNotFoundError as error:
        # Rooms with networks import torch as they load; only here is it known that it is optional.
        package = (error.name or "").split(".")[0]
        if package not in EXTRAS:
            raise
        print(f"deft {name}: {missing(package, EXTRAS[package], error)}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever read our output, `head` say, has gone; nothing more can be said to them.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print(f"deft {name}: interrupted", file=sys.stderr)
        return 130


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {line}" for name, line in COMMANDS.items()]
    return "\n".join(
        [
            "usage: deft COMMAND ...",
            "",
            "From robot demonstrations to a served policy.",
            "",
            *lines,
            "",
            "`deft COMMAND --help` explains one command, with examples.",
        ]
    )
