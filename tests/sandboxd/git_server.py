"""A git server on 127.0.0.1: git's own HTTP program behind a small web server, with or without a password."""

from __future__ import annotations

import base64
import os
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

GIT_ENV = {
    **os.environ,
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    **{f"GIT_{who}_{what}": f"{who}@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}


def git(*args: str, cwd: Path) -> str:
    return subprocess.run(["git", *args], cwd=cwd, env=GIT_ENV, check=True, capture_output=True, text=True).stdout


class GitServer:
    """Serves the bare repositories below `root`; those below `root/private` want `user` and `secret word`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.seen: list[tuple[str, str]] = []  # path and Authorization of every request
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port}/{name}"

    def repository(self, name: str) -> Path:
        """A bare repository with one commit on main and a branch `side`."""
        bare = self.root / name
        bare.mkdir(parents=True)
        git("init", "-q", "--bare", "-b", "main", ".", cwd=bare)
        git("config", "http.receivepack", "true", cwd=bare)
        work = self.root.parent / f"work-{name.replace('/', '-')}"
        git("clone", "-q", str(bare), str(work), cwd=self.root)
        (work / "readme.txt").write_text("first\n")
        git("add", ".", cwd=work)
        git("commit", "-q", "-m", "first commit", cwd=work)
        git("push", "-q", "origin", "HEAD:main", "HEAD:side", cwd=work)
        return bare

    def commit(self, name: str, file: str, text: str) -> None:
        """A commit that somebody else makes and pushes."""
        work = self.root.parent / f"work-{name.replace('/', '-')}"
        git("pull", "-q", "--rebase", "origin", "main", cwd=work)
        (work / file).write_text(text)
        git("add", ".", cwd=work)
        git("commit", "-q", "-m", f"change {file}", cwd=work)
        git("push", "-q", "origin", "HEAD:main", cwd=work)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self
        right = "Basic " + base64.b64encode(b"user:secret word").decode()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                given = self.headers.get("Authorization", "")
                outer.seen.append((self.path, given))
                path, _, query = self.path.partition("?")
                if path.startswith("/moved/"):
                    self._plain(301, Location=outer.url(self.path.removeprefix("/moved/")))
                elif path.startswith("/private/") and given != right:
                    self._plain(401, **{"WWW-Authenticate": 'Basic realm="git"'})
                else:
                    self._backend(path, query)

            do_POST = do_GET

            def log_message(self, *args) -> None:
                return

            def _plain(self, status: int, **headers: str) -> None:
                self.send_response(status)
                for name, value in {**headers, "Content-Length": "0"}.items():
                    self.send_header(name, value)
                self.end_headers()

            def _body(self) -> bytes:
                if self.headers.get("Transfer-Encoding") != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length", 0)))
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return body

            def _backend(self, path: str, query: str) -> None:
                env = {
                    **GIT_ENV,
                    "GIT_PROJECT_ROOT": str(outer.root),
                    "GIT_HTTP_EXPORT_ALL": "1",
                    "PATH_INFO": path,
                    "QUERY_STRING": query,
                    "REQUEST_METHOD": self.command,
                    "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                    "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                    "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                    "REMOTE_USER": "somebody",
                }
                done = subprocess.run(["git", "http-backend"], env=env, input=self._body(), capture_output=True)
                head, _, body = done.stdout.partition(b"\r\n\r\n")
                headers = dict(line.split(": ", 1) for line in head.decode().splitlines())
                self.send_response(int(headers.pop("Status", "200").split()[0]))
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

        return Handler
