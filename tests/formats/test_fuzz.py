"""Every format, damaged in every way: it is read, or refused by name with a way to repair it.

No other exception, no hang, no memory blow-up, no code run, and no store left behind that looks
whole and is not. Every recording is opened in a process of its own that may be killed.

`DEFT_FUZZ` is the number of cases in all (a few per format without it; `-m slow` runs 2,400),
`DEFT_FUZZ_SEED` changes what is damaged, `DEFT_FUZZ_SECONDS` is the longest time for one case.
"""

import json
import math
import os
import select
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from suites.fuzz_kinds import kinds_for
from suites.fuzz_rows import ROWS

TESTS = Path(__file__).parents[1]
SECONDS = float(os.environ.get("DEFT_FUZZ_SECONDS", "60"))
"""Longest time for one case, on a machine that may be busy with other things."""
FEW = 6
MANY = 2400
SEED = int(os.environ.get("DEFT_FUZZ_SEED", "0"))


class Child:
    """A process that opens damaged recordings; started again when it was lost."""

    def __init__(self, row: str, folder: Path) -> None:
        self._row, self._folder = row, folder
        self._process: subprocess.Popen[bytes] | None = None
        self.outcomes: Counter[str] = Counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def judge(self, damage: list[list[Any]]) -> str:
        """What is wrong with how a case ended; empty when nothing is."""
        process = self._process or self._start()
        assert process.stdin is not None
        process.stdin.write(json.dumps(damage).encode() + b"\n")
        process.stdin.flush()
        # The child ends itself after `SECONDS`, and says where it was.
        verdict = self._answer(process, SECONDS + 30)
        if verdict is None:
            status = process.poll()
            self._stop()
            return f"hung or died ({status}): {damage}\n{self._said()}"
        if verdict["wrong"]:
            self._stop()  # its memory, or what it left, must not be blamed on the next case
            return f"{damage} {verdict['damage']}\n{verdict['wrong']}"
        self.outcomes[verdict["outcome"].split(":")[0]] += 1
        return ""

    def _start(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "suites.fuzz_child", self._row]
        with (self._folder / "stderr").open("wb") as errors:
            self._process = process = subprocess.Popen(
                [*command, tempfile.mkdtemp(dir=self._folder), str(SECONDS)],
                cwd=TESTS,
                env=os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        if self._answer(process, SECONDS) is None:
            self._stop()
            raise AssertionError(f"the child did not start: {self._said()}")
        return process

    def _said(self) -> str:
        return (self._folder / "stderr").read_text(errors="replace")[-3000:]

    def _answer(self, process: "subprocess.Popen[bytes]", seconds: float) -> dict[str, Any] | None:
        assert process.stdout is not None
        if not select.select([process.stdout], [], [], seconds)[0]:
            return None
        line = process.stdout.readline()
        if not line:
            process.wait(10)
            return None
        return json.loads(line)

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Kinds of damage that fit each recording."""
    found: dict[str, list[str]] = {}
    for name, row in ROWS.items():
        path = tmp_path_factory.mktemp("sound") / f"recording{row.suffix}"
        row.write(path)
        found[name] = kinds_for(path)
    return found


@pytest.fixture(params=sorted(ROWS))
def child(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Child]:
    with Child(request.param, tmp_path) as child:
        yield child
    print(f"{request.param}: {dict(child.outcomes)}")


def fuzz(child: Child, kinds: list[str], cases: int) -> None:
    one = st.tuples(st.sampled_from(kinds), st.integers(0, 1 << 30))
    wrong: list[str] = []

    @settings(
        max_examples=cases,
        deadline=None,
        phases=[Phase.generate],  # every failure of a run is told, none is shrunk
        suppress_health_check=(HealthCheck.too_slow, HealthCheck.function_scoped_fixture),
    )
    @given(st.lists(one, min_size=1, max_size=2))
    def hold(damage: list[tuple[str, int]]) -> None:
        found = child.judge([[kind, seed + SEED] for kind, seed in damage])
        if found:
            wrong.append(found)

    hold()
    assert not wrong, f"{len(wrong)} cases:\n" + "\n\n".join(wrong[:20])


def test_damaged_recordings_are_read_or_refused(
    child: Child, kinds: dict[str, list[str]], request: pytest.FixtureRequest
) -> None:
    given_number = os.environ.get("DEFT_FUZZ")
    name = request.node.callspec.params["child"]
    fuzz(child, kinds[name], math.ceil(int(given_number) / len(ROWS)) if given_number else FEW)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_thousands_of_damaged_recordings(
    child: Child, kinds: dict[str, list[str]], request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.params["child"]
    fuzz(child, kinds[name], math.ceil(MANY / len(ROWS)))
    assert sum(child.outcomes.values()) >= MANY // len(ROWS) // 2
