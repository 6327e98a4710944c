"""`deft doctor` on this machine, as a user types it."""

import json
import socket
from pathlib import Path

import pytest

from deft.cli import doctor_facts
from deft.cli.main import main


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_facts, "_torch", lambda: doctor_facts.Torch(version="2.13.0"))


@pytest.mark.usefixtures("quick")
def test_this_machine_is_looked_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code = main(["doctor", "--json", "--data", str(tmp_path), "--port", str(port)])
    found = json.loads(capsys.readouterr().out)
    checks = {each["check"]: each for each in found["checks"]}
    assert code == (0 if found["ok"] else 1)
    assert checks["port"]["severity"] == "warning"
    assert "MB/s" in checks["disk"]["found"]
    assert found["packages"]["numpy"]
    assert found["extras"]["train"] == {"installed": True, "missing": []}
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("quick")
def test_people_read_the_fix_and_a_broken_machine_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = doctor_facts.Torch(error="libcudart.so.12: cannot open [shared] object file")
    monkeypatch.setattr(doctor_facts, "_torch", lambda: broken)
    assert main(["doctor", "--data", str(tmp_path)]) == 1
    shown = capsys.readouterr().out
    assert "[shared]" in shown
    assert "fix:    pip install --force-reinstall torch" in shown


def test_torch_is_asked_in_a_process_of_its_own() -> None:
    found = doctor_facts._torch()
    assert found.error == ""
    assert found.version.startswith("2.")


def test_libraries_of_a_system_toolkit_are_seen(tmp_path: Path) -> None:
    (tmp_path / "libcudart.so.12").touch()
    (tmp_path / "libcudnn_ops.so.9").touch()
    (tmp_path / "libz.so").touch()
    found = doctor_facts._library_folders(f"{tmp_path}:/nowhere:")
    assert found == {str(tmp_path): ("cudart", "cudnn_ops")}


@pytest.mark.parametrize("words", [["--data", "/nowhere/at/all"], ["--port", "0"]])
def test_wrong_words(words: list[str]) -> None:
    assert main(["doctor", *words]) == 2
