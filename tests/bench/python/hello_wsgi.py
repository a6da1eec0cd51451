"""The handler of the benchmark as a WSGI application, without a framework: what it costs is its server's.

It must do no more and no less than `worker.py`, which is the same for Tempest, and `hello_asgi.py`.
"""

import time


def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/echo":
        body = environ["wsgi.input"].read()
    elif path in ("/hello", "/sleep", "/work"):
        if path == "/sleep":
            time.sleep(0.02)
        elif path == "/work":
            time.sleep(0.005)
        body = f"hello {environ['QUERY_STRING'][2:]}\n".encode()
    else:
        start_response("404 Not Found", [("Content-Length", "0")])
        return []
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
