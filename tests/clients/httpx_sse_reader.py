"""Reads a stream with `httpx-sse` and prints a line of JSON for each event: [name, data, id].

The library parses; coming back after the end, with the id of the last event, is its user's part, and is done here as
its documents show it.
"""

import json
import sys
import time

import httpx
from httpx_sse import connect_sse

last_id = ""
with httpx.Client(timeout=httpx.Timeout(5, read=None)) as client:
    while True:
        headers = {"Last-Event-ID": last_id} if last_id else {}
        try:
            with connect_sse(client, "GET", sys.argv[1], headers=headers) as source:
                for event in source.iter_sse():
                    last_id = event.id
                    if event.data:
                        print(json.dumps([event.event, event.data, event.id]), flush=True)
        except (httpx.HTTPError, OSError):
            pass
        time.sleep(0.05)
