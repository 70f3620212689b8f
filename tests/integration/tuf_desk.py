"""A TUF repository on a real HTTP server, and the desk's client over it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

from hil_rig.backend.repository import Repository
from vehicle_agent.cli import main

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
TOP = ["root", "snapshot", "targets", "timestamp"]


class Desk:
    """One repository, one folder of trusted metadata; `asked` are the files that were asked for."""

    def __init__(self, folder, **options):
        self.metadata, self.targets = folder / "metadata", folder / "targets"
        self.folder = folder
        self.repository = Repository(NOW, **options)
        self.repository.publish(NOW)
        self.asked: list[str] = []
        self.answers: dict[str, tuple[int, bytes]] = {}
        self.time = NOW
        self.url = ""

    def init(self, root=None):
        path = self.folder / "initial.json"
        path.write_bytes(root or self.repository.files["1.root.json"])
        return main(["repository", "--metadata-dir", str(self.metadata), "init", str(path)])

    def refresh(self):
        return self._run("refresh")

    def download(self, name):
        place = ["--target-base-url", f"{self.url}/targets/", "--target-dir", str(self.targets)]
        return self._run("download", "--target-name", name, *place)

    def _run(self, command, *more):
        self.asked.clear()
        where = ["--metadata-dir", str(self.metadata), "--metadata-url", f"{self.url}/metadata/"]
        return main(["repository", *where, *more, "--time", self.time.isoformat(), command])

    def version(self, role):
        """The trusted version of `role`; None without one."""
        path = self.metadata / f"{role}.json"
        return json.loads(path.read_bytes())["signed"]["version"] if path.is_file() else None

    def roles(self):
        return sorted(path.name.removesuffix(".json") for path in self.metadata.glob("*.json"))

    def downloaded(self):
        files = [path for path in self.targets.rglob("*") if path.is_file()]
        return sorted(path.read_bytes() for path in files)

    def content(self, path):
        """What the server has at `path`: status and body."""
        if path in self.answers:
            return self.answers[path]
        kind, _, name = path.partition("/")
        files = self.repository.files
        data = files.get(name) if kind == "metadata" else self._image(unquote(name))
        return (404, b"") if data is None else (200, data)

    def _image(self, name):
        for path, image in self.repository.images.items():
            folder, slash, last = path.rpartition("/")
            names = {path}
            if self.repository.root.consistent_snapshot:
                signed = [
                    targets.targets[path].hashes
                    for targets in [self.repository.targets, *self.repository.delegated.values()]
                    if path in targets.targets
                ]
                names = {f"{folder}{slash}{h}.{last}" for each in signed for h in each.values()}
            if name in names:
                return image
        return None

    def offer(self, path, image, role="targets", **options):
        """Describe and hold `image`; published at once."""
        self.repository.add_target(path, image, role=role, **options)
        self.repository.images[path] = image
        self.repository.publish(self.time)


@contextlib.contextmanager
def served(desk):
    """Serve `desk` on loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            path = self.path.lstrip("/")
            desk.asked.append(path)
            status, body = desk.content(path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    desk.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield desk
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def refused(capsys, code):
    told = capsys.readouterr().err
    assert told.startswith(f"vehicle-agent repository: {code}: ")
    assert told.count("\n") == 1
