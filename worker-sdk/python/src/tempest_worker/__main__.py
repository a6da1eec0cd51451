"""`python -m tempest_worker module:app`: runs an application from the command line.

Only reads arguments and reports mistakes; what runs is `App.run`.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import List, Optional

from . import __version__
from ._app import App

_ENVIRONMENT = """environment:
  TEMPEST_REDIS_URL      redis://[user:password@]host:port[/db], rediss://… (TLS), unix:///path
  REDIS_URL              the same, where that is not set
  TEMPEST_QUEUE          key of the job list (tempest:web)
  TEMPEST_CLAIMS         reliable (the default) or base
  TEMPEST_WORKER_ID      this worker's id (host, process id and eight random digits)
  TEMPEST_ENV            development: tracebacks in the body of a 500
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    it = argparse.ArgumentParser(
        prog="python -m tempest_worker",
        description="Run the workers of an application until SIGTERM or Ctrl-C.",
        epilog=_ENVIRONMENT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    it.add_argument("app", metavar="MODULE:APP", help="where the App is; `:app` may be left out")
    it.add_argument("--redis", metavar="URL", help="instead of TEMPEST_REDIS_URL and REDIS_URL")
    it.add_argument("--queue", metavar="KEY", help="instead of TEMPEST_QUEUE")
    it.add_argument("--concurrency", type=int, metavar="N", help="threads for synchronous handlers (1)")
    it.add_argument("--async-concurrency", type=int, metavar="N", help="coroutine handlers at a time (100)")
    it.add_argument("--batch", type=int, metavar="N", help="jobs in one claim at most (64); 1: no batches")
    it.add_argument("--claims", choices=("reliable", "base"), help="claim jobs, or pop them (reliable)")
    it.add_argument("--claim", choices=("auto", "blmpop", "lpop"), help="how base mode pops (auto)")
    it.add_argument("--version", action="version", version=f"tempest-worker {__version__}")
    return it


def load(target: str) -> App:
    """Import `module:app`. Raises ValueError that says what was missing."""
    module_name, _, attribute = target.partition(":")
    # As `python module.py` would: the folder one stands in is where the application is.
    sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name.split(".")[0] and error.name != module_name:
            raise
        raise ValueError(f"there is no module `{module_name}` here; is this its folder?") from None
    app = getattr(module, attribute or "app", None)
    if not isinstance(app, App):
        raise ValueError(f"`{module_name}` has no App named `{attribute or 'app'}`")
    return app


def main(arguments: Optional[List[str]] = None) -> int:
    """Run; gives the exit status: 0 after a clean stop, 2 for a mistake in the settings."""
    given = parser().parse_args(arguments)
    try:
        app = load(given.app)
        app.run(
            redis=given.redis,
            queue=given.queue,
            concurrency=given.concurrency,
            async_concurrency=given.async_concurrency,
            batch=given.batch,
            claim=given.claim,
            claims=given.claims,
        )
    except ValueError as mistake:
        print(f"tempest_worker: {mistake}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
