"""A stand-in for the Hugging Face hub on this machine: the few calls that fetch a data set."""

import hashlib
import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HubServer:
    """Serves the files below a folder as the data set `owner/name` at revision `main`."""

    def __init__(self, folder: Path, repo: str = "owner/name") -> None:
        self.folder = folder
        self.repo = repo
        self.asked: list[str] = []
        """Every request: method and path."""
        self.refuse: dict[str, int] = {}
        """Paths that end so are answered with this status."""
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server.answer(self, with_body=True)

            def do_HEAD(self) -> None:
                server.answer(self, with_body=False)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def answer(self, handler: BaseHTTPRequestHandler, *, with_body: bool) -> None:
        path = unquote(urlsplit(handler.path).path)
        self.asked.append(f"{handler.command} {path}")
        status = next((code for end, code in self.refuse.items() if path.endswith(end)), 200)
        headers = {"X-Repo-Commit": COMMIT}
        body: bytes | None = None
        if status == 200:
            body, more = self._find(path)
            headers |= more
            status = 404 if body is None else 200
        body = body if body is not None else b"{}"
        handler.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            handler.send_header(key, value)
        handler.end_headers()
        if with_body:
            handler.wfile.write(body)

    def _find(self, path: str) -> tuple[bytes | None, dict[str, str]]:
        api, files = f"/api/datasets/{self.repo}", f"/datasets/{self.repo}/resolve/{COMMIT}/"
        if path in (f"{api}/revision/main", f"{api}/revision/{COMMIT}"):
            return json.dumps({"id": self.repo, "sha": COMMIT, "siblings": []}).encode(), {}
        if path.startswith(f"{api}/revision/"):
            return None, {"X-Error-Code": "RevisionNotFound"}
        if path == f"{api}/tree/{COMMIT}":
            return json.dumps([self._entry(each) for each in self._files()]).encode(), {}
        if path.startswith(files):
            data = (self.folder / path.removeprefix(files)).read_bytes()
            return data, {"ETag": f'"{hashlib.sha1(data).hexdigest()}"'}
        return None, {"X-Error-Code": "RepoNotFound"}

    def _files(self) -> list[Path]:
        return sorted(path for path in self.folder.rglob("*") if path.is_file())

    def _entry(self, file: Path) -> dict[str, Any]:
        data = file.read_bytes()
        name = file.relative_to(self.folder).as_posix()
        oid = hashlib.sha1(data).hexdigest()
        return {"type": "file", "path": name, "size": len(data), "oid": oid}


@contextmanager
def hub_server(folder: Path, repo: str = "owner/name") -> Generator[HubServer]:
    server = HubServer(folder, repo)
    thread = threading.Thread(target=server.http.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.http.shutdown()
        thread.join()
        server.http.server_close()
