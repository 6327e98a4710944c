"""Addresses on the hub, and what its client's errors become."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from deft.errors import FormatError, MissingPackageError
from deft.formats import hub


@pytest.mark.parametrize(
    ("text", "repo", "revision"),
    [
        ("hf://owner/name", "owner/name", ""),
        ("hf://owner/my-data.v2@v1.0", "owner/my-data.v2", "v1.0"),
        ("hf://datasets/owner/name@refs/pr/3", "owner/name", "refs/pr/3"),
        ("hf://owner/name/", "owner/name", ""),
    ],
)
def test_addresses_are_read(text: str, repo: str, revision: str) -> None:
    assert hub.is_hub_address(text)
    assert hub.HubAddress.parse(text) == hub.HubAddress(repo, revision)


@pytest.mark.parametrize(
    "text",
    ["hf://", "hf://name", "hf://a/b/c", "hf://a/b@", "hf://../b", "hf:/a/b", "a/b", "hf://a/ b"],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(FormatError, match="hf://OWNER/NAME"):
        hub.HubAddress.parse(text)


def test_a_missing_client_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingPackageError, match=r"deft-robotics\[hub\]"):
        hub.fetch("hf://owner/name")


class _Errors(ModuleType):
    """The exceptions of the client, in their order of descent."""

    class HfHubHTTPError(OSError): ...

    class RepositoryNotFoundError(HfHubHTTPError): ...

    class GatedRepoError(RepositoryNotFoundError): ...

    class RevisionNotFoundError(HfHubHTTPError): ...

    class LocalEntryNotFoundError(FileNotFoundError): ...

    class OfflineModeIsEnabled(ConnectionError): ...  # noqa: N818


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., Any]], None]:
    def install(download: Callable[..., Any]) -> None:
        module = ModuleType("huggingface_hub")
        module.snapshot_download = download  # pyright: ignore[reportAttributeAccessIssue]
        monkeypatch.setitem(sys.modules, "huggingface_hub", module)
        monkeypatch.setitem(sys.modules, "huggingface_hub.errors", _Errors("errors"))

    return install


def test_the_snapshot_is_asked_for_as_a_data_set(client: Any, tmp_path: Path) -> None:
    asked: list[Any] = []

    def download(*words: Any, **named: Any) -> str:
        asked.append((words, named))
        return str(tmp_path)

    client(download)
    assert hub.fetch("hf://owner/name@v2") == tmp_path
    assert hub.fetch("hf://owner/name") == tmp_path
    assert asked == [
        (("owner/name",), {"repo_type": "dataset", "revision": "v2"}),
        (("owner/name",), {"repo_type": "dataset", "revision": None}),
    ]


class _Cut(Exception):  # noqa: N818
    """What an HTTP client raises when a connection breaks."""

    __module__ = "httpx._exceptions"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (_Errors.GatedRepoError("ask first"), "must be asked for"),
        (_Errors.RepositoryNotFoundError("404"), "no such data set"),
        (_Errors.RevisionNotFoundError("404"), "no revision 'v2'"),
        (
            _Errors.HfHubHTTPError("503\nfor url"),
            "the hub refuses it.\nFound: HfHubHTTPError: 503.",
        ),
        (_Errors.LocalEntryNotFoundError("offline"), "cannot be reached"),
        (_Errors.OfflineModeIsEnabled("offline"), "HF_HUB_OFFLINE"),
        (ConnectionResetError("gone"), "cannot be reached"),
        (_Cut("gone"), "cannot be reached"),
    ],
)
def test_errors_say_what_to_do(client: Any, error: Exception, words: str) -> None:
    def download(*_: Any, **__: Any) -> str:
        raise error

    client(download)
    with pytest.raises(FormatError, match="Fix:") as caught:
        hub.fetch("hf://owner/name@v2")
    assert words in str(caught.value)
    assert "hf://owner/name@v2" in str(caught.value)


def test_other_errors_are_not_hidden(client: Any) -> None:
    def download(*_: Any, **__: Any) -> str:
        raise ZeroDivisionError

    client(download)
    with pytest.raises(ZeroDivisionError):
        hub.fetch("hf://owner/name")
