"""The README's first worker works as printed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from support import LIMIT, Front, Server


def test_the_worker_in_ten_lines(server: Server, front: Front, tmp_path: Path) -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    found = re.search(r"## A worker in ten lines\n```python\n(.*?)```", readme, re.DOTALL)
    assert found is not None
    assert len([line for line in found[1].splitlines() if line]) <= 10
    script = tmp_path / "hello.py"
    script.write_text(found[1])
    worker = subprocess.Popen([sys.executable, str(script)], env={**os.environ, "REDIS_URL": server.url})
    try:
        assert front.ask("/hello/world").body == b"hello world"
        worker.terminate()
        assert worker.wait(LIMIT) == 0
    finally:
        worker.kill()
