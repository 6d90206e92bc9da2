"""A small model hub on this machine: the calls that huggingface_hub makes to send and to fetch a folder."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LARGE = (".safetensors",)
"""Endings of files that are sent apart from the others, as on the real one."""


@dataclass
class Hub:
    """What is on it.

    Attributes:
        address: Of the server.
        repositories: Files of each repository, by path.
        private: Repositories that were made private.
        blobs: Large files by SHA-256, which a commit refers to.
        token: Who may write.
    """

    address: str = ""
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    blobs: dict[str, bytes] = field(default_factory=dict)
    token: str = "secret"

    def version(self, repository: str) -> str:
        """Forty digits that depend on all files."""
        files = sorted(self.repositories[repository].items())
        return hashlib.sha1(repr(files).encode()).hexdigest()


@contextmanager
def serve_hub() -> Iterator[Hub]:
    """Serves one until the block ends."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *args: Any) -> None:
        """Says nothing."""

    def _answer(self, body: Any = b"", status: int = 200, **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), "Content-Type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _refuse(self, status: int, code: str = "") -> None:
        self._answer({"error": code or "no"}, status, X_Error_Code=code, X_Error_Message=code)

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def do_POST(self) -> None:
        """Makes repositories, tells how files are sent, and commits them."""
        body = self._body()
        if self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            return self._refuse(401)
        parts = self.path.strip("/").split("/")
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
            if name in self.hub.repositories:
                return self._answer({"url": f"{self.hub.address}/{name}"}, 409)
            self.hub.repositories[name] = {}
            self.hub.private |= {name} if asked.get("private") or asked.get("visibility") == "private" else set()
            return self._answer({"url": f"{self.hub.address}/{name}"})
        if self.path == "/api/validate-yaml":
            return self._answer({"errors": [], "warnings": []})
        if "preupload" in parts:
            files = json.loads(body)["files"]
            modes = [{"path": f["path"], "uploadMode": "lfs" if f["path"].endswith(LARGE) else "regular",
                      "shouldIgnore": False} for f in files]  # fmt: skip
            return self._answer({"files": modes})
        if self.path.endswith("/info/lfs/objects/batch"):
            asked = json.loads(body)
            upload = {o["oid"]: {"upload": {"href": f"{self.hub.address}/blobs/{o['oid']}"}} for o in asked["objects"]}
            objects = [{"oid": o["oid"], "size": o["size"], "actions": upload[o["oid"]]} for o in asked["objects"]]
            return self._answer({"transfer": "basic", "objects": objects})
        if "commit" in parts:
            return self._commit("/".join(parts[2:4]), body)
        return self._refuse(404)

    def _commit(self, name: str, body: bytes) -> None:
        files = self.hub.repositories[name]
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.blobs[value["oid"]]
        version = self.hub.version(name)
        self._answer({"commitUrl": f"{self.hub.address}/{name}/commit/{version}", "commitOid": version})

    def do_PUT(self) -> None:
        """Takes a large file."""
        body = self._body()
        assert self.path == f"/blobs/{hashlib.sha256(body).hexdigest()}"
        self.hub.blobs[self.path.rpartition("/")[2]] = body
        self._answer()

    def do_GET(self) -> None:
        """Tells what a repository holds, and gives a file."""
        parts = self.path.partition("?")[0].strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            name = "/".join(parts[2:4])
            if name not in self.hub.repositories:
                return self._refuse(404, "RepoNotFound")
            files = self.hub.repositories[name]
            if "tree" in parts:
                entries = [
                    {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                    for path, content in files.items()
                ]
                return self._answer(entries)
            siblings = [{"rfilename": path} for path in files]
            return self._answer(
                {
                    "id": name,
                    "modelId": name,
                    "sha": self.hub.version(name),
                    "siblings": siblings,
                    "private": False,
                    "tags": [],
                    "downloads": 0,
                    "likes": 0,
                }  # fmt: skip
            )
        if len(parts) > 3 and parts[2] == "resolve":
            name, path = "/".join(parts[:2]), "/".join(parts[4:])
            content = self.hub.repositories.get(name, {}).get(path)
            if content is None:
                return self._refuse(404, "EntryNotFound")
            return self._answer(
                content,
                ETag=f'"{hashlib.sha256(content).hexdigest()}"',
                X_Repo_Commit=self.hub.version(name),
                Content_Type="application/octet-stream",
            )
        return self._refuse(404)

    do_HEAD = do_GET  # noqa: N815
