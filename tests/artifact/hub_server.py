"""A server on this machine that speaks as much of the Hugging Face Hub's protocol as an upload and a download need."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["Hub", "serving"]

COMMIT = "1" * 40


class Hub(ThreadingHTTPServer):
    """Keeps repositories in memory: ``files`` by repository and name, ``asked`` all requests."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.files: dict[str, dict[str, bytes]] = {}
        self.asked: list[tuple[str, str]] = []
        self.created: dict[str, Any] = {}

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answers(BaseHTTPRequestHandler):
    """One request."""

    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _send(self, content: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _json(self, content: Any, status: int = 200) -> None:
        self._send(json.dumps(content).encode(), status, Content_Type="application/json")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append((self.path, self.headers.get("Authorization", "")))
        if self.path == "/api/repos/create":
            self.server.created = json.loads(body)
            name = f"{self.server.created['organization']}/{self.server.created['name']}"
            self.server.files.setdefault(name, {})
            self._json({"url": f"{self.server.address}/{name}", "name": name, "id": name})
        elif self.path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif self.path.endswith("/preupload/main"):
            named = [{"path": file["path"], "uploadMode": "regular"} for file in json.loads(body)["files"]]
            self._json({"files": [{**file, "shouldIgnore": False, "oid": None} for file in named]})
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", self.path):
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    held = self.server.files[match[1]]
                    held[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self._json({"commitUrl": f"{self.server.address}/{match[1]}/commit/{COMMIT}", "commitOid": COMMIT})
        else:
            self._json({"error": f"unknown: {self.path}"}, 404)

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Authorization", "")))
        if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", self.path):
            content = self.server.files.get(match[1], {}).get(match[2])
            if content is None:
                self._send(b"", 404, X_Error_Code="EntryNotFound", X_Repo_Commit=COMMIT)
            else:
                etag = hashlib.sha1(content).hexdigest()
                self._send(content, ETag=f'"{etag}"', X_Repo_Commit=COMMIT)
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/.*)?", self.path):
            siblings = [{"rfilename": name} for name in self.server.files.get(match[1], {})]
            self._json({"id": match[1], "modelId": match[1], "sha": COMMIT, "siblings": siblings})
        else:
            self._json({"error": f"unknown: {self.path}"}, 404)

    do_HEAD = do_GET


@contextmanager
def serving() -> Iterator[Hub]:
    """A server that answers while the context is open."""
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
