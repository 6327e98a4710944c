"""The real `huggingface_hub` against a stand-in for the hub on this machine."""

from pathlib import Path
from typing import Any

import pytest

from suites.hub_server import COMMIT, HubServer, hub_server
from suites.peers import ROOT, peer_program, run_peer

pytestmark = pytest.mark.peer

FETCH = """
import json, os, sys
root, url, home, offline, *addresses = sys.argv[1:]
os.environ |= {"HF_ENDPOINT": url, "HF_HOME": home, "HF_HUB_DISABLE_TELEMETRY": "1"}
os.environ |= {"HF_HUB_OFFLINE": offline, "HF_HUB_DISABLE_XET": "1"}
sys.path.insert(0, root)
from deft.errors import DeftError
from deft.formats import hub
found = []
for address in addresses:
    try:
        found.append(str(hub.fetch(address)))
    except DeftError as error:
        found.append(f"{type(error).__name__}: {error}")
print(json.dumps(found))
"""


def fetch(server_url: str, home: Path, *addresses: str, offline: bool = False) -> list[str]:
    words: list[Any] = [ROOT, server_url, home, int(offline), *addresses]
    return run_peer(peer_program("hub"), FETCH, *words)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data/meta").mkdir(parents=True)
    (tmp_path / "data/meta/info.json").write_text('{"codebase_version": "v2.1"}')
    (tmp_path / "data/big.bin").write_bytes(bytes(range(256)) * 4000)
    return tmp_path / "data"


def same(one: Path, other: Path) -> bool:
    names = [p.relative_to(one) for p in sorted(one.rglob("*")) if p.is_file()]
    assert names == [p.relative_to(other) for p in sorted(other.rglob("*")) if p.is_file()]
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in names)


def downloads(server: HubServer) -> list[str]:
    return [each for each in server.asked if each.startswith("GET") and "/resolve/" in each]


def test_a_data_set_is_fetched_once(folder: Path, tmp_path: Path) -> None:
    with hub_server(folder) as server:
        first, again = fetch(
            server.url, tmp_path / "home", "hf://owner/name", "hf://owner/name@main"
        )
        assert len(downloads(server)) == 2
        assert Path(first).name == COMMIT
        assert again == first
        assert same(folder, Path(first))
        before = len(server.asked)
        assert fetch(server.url, tmp_path / "home", f"hf://owner/name@{COMMIT}") == [first]
        assert server.asked[before:] == []
        assert fetch(server.url, tmp_path / "home", "hf://owner/name", offline=True) == [first]
        assert server.asked[before:] == []
    assert fetch(server.url, tmp_path / "home", "hf://owner/name") == [first]


def test_what_is_not_there_is_said(folder: Path, tmp_path: Path) -> None:
    with hub_server(folder) as server:
        nobody, revision = fetch(
            server.url, tmp_path / "home", "hf://nobody/nothing", "hf://owner/name@v9"
        )
    assert "no such data set" in nobody
    assert "no revision 'v9'" in revision


def test_offline_is_said(folder: Path, tmp_path: Path) -> None:
    with hub_server(folder) as server:
        (asked_not,) = fetch(server.url, tmp_path / "home", "hf://owner/name", offline=True)
        assert server.asked == []
    (unreachable,) = fetch(server.url, tmp_path / "home", "hf://owner/name")
    for said in (asked_not, unreachable):
        assert said.startswith("FormatError: hf://owner/name: the hub cannot be reached")


def test_a_download_that_broke_is_not_taken_for_whole(folder: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with hub_server(folder) as server:
        server.refuse["big.bin"] = 500
        (broken,) = fetch(server.url, home, "hf://owner/name")
        assert broken.startswith("FormatError")
        (offline,) = fetch(server.url, home, "hf://owner/name", offline=True)
        assert offline.startswith("FormatError")
        server.refuse.clear()
        (whole,) = fetch(server.url, home, "hf://owner/name")
    assert same(folder, Path(whole))
