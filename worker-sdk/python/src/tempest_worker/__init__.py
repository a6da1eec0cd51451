"""Workers for Tempest in Python: answer HTTP requests that wait on a Redis list.

This module names what is public; everything in modules that begin with an underscore may change. It must not do
work on import: no connection, no logging set-up, no signal handler.
"""

from ._app import App
from ._hold import Hold, hold
from ._request import Headers, Query, Request
from ._response import Response
from ._version import __version__

__all__ = ["App", "Headers", "Hold", "Query", "Request", "Response", "__version__", "hold"]
