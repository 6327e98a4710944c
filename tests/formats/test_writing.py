"""The workspace of a writer: what is kept, what is thrown away, and when it was killed."""

import subprocess
import sys
from pathlib import Path

import pytest

from deft.errors import FormatError
from deft.formats.writing import DiskError, Workspace, is_unfinished, tidy

PLAN = {"format": "letters"}


def one(path: Path) -> None:
    path.write_text("1")


def letters(path: Path, places: list[Path]) -> None:
    path.write_text("".join(place.read_text() for place in places))


def folder_of_letters(path: Path, places: list[Path]) -> None:
    path.mkdir()
    for place in places:
        (path / place.read_text()).write_text("!")


def workspace(path: Path, letters: str = "", plan: dict[str, str] = PLAN) -> Workspace:
    held = Workspace(path, plan, lambda found: "old" in found.name)
    for letter in letters:
        held.keep(letter, lambda place, letter=letter: place.write_text(letter))
    return held


def test_files_and_folders_replace_each_other(tmp_path: Path) -> None:
    path = tmp_path / "old"
    for pack in (letters, folder_of_letters, folder_of_letters, letters, letters):
        assert workspace(path, "ab").publish(["b", "a"], pack) == path
        assert path.is_dir() == (pack is folder_of_letters)
        assert [each.name for each in tmp_path.iterdir()] == ["old"]
    assert path.read_text() == "ba"


def test_a_workspace_that_keeps_nothing_goes_away(tmp_path: Path) -> None:
    held = workspace(tmp_path / "new")
    with pytest.raises(ZeroDivisionError):
        held.keep("a", lambda place: place.write_text(str(1 / 0)))
    held.close()
    held.close()
    assert not list(tmp_path.iterdir())
    workspace(tmp_path / "new", "a").close()
    with pytest.raises(FormatError, match="format differ"):
        workspace(tmp_path / "new", plan={"format": "numbers"})
    assert workspace(tmp_path / "new").has("a")


def test_a_pack_that_fails_leaves_every_episode(tmp_path: Path) -> None:
    held = workspace(tmp_path / "new", "ab")

    def fail(path: Path, places: list[Path]) -> None:
        letters(path, places)
        raise OSError("no space left")

    with pytest.raises(DiskError, match="no space left"):
        held.publish(["a", "b"], fail)
    assert not held.path.exists()
    assert held.publish(["a", "b"], letters).read_text() == "ab"


def test_damage_and_disks_that_refuse_are_told(tmp_path: Path) -> None:
    workspace(tmp_path / "new", "a").close()
    (tmp_path / "new.partial" / "plan.json").write_text("{")
    with pytest.raises(FormatError, match=r"plan\.json: is damaged"):
        workspace(tmp_path / "new")
    (tmp_path / "file").write_text("x")
    with pytest.raises(DiskError, match="cannot be written"):
        workspace(tmp_path / "file" / "new")


KILLED = """
import os, sys
from pathlib import Path
from deft.formats.writing import Workspace

path, left = Path(sys.argv[1]), 0

def write():
    held = Workspace(path, {"format": "letters"}, lambda _: True)
    for letter in "abc":
        if not held.has(letter):
            held.keep(letter, lambda place: place.write_text(letter))
    held.publish(list("abc"), pack)

def pack(path, places):
    path.write_text("".join(place.read_text() for place in places))

def dying(name):
    old = getattr(Path, name)
    def wrapped(self, *args, **kwargs):
        global left
        left -= 1
        if left < 0:
            os._exit(9)
        return old(self, *args, **kwargs)
    setattr(Path, name, wrapped)

for name in ("rename", "replace", "unlink", "rmdir", "mkdir"):
    dying(name)
for moment in range(60):
    left = moment
    child = os.fork()
    if not child:
        write()
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(code, path.read_text() if path.exists() else "-")
"""


def test_killed_at_any_moment_the_result_is_whole_or_absent(tmp_path: Path) -> None:
    """Each process dies at another file operation, where the last one left off."""
    path = tmp_path / "letters"
    done = subprocess.run(
        [sys.executable, "-c", KILLED, path], check=True, capture_output=True, text=True
    )
    seen = {tuple(line.split()) for line in done.stdout.splitlines()}
    assert seen == {("9", "-"), ("9", "abc"), ("0", "abc")}
    workspace(tmp_path / "old", "abc").close()
    path.rename(tmp_path / "old")
    workspace(tmp_path / "old").publish(["a", "b", "c"], letters)
    assert (tmp_path / "old").read_text() == "abc"
    left = {each.name for each in tmp_path.iterdir()}
    assert left <= {"old", "letters.partial"}


def test_a_helper_adds_and_the_leader_finds(tmp_path: Path) -> None:
    path, plan = tmp_path / "out", {"a": 1}
    with pytest.raises(FormatError, match="nothing has been begun"):
        Workspace(path, plan, join=True)
    leader = Workspace(path, plan)
    with pytest.raises(FormatError, match="a differ"):
        Workspace(path, {"a": 2}, join=True)
    helper = Workspace(path, plan, join=True)
    helper.keep("one", one)
    helper.close()
    assert leader.has("one")
    assert is_unfinished(path)
    leader.publish(["one"], letters)
    assert path.read_bytes() == b"1"
    assert not is_unfinished(path)


def test_a_workspace_begun_otherwise_is_dropped_on_request(tmp_path: Path) -> None:
    path = tmp_path / "out"
    first = Workspace(path, {"a": 1})
    first.keep("one", one)
    first.close()
    with pytest.raises(FormatError, match="other arguments"):
        Workspace(path, {"a": 2})
    second = Workspace(path, {"a": 2}, may_drop=True)
    assert not second.has("one")
    second.close()


def test_what_is_left_behind_a_finished_recording_is_removed(tmp_path: Path) -> None:
    path, folder = tmp_path / "out", tmp_path / "out.partial"
    leader = Workspace(path, {"a": 1})
    leader.keep("one", one)
    tidy(path)
    assert is_unfinished(path)
    leader.close()
    # As after a kill between the last rename and the removal of the folder.
    path.write_bytes(b"1")
    (folder / "finished").write_bytes(b"")
    assert not is_unfinished(path)
    tidy(path)
    assert [each.name for each in tmp_path.iterdir()] == ["out"]
