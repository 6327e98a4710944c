"""`deft view`: one page for a recording, a store and a run."""

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from deft import store
from deft.cli.main import main
from suites.demonstrations import write_store
from suites.fuzz_rows import write_robotwin
from suites.views import rich_store


class Reader(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.words: list[str] = []
        self.links: list[str] = []
        self.pictures = 0
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.pictures += tag == "img"
        self.links += [value or "" for name, value in attrs if tag == "a" and name == "href"]

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)


def view(*words: str) -> int:
    return main(["view", *words])


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_store(tmp_path / "home")
    assert view("home", "--episodes", "2") == 0
    assert capsys.readouterr().out.strip() == "view-home.html"
    html = Path("view-home.html").read_text()
    read = Reader(html)
    assert read.pictures == 16
    held_out = int((store.open("home").episodes.split == "val").sum())
    for piece in (
        "training store",
        "go home",
        "120",
        f"{10 - held_out} train, {held_out} val",
        "x [m]",
        "train episodes",
        "episode-000",
        "episode-009",
        "No problems found.",
        "height 32, width 32",
    ):
        assert piece in read.text
    assert html.count("<svg") == 4  # state and action share their elements x and y
    assert not re.search(r"https?:", re.sub(r"base64,[A-Za-z0-9+/=]+", "", html))


def test_a_damaged_picture_becomes_a_problem(tmp_path: Path) -> None:
    path = write_store(tmp_path / "home")
    shard = next(path.rglob("shard-*.bin"))
    data = bytearray(shard.read_bytes())
    data[:600] = bytes(600)
    shard.write_bytes(data)
    assert view("home", "--episodes", "2", "--out", "out/page.html") == 0
    read = Reader(Path("out/page.html").read_text())
    assert "camera not shown" in read.text
    assert read.pictures == 8


def test_depth_saliency_and_feature_maps_are_shown(tmp_path: Path) -> None:
    rich_store(tmp_path / "rich", (9, 5))
    assert view("rich", "--episodes", "1", "--out", "page.html") == 0
    read = Reader(Path("page.html").read_text())
    assert read.pictures == 4 * 8
    for piece in ("wrist/depth, red", "mm", "saliency over image", "dinov3, norm of every cell"):
        assert piece in read.text


def test_every_wording_and_what_numbers_show(tmp_path: Path) -> None:
    task = write_robotwin(tmp_path / "lift")
    for file in (task / "instructions").iterdir():
        said = {"seen": ["lift it", *(f"wording {n}" for n in range(8))]}
        file.write_text(json.dumps(said))
    assert view("lift", "--out", "page.html", "--episodes", "1") == 0
    text = Reader(Path("page.html").read_text()).text
    assert "task: lift it." in text
    assert "Also said: wording 0; wording 1; wording 2; wording 3; wording 4, and 3 more." in text


def test_rerun_must_be_installed_and_asked_for_rightly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_store(tmp_path / "home", episodes=2)
    monkeypatch.setitem(sys.modules, "rerun", None)  # as if it were not installed
    assert view("home", "--rerun", "look.rrd") == 1
    assert "pip install 'deft-robotics[view]'" in capsys.readouterr().err
    for words, wanted in (
        (["--rerun", "look.html"], "end its name in .rrd"),
        (["--rerun", "spawn", "--open"], "leave --out and --open out"),
        (["--rerun", "a.rrd", "--out", "b.html"], "leave --out and --open out"),
    ):
        assert view("home", *words) == 2
        assert wanted in capsys.readouterr().err
    assert [each.name for each in tmp_path.iterdir()] == ["home"]


def test_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "runs" / "home" / "bc" / "a b"
    folder = run / "eval" / "home-step_5"
    folder.mkdir(parents=True)
    rows = [{"step": s, "train/loss": 1 / s, "lr": 0.1} for s in range(1, 20)]
    rows.insert(9, {"step": 10, "val/loss": 0.5, "val/action_error": 0.25})
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (run / "metrics.jsonl").write_text(lines + '{"step": 20, "tr')
    (run / "config.yaml").write_text("train:\n  steps: 20\n")
    (folder / "report.html").write_text("x")
    summary = {"success_rate": 0.5, "success_low": 0.4, "success_high": 0.6, "episodes": 50}
    (folder / "summary.json").write_text(json.dumps(summary))
    assert view("home/bc/a b") == 0
    assert capsys.readouterr().out.strip() == str(run / "view.html")
    html = (run / "view.html").read_text()
    read = Reader(html)
    for piece in ("home/bc/a b", "val/loss", "0.400 to 0.600", "steps: 20", "lowest 0.05263"):
        assert piece in read.text
    assert "eval/home-step_5/report.html" in read.links
    assert html.count("<svg") == 3  # loss of train and val together, lr, action_error
    assert view("home/bc/a b", "--out", "elsewhere/page.html") == 0
    links = Reader(Path("elsewhere/page.html").read_text()).links
    assert "../runs/home/bc/a%20b/eval/home-step_5/report.html" in links


def test_a_damaged_metrics_line_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for bad in ("[1]", '{"loss": 1}', '{"step": "x"}', "{"):
        (tmp_path / "metrics.jsonl").write_text(f'{{"step": 1}}\n{bad}\n')
        assert view(str(tmp_path)) == 1
        assert "line 2: no measurements with a step" in capsys.readouterr().err


def test_wrong_use_says_how_to_repair_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_store(tmp_path / "home", episodes=2)
    for words, said in (
        (["nowhere"], "nothing to look at under 'nowhere'"),
        (["home", "--episodes", "-1"], "--episodes is -1"),
        (["home", "--out", "page.pdf"], "a page is HTML"),
        (["home", "--fps", "10"], "leave --fps out"),
    ):
        assert view(*words) == 2
        assert said in capsys.readouterr().err
    assert [each.name for each in tmp_path.iterdir()] == ["home"]


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "pictures", "pieces"),
    [
        ("pusht_cchi_v7/pusht_cchi_v7_replay.zarr.zip", 24, ["25\u202f650", "block.angle"]),
        ("g1_pick_bottle_lerobot_v21", 24, ["Pick up the yellow bottle", "97 have no table"]),
        ("bridge_rlds_sample/1.0.0", 72, ["widowx", "put carrot on plate", "gripper"]),
    ],
)
def test_real_recordings(real_data: Path, name: str, pictures: int, pieces: list[str]) -> None:
    assert view(str(real_data / name), "--out", "page.html") == 0
    read = Reader(Path("page.html").read_text())
    assert read.pictures == pictures
    for piece in pieces:
        assert piece in read.text
