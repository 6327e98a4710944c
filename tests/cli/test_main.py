"""The `deft` command itself: names, help, exit codes, and how little it imports."""

import subprocess
import sys
from pathlib import Path

import pytest

from deft import cli
from deft.cli.main import COMMANDS, main


def test_no_command_is_wrong_use_and_help_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in COMMANDS)
    assert main(["--version"]) == 0


def test_a_misspelt_command_is_answered(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian"]) == 2
    assert "Did you mean 'train'" in capsys.readouterr().err


HELP = """
import sys
from deft.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit as stop:
    assert stop.code == 0, stop.code
heavy = {"rich", "yaml", "torch", "hydra", "omegaconf", "cv2", "pyarrow", "mujoco", "av"}
heavy |= {"websockets", "wandb", "tensorboard", "ray", "submitit"}
loaded = sorted(heavy & set(sys.modules))
assert not loaded, loaded
"""


@pytest.mark.parametrize("name", COMMANDS)
def test_help_imports_nothing_heavy_and_shows_examples(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HELP, name, "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"deft {name}" in done.stdout.split("options:")[0].split("\n", 1)[1]


@pytest.mark.parametrize("words", [["--help"], ["--version"], []])
def test_the_command_itself_imports_nothing_heavy(words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HELP, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_module_of_a_command_is_in_the_table() -> None:
    folder = Path(cli.__file__).parent
    found = {path.stem for path in folder.glob("*.py") if "def add_arguments(" in path.read_text()}
    assert found == set(COMMANDS)


@pytest.mark.parametrize(
    ("package", "words"),
    [("omegaconf", ["train", "data.path=x"]), ("torch", ["serve", "nowhere"])],
)
def test_a_package_that_is_not_there_is_named_with_its_extra(
    package: str, words: list[str]
) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; from deft.cli.main import main; "
    done = subprocess.run(
        [sys.executable, "-c", f"{code} raise SystemExit(main({words!r}))"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"'{package}' cannot be imported here" in done.stderr
    assert "Fix: pip install 'deft-robotics[train]'" in done.stderr


def test_python_m_deft_works_like_deft() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "deft", "--version"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert done.stdout.startswith("deft ")


def test_a_reader_that_leaves_early_gets_no_traceback() -> None:
    command = f"{sys.executable} -m deft collect --list | true"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.stderr == ""
