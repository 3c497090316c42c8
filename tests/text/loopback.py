"""A hub on this machine: the few endpoints that datasets and transformers ask for."""

import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "a" * 40


@contextmanager
def hub(repositories: Mapping[str, Mapping[str, bytes]], gated: str = "") -> Iterator[str]:
    """Serve files of repositories (`datasets/owner/name` or `owner/name`); yield the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"] or 0))
            self._answer(with_body=True)

        def _answer(self, *, with_body: bool) -> None:
            status, headers, body = respond(self.path.partition("?")[0], repositories, gated)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def respond(
    path: str, repositories: Mapping[str, Mapping[str, bytes]], gated: str
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body for a path."""
    if gated and gated in path:
        return 403, {"X-Error-Code": "GatedRepo"}, b""
    for repository, files in repositories.items():
        api = f"/api/{repository}" if repository.startswith("datasets/") else f"/api/models/{repository}"
        listing = [
            {"type": "file", "path": name, "size": len(data), "oid": "b" * 40} for name, data in files.items()
        ]
        if path.startswith(f"/{repository}/resolve/"):
            name = path.removeprefix(f"/{repository}/resolve/").partition("/")[2]
            if name not in files:
                return 404, {"X-Error-Code": "EntryNotFound"}, b""
            return 200, {"ETag": f'"{name}"', "X-Repo-Commit": COMMIT}, files[name]
        if path.startswith((f"{api}/tree/", f"{api}/paths-info/")):
            return 200, {}, json.dumps(listing).encode()
        if path == api or path.startswith(f"{api}/revision/"):
            siblings = [{"rfilename": name, "size": len(data)} for name, data in files.items()]
            return 200, {}, json.dumps({"id": repository, "sha": COMMIT, "siblings": siblings}).encode()
    return 404, {"X-Error-Code": "RepoNotFound"}, b""


def environment(address: str, home: Path) -> dict[str, str]:
    """The environment of a process that is to use this hub, with a cache of its own."""
    return {**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0"}
