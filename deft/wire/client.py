"""The client: an `Actor` whose policy runs behind a socket."""

import contextlib
import ipaddress
import ssl
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

import numpy as np

from deft import spec
from deft.errors import ConfigError, DeftError, ShapeError, SpecError, WireError, need
from deft.spec import ActionChunk, Observation, Spec
from deft.wire import codec, protocol
from deft.wire.protocol import Header, ReplyError, Welcome

CONNECT_S, HANDSHAKE_S = 2.0, 3.0
PING_S, PING_ANSWER_S, CLOSE_S = 0.5, 1.0, 0.2
"""A peer is asked for a sign of life every half second and is dead when it gives none for one
more: a pulled cable is noticed after 1.5 s. The library's own defaults take 50 s."""

_ERRORS: dict[str, type[DeftError]] = {
    "CONTRACT": SpecError,
    "SHAPE": ShapeError,
    "DTYPE": ShapeError,
    "NAN": ShapeError,
}
"""Errors that the same observation would raise in process come back as what they are there."""


def connect(
    url: str,
    *,
    timeout_s: float = 10.0,
    token: str | None = None,
    images: Literal["auto", "raw", "jpeg"] = "auto",
    jpeg_quality: int = 90,
    ca_file: str | None = None,
) -> "RemoteActor":
    """Connect to a policy server and learn its contract.

    Args:
        url: `ws://host:port`, `wss://host:port` or `unix:///path/to/socket`.
        timeout_s: how long to wait for each reply; the server learns it as the request's budget.
        token: what `deft serve --token-file` asks for.
        images: `raw` sends pixels as they are; `jpeg` sends colour pictures compressed, which
            **changes them slightly** and takes about 1 ms, but a tenth of the bytes; `auto` is
            `raw` to this machine and `jpeg` to any other.
        jpeg_quality: 1 to 100.
        ca_file: certificates to trust for `wss://`; None takes the system's.

    Raises:
        ConfigError: an argument is malformed.
        WireError: nobody answers in time, the token is refused, or it is another protocol.
    """
    if not timeout_s > 0:
        raise ConfigError(f"timeout_s is {timeout_s!r}.\nFix: give seconds above 0.")
    if images not in ("auto", "raw", "jpeg") or not 1 <= jpeg_quality <= 100:
        raise ConfigError(
            f"images is {images!r} with quality {jpeg_quality!r}.\n"
            "Fix: set images to auto, raw or jpeg, and the quality to 1 to 100."
        )
    address = _Address.parse(url, token, ca_file)
    lossy = images == "jpeg" or (images == "auto" and not address.is_local)
    return RemoteActor(address, timeout_s, jpeg_quality if lossy else None)


class RemoteActor:
    """A policy behind a connection; use `connect` to get one. For one thread at a time.

    Requests carry session, episode and number; a reply to another question is dropped and counted
    in `dropped`. When the connection is lost, every call raises `WireError` until `reset` makes a
    new one: an episode never goes on with a policy that may be another.
    """

    def __init__(self, address: "_Address", timeout_s: float, jpeg_quality: int | None) -> None:
        self.dropped = 0
        """Replies that answered no open question: late, repeated, or foreign."""
        self.timing: dict[str, float] = {}
        """What the server measured for the last reply, and `round_trip_ms` measured here."""
        self._address = address
        self._timeout_s = timeout_s
        self._jpeg_quality = jpeg_quality
        self._episode = 0
        self._seq = 0
        self._calls = 0
        self._stack = contextlib.ExitStack()
        self._connection: Any = None
        self._welcome = self._open()

    @property
    def spec(self) -> Spec:
        """The contract that the server announced."""
        return self._welcome.spec

    @property
    def bundle(self) -> str:
        """Digest of the bundle behind the connection; empty when it serves none."""
        return self._welcome.bundle

    @property
    def name(self) -> str:
        """What is served, for people."""
        return self._welcome.name

    def check(self, have: Spec) -> None:
        """Compare what a robot or simulator has with the contract.

        Raises `SpecError` that lists every difference with its fix.
        """
        spec.check(have, self.spec, f"This side against the contract of {self._address.url}")

    def reset(self) -> None:
        """Begin a new episode; connects anew when the connection is lost.

        Raises `WireError` when nobody answers, `SpecError` when the contract changed meanwhile.
        """
        if self._connection is None or self._connection.protocol.state.name != "OPEN":
            self.close()
            welcome = self._open()
            if welcome.spec.digest() != self._welcome.spec.digest():
                self.close()
                spec.check(welcome.spec, self._welcome.spec, f"{self._address.url} after a restart")
                raise SpecError(
                    f"{self._address.url}: after a restart the contract is another.\n"
                    "Fix: connect again, and check the contract."
                )
            self._welcome = welcome
        self._episode += 1
        self._calls = 0

    def act(self, observation: Observation) -> ActionChunk:
        """One chunk for one observation; see `spec.Actor`. Raises as `act_many` does."""
        self._calls += 1
        return self.act_many([observation], [self._calls - 1])[0]

    def act_many(
        self, observations: Sequence[Observation], keys: Sequence[int]
    ) -> list[ActionChunk]:
        """One chunk per observation; several are under way at a time.

        Raises:
            ShapeError, SpecError: an observation does not fit the contract, or the server says so.
            ReplyError: the server refuses for another reason; see `wire.CODES`.
            WireError: no reply in time, or the connection is lost.
        """
        if len(observations) != len(keys):
            raise ShapeError(f"{len(observations)} observations come with {len(keys)} keys.")
        for index, observation in enumerate(observations):
            where = f"Observation {index}"
            spec.check_observation(observation, self.spec, where, recorded_sizes=True)
        chunks: dict[int, ActionChunk] = {}
        waiting: dict[int, tuple[int, float]] = {}
        refused: list[DeftError] = []
        sent = 0
        while waiting or sent < len(keys):
            if sent < len(keys) and len(waiting) < self._welcome.mailbox:
                waiting[self._send(observations[sent], keys[sent])] = (sent, time.monotonic())
                sent += 1
                continue
            answered, message = self._receive(waiting)
            index, asked = waiting.pop(answered)
            try:
                chunks[index] = self._chunk(message)
            except DeftError as error:  # raised when nothing is under way any more
                refused.append(error)
            self.timing["round_trip_ms"] = 1e3 * (time.monotonic() - asked)
        if refused:
            raise refused[0]
        return [chunks[index] for index in range(len(keys))]

    def close(self) -> None:
        """Leave the server; at most 0.2 s. Calling it twice does no harm."""
        self._connection = None
        self._stack.close()

    def __enter__(self) -> "RemoteActor":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> Welcome:
        with contextlib.ExitStack() as stack:
            connection = stack.enter_context(self._address.open())
            with self._talking("on connecting"):
                first = connection.recv(timeout=HANDSHAKE_S)
            if isinstance(first, str):
                raise WireError(f"{self._address.url}: the first message is text, no contract.")
            welcome = Welcome.from_wire(codec.decode(first, protocol.welcome_limits()))
            self._connection, self._stack = connection, stack.pop_all()
        return welcome

    def _send(self, observation: Observation, key: int) -> int:
        self._seq += 1
        header = Header(
            session=self._welcome.session,
            episode=self._episode,
            seq=self._seq,
            key=int(key),
            budget_ms=1e3 * self._timeout_s,
            bundle=self._welcome.bundle,
        )
        message = {name: self._packed(name, value) for name, value in observation.items()}
        with self._talking("while sending"):
            self._live().send(codec.encode(message | {protocol.HEADER: header.to_wire()}))
        return self._seq

    def _packed(self, name: str, value: Any) -> Any:
        feature = self.spec[name]
        is_picture = feature.role == "image" and feature.channels == 3 and feature.dtype == "uint8"
        if self._jpeg_quality is not None and is_picture:
            return codec.Jpeg.of(value, self._jpeg_quality)
        return value

    def _receive(self, waiting: dict[int, tuple[int, float]]) -> tuple[int, dict[str, Any]]:
        """The next reply to one of the open questions, with its number."""
        limits = protocol.reply_limits(self.spec)
        deadline = time.monotonic() + self._timeout_s
        while True:
            with self._talking("while waiting for a reply"):
                data = self._live().recv(timeout=max(0.0, deadline - time.monotonic()))
            if isinstance(data, str):
                raise WireError(f"{self._address.url} refuses: {data[:2000]}")
            message = codec.decode(data, limits)
            back = message.get(protocol.HEADER) if isinstance(message, dict) else None
            header = Header.from_wire(back)
            here = (self._welcome.session, self._episode)
            if (header.session, header.episode) == here and header.seq in waiting:
                return header.seq, message
            self.dropped += 1

    def _chunk(self, message: dict[str, Any]) -> ActionChunk:
        error = message.get("error")
        if isinstance(error, dict):
            code, text = str(error.get("code")), str(error.get("text"))[:4000]
            where = f"{self._address.url} answers {code}"
            if code in _ERRORS:
                raise _ERRORS[code](f"{where}: {text}")
            raise ReplyError(code, f"{text}\nAnswered by {self._address.url}.")
        rows = self.spec.horizons.pred_horizon if self.spec.horizons else None
        width = self.spec.action().size
        try:
            actions = spec.expect(
                message.get("actions"), (rows, width), "float32", "Reply", finite=True
            )
        except ShapeError as wrong:
            raise WireError(f"{self._address.url} breaks its contract. {wrong}") from wrong
        timing = message.get("server_timing")
        if isinstance(timing, dict):
            self.timing = {str(k): float(v) for k, v in timing.items() if type(v) in (int, float)}
        start = Header.from_wire(message[protocol.HEADER]).step
        return ActionChunk(np.array(actions), start_tick=start)

    def _live(self) -> Any:
        if self._connection is None:
            raise WireError(
                f"{self._address.url}: the connection was lost or closed before.\n"
                "Fix: call `reset()`, which connects anew and begins a new episode."
            )
        return self._connection

    @contextlib.contextmanager
    def _talking(self, when: str) -> Generator[None]:
        """Turns what the library raises into `WireError`, and forgets a connection that is gone."""
        exceptions = need("websockets.exceptions", "client")
        try:
            yield
        except WireError:
            raise
        except TimeoutError as error:
            raise WireError(
                f"{self._address.url}: no answer in time {when}.\n"
                f"Found: nothing in {self._timeout_s:g} s.\n"
                "Fix: raise `timeout_s`, or look at the server's /metrics."
            ) from error
        except (OSError, exceptions.ConnectionClosed) as error:
            self.close()
            raise WireError(
                f"{self._address.url}: the connection is lost {when}.\nFound: {error}.\n"
                "Fix: call `reset()` when the server is there again; it begins a new episode."
            ) from error


_REFUSALS = {
    401: ("the token is missing or wrong", "give the one that `deft serve --token-file` has"),
    503: ("the server is full or stopping", "try again later"),
}


@dataclass(frozen=True)
class _Address:
    """Where a server is, and how to get in."""

    url: str
    path: str
    """Of a unix socket; empty for TCP."""
    is_local: bool
    token: str | None
    ca_file: str | None

    @staticmethod
    def parse(url: str, token: str | None, ca_file: str | None) -> "_Address":
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            parts, host, port = urlsplit(""), "", None
        if parts.scheme == "unix" and not parts.netloc and parts.path:
            return _Address(url, parts.path, True, token, ca_file)
        if parts.scheme not in ("ws", "wss") or not host or parts.path not in ("", "/"):
            raise ConfigError(
                f"'{url}' is no address of a policy server.\n"
                "Fix: write ws://host:port, wss://host:port or unix:///path/to/socket."
            )
        shown = f"[{host}]" if ":" in host else host
        default = 443 if parts.scheme == "wss" else 80
        return _Address(
            f"{parts.scheme}://{shown}:{port or default}", "", is_loopback(host), token, ca_file
        )

    def open(self) -> Any:
        """A connection as a context manager."""
        need("websockets", "client")
        from websockets.exceptions import InvalidHandshake, InvalidStatus
        from websockets.sync.client import connect, unix_connect

        options: dict[str, Any] = {
            "compression": None,
            "max_size": protocol.welcome_limits().max_bytes,
            "open_timeout": CONNECT_S,
            "ping_interval": PING_S,
            "ping_timeout": PING_ANSWER_S,
            "close_timeout": CLOSE_S,
        }
        if self.token:
            options["additional_headers"] = {"Authorization": f"Bearer {self.token}"}
        if self.url.startswith("wss:"):
            try:
                options["ssl"] = ssl.create_default_context(cafile=self.ca_file)
            except OSError as error:
                raise ConfigError(f"{self.ca_file}: cannot be read: {error}.") from error
        try:
            if self.path:
                return unix_connect(self.path, **options)
            return connect(self.url, proxy=None, **options)
        except InvalidStatus as error:
            status = error.response.status_code
            why, fix = _REFUSALS.get(status, ("no policy server", "check host and port"))
            raise WireError(
                f"{self.url} refuses the connection.\nFound: HTTP {status}, {why}.\nFix: {fix}."
            ) from error
        except (OSError, InvalidHandshake, TimeoutError) as error:
            raise WireError(
                f"{self.url}: no policy server answers.\nFound: {error or type(error).__name__}.\n"
                "Fix: start one with `deft serve BUNDLE`, or check host and port."
            ) from error


def is_loopback(host: str) -> bool:
    """True for names and addresses that lead to this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
