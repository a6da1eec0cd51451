"""The handler of the benchmark as an ASGI application, without a framework: what it costs is its server's.

It must do no more and no less than `worker.py`, which is the same for Tempest, and `hello_wsgi.py`.
"""

import asyncio


async def app(scope, receive, send):
    assert scope["type"] == "http"
    path = scope["path"]
    if path == "/echo":
        status, body = 200, await read(receive)
    elif path in ("/hello", "/sleep"):
        if path == "/sleep":
            await asyncio.sleep(0.02)
        status, body = 200, b"hello " + scope["query_string"][2:] + b"\n"
    else:
        status, body = 404, b""
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def read(receive):
    parts = []
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)
