"""A stand-in for the API of the Hugging Face Hub: repositories in memory, and lies on request."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

TOKEN = "hf_right"


class Hub(http.server.ThreadingHTTPServer):
    """files: by repository and name. private: which repositories are. lie: for what is served."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.lie = ""
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.say({"error": "Invalid username or password."}, 401)
        if self.path == "/api/repos/create":
            said = json.loads(body)
            name = "/".join(filter(None, (said.get("organization"), said["name"])))
            if name in self.server.files:
                there = {"error": "you have it already", "url": f"{self.server.url}/{name}"}
                return self.say(there, 409)
            self.server.files[name] = {}
            apart = said.get("visibility") == "private" or said.get("private") is True
            self.server.private[name] = apart
            return self.say({"url": f"{self.server.url}/{name}", "name": name, "id": name})
        if found := re.fullmatch(r"/api/models/(.+?/.+?)/preupload/main", self.path):
            asked = json.loads(body)["files"]
            return self.say({"files": [
                {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
                for one in asked
            ]})  # fmt: skip
        if found := re.fullmatch(r"/api/models/(.+?/.+?)/commit/main", self.path):
            files = self.server.files[found[1]]
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                elif line["key"] == "deletedFile":
                    files.pop(line["value"]["path"], None)
            where = f"{self.server.url}/{found[1]}/commit/{'0' * 40}"
            return self.say({"success": True, "commitOid": "0" * 40, "commitUrl": where,
                             "hookOutput": ""})  # fmt: skip
        self.say({"errors": [], "warnings": []})  # validate-yaml

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/tree/main|/revision/main)?", path):
            if found[1] not in self.server.files:
                return self.say({"error": "Repository not found"}, 404)
            files = self.server.files[found[1]]
            if found[2] == "/tree/main":
                return self.say([{"type": "file", "path": name, "size": len(data),
                                  "oid": hashlib.sha1(data).hexdigest()}
                                 for name, data in files.items()])  # fmt: skip
            return self.say({"id": found[1], "private": self.server.private[found[1]],
                             "siblings": [{"rfilename": name} for name in files]})  # fmt: skip
        name, _, file = path[1:].partition("/resolve/main/")
        private = self.server.private.get(name, False)
        if private and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.say({"error": "not yours"}, 401)
        data = self.server.files.get(name, {}).get(file)
        if data is None:
            return self.say({"error": "no such file"}, 404)
        lie = self.server.lie if file.endswith(".onnx") else ""
        if lie == "other":
            data = data[:-1] + bytes([data[-1] ^ 1])
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if lie == "short" else data)
        self.close_connection = lie == "short"

    do_HEAD = do_GET

    def say(self, answer: object, code: int = 200) -> None:
        data = json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def hub() -> Iterator[Hub]:
    """Yield a stand-in that answers at `url`."""
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
