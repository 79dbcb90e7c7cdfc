"""A hub on this machine: what `dncx push` and a download ask of huggingface.co, and no more."""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FakeHub(ThreadingHTTPServer):
    """Models by their name: {"owner/name": {file: bytes}}.

    Attributes:
      models: the files of each model.
      private: the models of these names are hidden.
      refuses: the server lets nobody create or change a model.
      commits: the message of each commit.
      asked: method and path of every request.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Answer)
        self.models, self.private, self.refuses = {}, set(), False
        self.own_private = set()  # private repositories of the person who pushes
        self.created, self.commits, self.asked = [], [], []

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()

    def commit_of(self, repo):
        """The newest commit, a hash of the files."""
        return hashlib.sha1(repr(sorted(self.models[repo].items())).encode()).hexdigest()


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size) if size else self._chunks()
        hub, path = self.server, self.path.partition("?")[0]
        hub.asked.append(f"POST {path}")
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if hub.refuses:
            return self._error(403, "")
        if path == "/api/repos/create":
            asked = json.loads(body)
            repo = f"{asked.get('organization', 'me')}/{asked['name']}"
            hub.created.append(asked)
            private = asked.get("private") or asked.get("visibility") == "private"
            if private and repo not in hub.models:
                hub.own_private.add(repo)
            hub.models.setdefault(repo, {})
            return self._json({"url": f"{hub.endpoint}/{repo}"})
        repo, action = re.fullmatch(r"/api/models/(.+?/.+?)/(preupload|commit)/main", path).groups()
        if action == "preupload":
            paths = [file["path"] for file in json.loads(body)["files"]]
            return self._json({"files": [{"path": p, "uploadMode": "regular", "shouldIgnore": False,
                                          "oid": None} for p in paths]})  # fmt: skip
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "header":
                hub.commits.append(line["value"]["summary"])
            else:
                assert line["key"] == "file"
                file = line["value"]
                hub.models[repo][file["path"]] = base64.b64decode(file["content"])
        commit = hub.commit_of(repo)
        url = f"{hub.endpoint}/{repo}/commit/{commit}"
        return self._json({"success": True, "commitOid": commit, "commitUrl": url})

    def _chunks(self):
        found = b""
        while size := int(self.rfile.readline(), 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        hub, path = self.server, self.path.partition("?")[0]
        hub.asked.append(f"{self.command} {path}")
        api = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?", path)
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        repo, revision = (api[1], api[3]) if api else (file[1], file[2])
        if repo not in hub.models or repo in hub.private:
            return self._error(401, "RepoNotFound")
        commit, files = hub.commit_of(repo), hub.models[repo]
        if revision not in (None, "main", commit):
            return self._error(404, "RevisionNotFound")
        if api and api[2] == "tree":
            return self._json([{"type": "file", "path": name, "size": len(content),
                                "oid": hashlib.sha1(content).hexdigest()}
                               for name, content in files.items()])  # fmt: skip
        if api:
            return self._json({"id": repo, "modelId": repo, "sha": commit, "siblings": [],
                               "private": repo in hub.own_private})  # fmt: skip
        if file[3] not in files:
            return self._error(404, "EntryNotFound")
        content = files[file[3]]
        etag = hashlib.sha1(content).hexdigest()
        return self._send(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": commit})

    def _json(self, value):
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _error(self, status, code):
        self._send(status, b"", {"X-Error-Code": code} if code else {})

    def _send(self, status, content, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
