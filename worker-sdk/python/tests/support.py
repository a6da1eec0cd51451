"""What the tests share: a real Redis, a front's side played by plain commands, an application run in a thread.

Nothing here imitates Redis or the worker. Waits are for events, each with a limit after which the test fails.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import redis
from wire import Answer, read_answer

from tempest_worker import App

#: Seconds after which a wait fails its test; on a busy machine everything is slow.
LIMIT = 20
REPLY_TO = "tempest:@testfront0.0"
QUEUE = "tempest:web"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """A redis-server process on a port of its own, or the server that TEMPEST_TEST_REDIS names."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port = free_port()
        self.folder = folder
        self.socket = folder / "redis.sock"
        self._options = options
        self._process: Optional[subprocess.Popen[str]] = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> Server:
        program = os.environ.get("TEMPEST_TEST_REDIS", "redis-server")
        command = [program, "--port", str(self.port), "--save", "", "--appendonly", "no"]
        command += ["--dir", str(self.folder), "--unixsocket", str(self.socket), *self._options]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        lines = []
        assert self._process.stdout is not None
        for line in self._process.stdout:
            lines.append(line)
            if "eady to accept connections" in line:
                # Nobody reads on; a full pipe would stop the server, but without a log file it says a line an hour.
                return self
        raise AssertionError("redis-server ended:\n" + "".join(lines))

    def kill(self) -> None:
        """kill -9, by its own process id."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(LIMIT)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = None

    def stop(self) -> None:
        if self._process is not None:
            self.kill()

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, socket_timeout=LIMIT + 10)


class Front:
    """The front's side of the contract, in plain commands."""

    def __init__(self, client: redis.Redis, reply_to: str = REPLY_TO, queue: str = QUEUE) -> None:
        self.redis = client
        self.reply_to = reply_to
        self.queue = queue
        self._count = 0

    def now_ms(self) -> int:
        seconds, micros = self.redis.time()
        return int(seconds) * 1000 + int(micros) // 1000

    def job(self, path: str = "/", method: str = "GET", body: bytes = b"", **fields: Any) -> Tuple[str, bytes]:
        """A job message and its id. A field given as None is left out, except where null means something."""
        self._count += 1
        job: Dict[str, Any] = {
            "v": 1,
            "id": f"testfront0.0-{self._count}",
            "attempt": 1,
            "deadline": self.now_ms() + 60_000,
            "timeout_ms": 60_000,
            "reply_to": self.reply_to,
            "queue": "web",
            "action": "http",
            "method": method,
            "path": path,
            "query": None,
            "host": "localhost",
            "scheme": "http",
            "http": "1.1",
            "peer": "127.0.0.1:50000",
            "server": "127.0.0.1:1337",
            "enqueued": self.now_ms(),
            "headers": {"host": "localhost"},
        }
        job.update(fields)
        kept = {name: value for name, value in job.items() if value is not None or name in ("query", "host")}
        return job["id"], json.dumps(kept).encode() + b"\n" + body

    def push(self, path: str = "/", method: str = "GET", body: bytes = b"", **fields: Any) -> str:
        request_id, message = self.job(path, method, body, **fields)
        self.redis.rpush(self.queue, message)
        return request_id

    def message(self, limit: float = LIMIT) -> Answer:
        """The next message on the answer list."""
        taken = self.redis.blpop([self.reply_to], timeout=limit)
        assert taken is not None, "no answer came"
        return read_answer(taken[1])

    def answer(self, request_id: Optional[str] = None) -> Answer:
        """The next whole answer; a stream's parts are put together."""
        first = self.message()
        assert request_id is None or first.id == request_id, (first.id, request_id)
        body, n, more = first.body, 0, first.more
        while more:
            part = self.message()
            n += 1
            assert (part.id, part.n) == (first.id, n)
            body, more = body + part.body, part.more
        return first._replace(body=body, more=False)

    def ask(self, path: str = "/", method: str = "GET", body: bytes = b"", **fields: Any) -> Answer:
        return self.answer(self.push(path, method, body, **fields))

    def answers(self, count: int) -> Dict[str, Answer]:
        """`count` answers in any order, by id."""
        got = [self.answer() for _ in range(count)]
        found = {each.id: each for each in got}
        assert len(found) == count, "an answer came twice"
        return found

    def nothing_waits(self) -> bool:
        return not self.redis.exists(self.reply_to) and not self.redis.exists(self.queue)


def left(client: redis.Redis) -> List[bytes]:
    """Every key but the counters of the queues, which fronts let expire."""
    return [key for key in client.keys("*") if not key.endswith(b":stats")]


@contextlib.contextmanager
def running(app: App, url: str, **options: Any) -> Iterator[threading.Thread]:
    """The application at work in a thread; stopped at the end, and then really gone."""
    failures: List[BaseException] = []

    def work() -> None:
        try:
            app.run(redis=url, **options)
        except BaseException as error:
            failures.append(error)

    before = set(threading.enumerate())
    thread = threading.Thread(target=work)
    thread.start()
    try:
        eventually(lambda: app._worker is not None or not thread.is_alive(), "the worker did not start")
        yield thread
    finally:
        app.stop()
        thread.join(LIMIT)
        assert not thread.is_alive(), "the worker did not stop"
        left = [each for each in threading.enumerate() if each not in before]
        assert not left, f"threads left: {left}"
    if failures:
        raise failures[0]


def eventually(condition: Callable[[], Any], what: str, limit: float = LIMIT) -> Any:
    """Wait for a state that sends no event."""
    ends = time.monotonic() + limit
    while time.monotonic() < ends:
        found = condition()
        if found:
            return found
        threading.Event().wait(0.005)
    raise AssertionError(what)


class Process:
    """A worker as a process of its own: `python -m tempest_worker`."""

    def __init__(self, url: str, *arguments: str, **env: str) -> None:
        import os

        command = [sys.executable, "-m", "tempest_worker", *arguments]
        environment = {**os.environ, "REDIS_URL": url, "PYTHONUNBUFFERED": "1", **env}
        self.process = subprocess.Popen(
            command, cwd=Path(__file__).parent, env=environment, stderr=subprocess.PIPE, text=True
        )
        self.log: List[str] = []

    def wait_for_line(self, text: str) -> str:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)
            if text in line:
                return line
        raise AssertionError(f"no line with {text!r} in:\n" + "".join(self.log))

    def wait(self) -> int:
        status = self.process.wait(LIMIT)
        assert self.process.stderr is not None
        self.log += self.process.stderr.readlines()
        self.process.stderr.close()
        return status

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(LIMIT)
        if self.process.stderr is not None:
            self.process.stderr.close()


def vector_bytes(vector: Dict[str, Any]) -> bytes:
    """The exact bytes of a golden message."""
    if "hex" in vector:
        return bytes.fromhex(vector["hex"])
    return vector["text"].encode() if "text" in vector else base64.b64decode(vector["base64"])


def vectors(name: str) -> List[Dict[str, Any]]:
    path = Path(__file__).parents[2] / "vectors" / name
    data = json.loads(path.read_text())
    assert data["version"] == 1
    assert data["vectors"], "an empty list of vectors proves nothing"
    found: List[Dict[str, Any]] = data["vectors"]
    return found
