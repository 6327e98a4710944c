"""What client and server say to each other; the words, without the sockets.

1. On connecting the server sends a `Welcome`: the contract, the bundle's digest, its limits.
2. The client sends observations: a map of feature names to arrays or text. Our own clients add a
   `Header` under `__deft__`; openpi's clients send none and are answered just so.
3. Each observation gets one reply: `{"actions": Tp A, "server_timing": {...}}` with the header
   given back, or an error with one of `CODES`. To a client without header an error goes as text.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any

import numpy as np

from deft.errors import SpecError, WireError
from deft.spec import Spec
from deft.wire.codec import Limits

PROTOCOL = "deft/1"
HEADER = "__deft__"
"""The key of a message's header; no feature may be called so."""

CODES = {
    "BAD_FRAME": "the message cannot be read",
    "CONTRACT": "features are missing or unknown, or another bundle is served now",
    "SHAPE": "an array has the wrong shape",
    "DTYPE": "an array has the wrong dtype",
    "NAN": "an array holds NaN or infinity",
    "LATE": "the budget was over before the answer was there",
    "BUSY": "too many requests are waiting",
    "MODEL": "the policy failed",
    "DRAINING": "the server is stopping",
}
"""Every code of an error reply."""

_ENVELOPE = 64 << 10


class ReplyError(WireError):
    """The server answered with an error instead of actions."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        """One of `CODES`."""
        self.text = text


@dataclass(frozen=True, kw_only=True)
class Header:
    """Says which question this is; the reply brings it back."""

    session: str
    """Given by the server on connecting."""
    episode: int
    """Counts the client's resets."""
    seq: int
    """Counts the client's requests."""
    step: int = 0
    """Absolute tick of the observation; row 0 of the reply is for this tick."""
    key: int = 0
    """The policy's draws depend on it and on nothing else of the request."""
    budget_ms: float = 0.0
    """From arrival; later the answer is of no use. 0 leaves it to the server."""
    bundle: str = ""
    """Digest of the bundle that the episode began with; empty takes any."""

    def to_wire(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_wire(data: Any) -> "Header":
        """Raises `WireError` for a malformed header; unknown keys are ignored."""
        if not isinstance(data, Mapping):
            raise WireError(f"'{HEADER}' must be a map.\nFound: {type(data).__name__}.")
        given: dict[str, Any] = {}
        for field in fields(Header):
            if field.name not in data and field.default is not MISSING:
                continue
            value = data.get(field.name)
            fits, wanted = _CHECKS[str(field.type)]
            if not fits(value):
                raise WireError(
                    f"'{HEADER}.{field.name}' is {str(value)[:40]!r}.\nFix: send {wanted}."
                )
            given[field.name] = value
        return Header(**given)


_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    str(str): (
        lambda value: type(value) is str and len(value) <= 128,
        "a text of at most 128 characters",
    ),
    str(int): (
        lambda value: type(value) is int and 0 <= value < 1 << 63,
        "a whole number from 0 to 2^63 - 1",
    ),
    str(float): (
        lambda value: type(value) in (int, float) and 0 <= value < 1e9,
        "milliseconds, 0 or more",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Welcome:
    """The server's first message."""

    spec: Spec
    """The contract: what goes in and what comes out."""
    bundle: str
    """Digest of what is served; empty when it is no bundle."""
    name: str
    """What is served, for people."""
    session: str
    mailbox: int
    """Requests of one client that may wait at a time."""
    server: str
    """Program and version, for people."""

    def to_wire(self) -> dict[str, Any]:
        return {
            "protocol": PROTOCOL,
            "server": self.server,
            "name": self.name,
            "bundle": self.bundle,
            "contract": self.spec.to_json(),
            "contract_digest": self.spec.digest(),
            "session": self.session,
            "mailbox": self.mailbox,
            "max_message_bytes": request_limits(self.spec).max_bytes,
        }

    @staticmethod
    def from_wire(data: Any) -> "Welcome":
        """Raises `WireError` when it is not the first message of a server of this protocol."""
        found = data.get("protocol") if isinstance(data, Mapping) else None
        if found != PROTOCOL:
            raise WireError(
                f"The server does not speak {PROTOCOL}.\n"
                f"Found: {str(found)[:40]!r} as the protocol of its first message.\n"
                "Fix: connect to `deft serve` of this version."
            )
        try:
            spec = Spec.from_json(data["contract"])
            texts = {key: data[key] for key in ("bundle", "name", "session", "server")}
            mailbox, digest = data["mailbox"], data["contract_digest"]
        except (KeyError, SpecError) as error:
            raise WireError(f"The server's contract cannot be read: {error}.") from error
        if digest != spec.digest():
            raise WireError(
                "The server's contract does not match its digest.\n"
                "Fix: run the same version of deft on both sides."
            )
        if not all(type(text) is str for text in texts.values()) or type(mailbox) is not int:
            raise WireError("The server's first message has a field of the wrong type.")
        return Welcome(spec=spec, mailbox=max(1, mailbox), **texts)


def reply(
    header: Header, actions: Any, timing: Mapping[str, float], bundle: str, start_tick: int
) -> dict[str, Any]:
    """The message that answers one of our own clients; `actions` is float32 `Tp A`."""
    back = header.to_wire() | {"bundle": bundle, "step": header.step + start_tick}
    return {"actions": actions, "server_timing": dict(timing), HEADER: back}


def error_reply(header: Header, error: ReplyError) -> dict[str, Any]:
    """The message that refuses one of our own clients."""
    assert error.code in CODES
    return {"error": {"code": error.code, "text": error.text}, HEADER: header.to_wire()}


def request_limits(spec: Spec) -> Limits:
    """What a server takes for one observation of this contract.

    Numbers may come twice as wide, so that a wrong dtype is answered and not cut off.
    """
    ticks = spec.horizons.obs_horizon if spec.horizons else 1
    inputs = [feature for feature in spec.features if feature.role != "action"]
    texts = sum(1 for feature in inputs if feature.dtype == "str")
    sizes = {
        feature: ticks * max(map(math.prod, feature.shapes)) * np.dtype(feature.dtype).itemsize
        for feature in inputs
        if feature.dtype != "str"
    }
    pictures = sum(size for feature, size in sizes.items() if feature.is_frame)
    numbers = sum(sizes.values()) - pictures
    # A JPEG of pure noise at the highest quality is a little larger than its pixels.
    total = pictures + pictures // 4 + 2 * numbers + texts * _ENVELOPE + _ENVELOPE
    # Reading a message decodes no picture, so a wrong size may be answered as well.
    return Limits(max_bytes=total, max_picture_bytes=max(pictures, 64 << 20))


def reply_limits(spec: Spec) -> Limits:
    """What a client takes for one reply of this contract."""
    ticks = spec.horizons.pred_horizon if spec.horizons else 1
    return Limits(max_bytes=4 * ticks * spec.action().size + _ENVELOPE, max_picture_bytes=0)


def welcome_limits() -> Limits:
    """What a client takes for the first message."""
    return Limits(max_bytes=4 << 20, max_items=1 << 16, max_depth=12, max_picture_bytes=0)
