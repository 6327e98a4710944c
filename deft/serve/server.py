"""The server: sockets, checks and answers on one event loop, the model elsewhere."""

import asyncio
import contextlib
import errno
import logging
import signal
import socket
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from deft import __version__, wire
from deft.errors import WireError, need
from deft.serve.config import ServeConfig, tls
from deft.serve.endpoints import Endpoints
from deft.serve.front import Front
from deft.serve.metrics import Metrics
from deft.serve.worker import Worker
from deft.spec import Actor, Observation

HANDSHAKE_S, PING_S, PING_ANSWER_S, CLOSE_S = 3.0, 2.0, 5.0, 0.2


class Server:
    """Hosts an actor behind the protocol of `deft.wire`, once.

    Args:
        actor: any `spec.Actor`; its `act_many` runs in the server's worker thread only.
        config: where and how to listen.
        name: what is served, for people.
        bundle: digest of the bundle; requests that name another one are refused. May be empty.
        example: an observation to warm up with, see `Worker`.
    """

    def __init__(
        self,
        actor: Actor,
        config: ServeConfig,
        *,
        name: str = "",
        bundle: str = "",
        example: Observation | None = None,
    ) -> None:
        self.config = config
        self.metrics = Metrics(tuple(wire.CODES), config.max_batch)
        self._worker = Worker(actor, config.max_batch, self.metrics, example)
        self._stop: Future[None] = Future()
        self._welcome = wire.Welcome(
            spec=actor.spec,
            bundle=bundle,
            name=name,
            session="",
            mailbox=config.mailbox,
            server=f"deft {__version__}",
        )

    async def run(self, ready: Callable[[str], None]) -> None:
        """Warm up, listen until `stop` is called, then answer what runs and leave.

        Args:
            ready: called once with the URL when the first client may come.

        Raises:
            WireError: the address cannot be listened on.
        """
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(None, self._worker.start)
            with ThreadPoolExecutor(2, "deft-decode") as decoders:
                front = Front(self._welcome, self._worker, self.config, self.metrics, decoders)
                async with self._listening(front) as server:
                    ready(self._url(server))
                    await asyncio.wrap_future(self._stop)
                    await front.drain(self.config.drain_s)
        finally:
            # Joining waits for the batch that runs, which is bounded by the model's own time.
            await loop.run_in_executor(None, self._worker.stop)

    def stop(self) -> None:
        """Let `run` end, for good. From any thread, at any time, also twice."""
        with contextlib.suppress(InvalidStateError):
            self._stop.set_result(None)

    def serve_forever(self, ready: Callable[[str], None]) -> None:
        """Run until SIGTERM or SIGINT; a second signal ends the process at once."""

        async def until_signal() -> None:
            loop, numbers = asyncio.get_running_loop(), (signal.SIGTERM, signal.SIGINT)

            def on_signal() -> None:
                for number in numbers:
                    loop.remove_signal_handler(number)
                self.stop()

            for number in numbers:
                loop.add_signal_handler(number, on_signal)
            await self.run(ready)

        asyncio.run(until_signal())

    @contextlib.contextmanager
    def background(self) -> Generator[str]:
        """Serve from a thread of this process for the length of a `with`; gives the URL."""
        url: Future[str] = Future()

        def run() -> None:
            try:
                asyncio.run(self.run(url.set_result))
            except BaseException as error:
                if url.done():
                    raise
                url.set_exception(error)

        thread = threading.Thread(target=run, name="deft-serve")
        thread.start()
        try:
            yield url.result()
        finally:
            self.stop()
            thread.join()

    @contextlib.asynccontextmanager
    async def _listening(self, front: Front) -> AsyncGenerator[Any]:
        need("websockets", "client")
        from websockets.asyncio.server import serve, unix_serve

        config = self.config
        options: dict[str, Any] = {
            "process_request": Endpoints(self._welcome, self._worker, config.token, front).answer,
            # A web page that a person happens to open must not talk to a robot's policy.
            "origins": [None],
            "compression": None,
            "max_queue": 4,
            "max_size": wire.request_limits(self._welcome.spec).max_bytes,
            "open_timeout": HANDSHAKE_S,
            "ping_interval": PING_S,
            "ping_timeout": PING_ANSWER_S,
            "close_timeout": CLOSE_S,
            "server_header": None,
            "logger": _socket_log(),
        }
        if config.tls_certificate:
            options["ssl"] = tls(config)
        with contextlib.ExitStack() as stack:
            try:
                if config.unix:
                    bound = stack.enter_context(_bound(Path(config.unix)))
                    server = await unix_serve(front.talk, sock=bound, **options)
                else:
                    # By name, IPv4 and IPv6 would get two sockets, and for port 0 two ports.
                    host = "127.0.0.1" if config.host == "localhost" else config.host
                    server = await serve(front.talk, host, config.port, **options)
            except OSError as error:
                where = config.unix or f"{config.host}:{config.port}"
                raise WireError(
                    f"{where} cannot be listened on.\nFound: {error}.\n"
                    "Fix: stop the program that uses it, or choose another; --port 0 takes a "
                    "free one."
                ) from error
            async with server:
                yield server

    def _url(self, server: Any) -> str:
        if self.config.unix:
            return f"unix://{Path(self.config.unix).resolve()}"
        host, port = server.sockets[0].getsockname()[:2]
        scheme = "wss" if self.config.tls_certificate else "ws"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


@contextlib.contextmanager
def _bound(path: Path) -> Generator[socket.socket]:
    """A unix socket at `path` that only this user may connect to; gone afterwards."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as bound:
        if path.is_socket():
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                if probe.connect_ex(str(path)) == 0:
                    raise OSError(errno.EADDRINUSE, "a server answers there")
            path.unlink()  # left behind by a server that was killed
        bound.bind(str(path))
        try:
            path.chmod(0o600)  # nobody can connect before it listens
            yield bound
        finally:
            path.unlink(missing_ok=True)


def _socket_log() -> logging.Logger:
    """The library's log; some of its versions print a traceback for every stranger's handshake."""
    logger = logging.Logger("deft.serve.sockets", logging.ERROR)
    logger.parent = logging.getLogger("deft.serve")
    logger.addFilter(lambda record: record.msg != "opening handshake failed")
    return logger
