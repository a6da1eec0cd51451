"""The benchmark's Python worker: what the WSGI and ASGI applications beside it answer, as a worker of the SDK.

It must do no more and no less than they do.
"""

import asyncio

from tempest_worker import App

app = App()


@app.get("/hello")
def hello(request):
    return f"hello {request.query[2:]}\n"


@app.get("/sleep")
async def sleep(request):
    await asyncio.sleep(0.02)
    return f"hello {request.query[2:]}\n"


@app.get("/long")
async def long(request):
    await asyncio.sleep(15)
    return f"hello {request.query[2:]}\n"


@app.post("/echo")
def echo(request):
    return request.body
