"""Recordings on the Hugging Face hub, as `hf://owner/name@revision`, fetched once into a cache."""

import re
from dataclasses import dataclass
from pathlib import Path

from deft.errors import FormatError, need

SCHEME = "hf://"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class HubAddress:
    """A data set on the hub."""

    repo: str
    """`owner/name`."""
    revision: str = ""
    """Branch, tag or commit; empty for the default branch."""

    @staticmethod
    def parse(text: str) -> "HubAddress":
        """`hf://owner/name`, with `@revision` or without. Raises `FormatError` on anything else."""
        body = text.removeprefix(SCHEME).removeprefix("datasets/").rstrip("/")
        repo, at, revision = body.partition("@")
        if not text.startswith(SCHEME) or not _NAME.fullmatch(repo) or (at and not revision):
            raise FormatError(
                f"'{text}' is no data set on the hub.\n"
                "Fix: write hf://OWNER/NAME or hf://OWNER/NAME@REVISION."
            )
        return HubAddress(repo, revision)


def is_hub_address(text: str) -> bool:
    """Whether a command's word means the hub, and not a file."""
    return text.startswith(SCHEME)


def fetch(text: str) -> Path:
    """Download a data set from the hub, or find it in the hub's cache; returns its folder.

    The cache is the hub's own (`HF_HOME`), shared with other programs; what is there already is
    not sent again. A revision that is a commit and is there whole causes no request. The folder's
    name is the commit.

    Raises:
        FormatError: the address is wrong, the data set or revision does not exist or is closed to
            you, or the hub cannot be reached and the cache does not have it.
        MissingPackageError: `huggingface_hub` is not installed.
    """
    address = HubAddress.parse(text)
    hub = need("huggingface_hub", "hub")
    errors = need("huggingface_hub.errors", "hub")
    revision = address.revision or None
    try:
        return Path(hub.snapshot_download(address.repo, repo_type="dataset", revision=revision))
    except errors.GatedRepoError as error:
        raise _refused(text, "access to it must be asked for", error) from error
    except errors.RepositoryNotFoundError as error:
        raise FormatError(
            f"{text}: there is no such data set on the hub, or it is private.\n"
            f"Found: {_first_line(error)}.\n"
            "Fix: correct the name; for a private data set run `hf auth login` first."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise FormatError(
            f"{text}: the data set has no revision '{address.revision}'.\n"
            f"Found: {_first_line(error)}.\nFix: give a branch, tag or commit that it has."
        ) from error
    except errors.HfHubHTTPError as error:
        raise _refused(text, "the hub refuses it", error) from error
    # Without a network this is a FileNotFoundError; a connection that breaks later is another
    # exception of the HTTP client, of which they are all descendants of OSError or ours to name.
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, OSError) as error:
        raise _unreachable(text, error) from error
    except Exception as error:
        # The HTTP client differs between versions of the package, and its errors with it.
        if type(error).__module__.split(".")[0] not in ("httpx", "httpx2", "requests", "hf_xet"):
            raise
        raise _unreachable(text, error) from error


def _unreachable(text: str, error: Exception) -> FormatError:
    return FormatError(
        f"{text}: the hub cannot be reached, and the local cache does not have all of it.\n"
        f"Found: {_first_line(error)}.\n"
        "Fix: connect to the network (and unset HF_HUB_OFFLINE), or give the path of a copy."
    )


def _refused(text: str, what: str, error: Exception) -> FormatError:
    return FormatError(
        f"{text}: {what}.\nFound: {_first_line(error)}.\n"
        "Fix: open its page on the hub to see what it asks for, and run `hf auth login`."
    )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__
