"""One conversation with one client: read, check, hand to the worker, reply."""

import asyncio
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from deft import spec, wire
from deft.errors import ShapeError, SpecError, WireError
from deft.serve.config import ServeConfig
from deft.serve.metrics import Metrics
from deft.serve.worker import Answer, Worker
from deft.spec import Observation, Spec
from deft.transforms import fit_pictures
from deft.wire import Header, Jpeg, ReplyError, Welcome

FRAME_S = 1.0
"""A message of several frames must be whole this soon after its first."""
SEND_S = 1.0
"""A client that does not take a reply for so long is cut off."""


class Front:
    """Talks to all clients on one event loop; everything slow happens elsewhere.

    It keeps nothing of an episode: what a request needs travels with it.
    """

    def __init__(
        self,
        welcome: Welcome,
        worker: Worker,
        config: ServeConfig,
        metrics: Metrics,
        decoders: ThreadPoolExecutor,
    ) -> None:
        self.metrics = metrics
        self.is_draining = False
        self._welcome = welcome
        self._worker = worker
        self._config = config
        self._decoders = decoders
        self._limits = wire.request_limits(welcome.spec)
        self._running: set[asyncio.Task[None]] = set()

    @property
    def is_full(self) -> bool:
        return self.metrics.connections >= self._config.max_connections

    async def drain(self, seconds: float) -> None:
        """Refuse new requests and give running ones some time to be answered."""
        self.is_draining = True
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)

    async def talk(self, socket: Any) -> None:
        """Serve one connection until it ends."""
        from websockets.exceptions import ConnectionClosed

        client = _Client(socket, secrets.token_hex(8))
        self.metrics.connections += 1
        try:
            welcome = replace(self._welcome, session=client.session).to_wire()
            await self._send(client, wire.encode(welcome))
            while True:
                await self._hear(client, await self._receive(client))
        except ConnectionClosed as error:
            if error.sent is not None and error.sent.code == 1009:
                self.metrics.refused["oversize"] += 1
        except _Slow:
            self.metrics.refused["slow"] += 1
            socket.transport.abort()
        finally:
            self.metrics.connections -= 1
            for task in client.tasks:
                task.cancel()

    async def _receive(self, client: "_Client") -> bytes | str:
        """One whole message. A client may be silent, but not in the middle of a message."""
        frames = client.socket.recv_streaming()
        parts = [await anext(frames)]
        try:
            async with asyncio.timeout(FRAME_S):
                async for frame in frames:
                    parts.append(frame)
        except TimeoutError:
            raise _Slow from None
        return parts[0] if len(parts) == 1 else parts[0][:0].join(parts)

    async def _hear(self, client: "_Client", message: bytes | str) -> None:
        arrived = time.monotonic()
        header: Header | None = None
        try:
            if isinstance(message, str):
                raise WireError("A text came, wanted binary messages.")
            tree = wire.decode(message, self._limits)
            if not isinstance(tree, dict) or not all(isinstance(key, str) for key in tree):
                raise WireError("An observation must be a map of feature names.")
            if wire.HEADER in tree:
                header = Header.from_wire(tree.pop(wire.HEADER))
        except WireError as error:
            await self._refuse(client, None, ReplyError("BAD_FRAME", str(error)))
            await client.socket.close(1007, "BAD_FRAME")
            return
        try:
            if self.is_draining:
                raise ReplyError("DRAINING", "The server is stopping.")
            if client.waiting >= self._config.mailbox:
                raise ReplyError("BUSY", f"{self._config.mailbox} requests are waiting already.")
            observation = _accept(tree, self._welcome, header)
        except ReplyError as error:
            await self._refuse(client, header, error)
            return
        key = client.unkeyed if header is None else header.key
        client.unkeyed += header is None
        client.waiting += 1
        task = asyncio.create_task(self._answer(client, header, observation, key, arrived))
        for tasks in (client.tasks, self._running):
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    async def _answer(
        self,
        client: "_Client",
        header: Header | None,
        observation: Observation,
        key: int,
        arrived: float,
    ) -> None:
        from websockets.exceptions import ConnectionClosed

        budget_ms = (header.budget_ms if header else 0.0) or self._config.budget_ms
        deadline = arrived + 1e-3 * budget_ms
        try:
            answer = await self._ask(observation, key, arrived, deadline)
        except ReplyError as error:
            answer = error
        client.waiting -= 1  # before the reply: the client may ask again as soon as it has it
        try:
            if isinstance(answer, ReplyError):
                await self._refuse(client, header, answer)
                return
            await self._send(client, wire.encode(self._reply(header, answer)))
        except ConnectionClosed:
            return
        except _Slow:
            self.metrics.refused["slow"] += 1
            client.socket.transport.abort()
            return
        self.metrics.replies["OK"] += 1
        self.metrics.total.observe(time.monotonic() - arrived)

    async def _ask(
        self, observation: Observation, key: int, arrived: float, deadline: float
    ) -> Answer:
        contract = self._welcome.spec
        if _has_work(observation, contract):
            loop = asyncio.get_running_loop()
            observation = await loop.run_in_executor(self._decoders, _pixels, observation, contract)
        check(observation, contract)
        future = self._worker.submit(observation, key, arrived, deadline)
        answer = await asyncio.wrap_future(future)
        if time.monotonic() > deadline:
            raise ReplyError("LATE", "The budget was over while the policy ran.")
        return answer

    def _reply(self, header: Header | None, answer: Answer) -> dict[str, Any]:
        timing = {
            "infer_ms": 1e3 * answer.model_s,
            "queue_ms": 1e3 * answer.queue_s,
            "batch": float(answer.batch),
        }
        chunk = answer.chunk
        if header is None:
            return {"actions": chunk.actions, "server_timing": timing}
        return wire.reply(header, chunk.actions, timing, self._welcome.bundle, chunk.start_tick)

    async def _refuse(self, client: "_Client", header: Header | None, error: ReplyError) -> None:
        self.metrics.replies[error.code] += 1
        if header is None:  # openpi's client raises what comes as text
            await self._send(client, str(error))
        else:
            await self._send(client, wire.encode(wire.error_reply(header, error)))

    async def _send(self, client: "_Client", message: bytes | str) -> None:
        try:
            async with asyncio.timeout(SEND_S):
                await client.socket.send(message)
        except TimeoutError:
            raise _Slow from None


class _Client:
    def __init__(self, socket: Any, session: str) -> None:
        self.socket = socket
        self.session = session
        self.waiting = 0
        """Requests that are not answered yet."""
        self.unkeyed = 0
        """Requests without header so far; their draws follow it."""
        self.tasks: set[asyncio.Task[None]] = set()


class _Slow(Exception):  # noqa: N818 (never leaves this module)
    """The client does not keep up."""


def check(observation: Observation, contract: Spec) -> None:
    """Raise `ReplyError` with the fitting code when an observation breaks the contract."""
    try:
        spec.check_observation(observation, contract, "Request")
    except SpecError as error:
        raise ReplyError("CONTRACT", str(error)) from error
    except ShapeError as error:
        raise ReplyError(_code_of(observation, contract), str(error)) from error


def _code_of(observation: Observation, contract: Spec) -> str:
    """Why the first wrong feature is wrong."""
    ticks = contract.horizons.obs_horizon if contract.horizons else 1
    for feature in contract.features:
        value = observation.get(feature.name)
        if feature.role == "action" or (feature.dtype == "str" and isinstance(value, str)):
            continue
        if not isinstance(value, np.ndarray) or feature.dtype == "str":
            return "DTYPE"
        if value.shape != (ticks, *feature.shape):
            return "SHAPE"
        if value.dtype.name != feature.dtype:
            return "DTYPE"
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            return "NAN"
    return "SHAPE"


def _accept(tree: dict[str, Any], welcome: Welcome, header: Header | None) -> Observation:
    """The request as an observation, checked as far as can be done before decoding pictures."""
    contract = welcome.spec
    if header is None:
        tree = _from_openpi(tree, contract)
    elif header.bundle and header.bundle != welcome.bundle:
        raise ReplyError(
            "CONTRACT",
            f"The episode began with bundle {header.bundle[:12]}, {welcome.bundle[:12]} is "
            "served now.\nFix: begin a new episode.",
        )
    ticks = contract.horizons.obs_horizon if contract.horizons else 1
    sizes = {f.name: [(ticks, *shape) for shape in f.shapes] for f in contract.role("image")}
    for name, value in tree.items():
        if isinstance(value, Jpeg) and value.shape not in sizes.get(name, ()):
            raise ReplyError(
                "SHAPE" if name in sizes else "CONTRACT",
                f"Request, '{name}': JPEG pictures of shape {value.shape}.\n"
                f"Found in the contract: pictures {sizes}.\n"
                "Fix: give pictures of the names and sizes that the contract asks for.",
            )
    return tree


def _from_openpi(tree: dict[str, Any], contract: Spec) -> Observation:
    """What openpi's client sends, in our words.

    It has no axis of ticks, and calls the instruction `prompt` whether or not the policy listens.
    """
    observation = dict(tree)
    spoken = [f.name for f in contract.features if f.dtype == "str"]
    if "prompt" in observation and "prompt" not in contract:
        prompt = observation.pop("prompt")
        if len(spoken) == 1:
            observation.setdefault(spoken[0], prompt)
    ticks = contract.horizons.obs_horizon if contract.horizons else 1
    for name, value in observation.items():
        single = ticks == 1 and isinstance(value, np.ndarray) and name in contract
        if single and value.shape in contract[name].shapes:
            observation[name] = value[None]
    return observation


def _has_work(observation: Observation, contract: Spec) -> bool:
    """Whether a picture must be decoded, or resized as the training data was."""
    sizes = {f.name: f.shapes[1:] for f in contract.features if f.resized}
    return any(
        isinstance(value, Jpeg)
        or (isinstance(value, np.ndarray) and value.shape[1:] in sizes.get(name, ()))
        for name, value in observation.items()
    )


def _pixels(observation: Observation, contract: Spec) -> Observation:
    try:
        decoded = {
            name: value.pixels() if isinstance(value, Jpeg) else value
            for name, value in observation.items()
        }
    except WireError as error:
        raise ReplyError("BAD_FRAME", str(error)) from error
    return fit_pictures(decoded, contract)
