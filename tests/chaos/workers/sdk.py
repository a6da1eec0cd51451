"""The Python worker of the chaos suite: does what a job's path says, and writes down when it begins and when it is done.

The same as the Rust worker, line for line of the ledger. It must not judge anything.
"""

import asyncio
import json
import os
import time

from tempest_worker import App

PID = os.getpid()
CLASS = os.environ["CHAOS_CLASS"]
LEDGER = os.open(
    os.path.join(os.environ["CHAOS_LEDGER"], f"worker-{CLASS}-{PID}.jsonl"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644
)


def note(event, **fields):
    line = {"t": time.clock_gettime_ns(time.CLOCK_MONOTONIC), "e": event, **fields}
    os.write(LEDGER, (json.dumps(line) + "\n").encode())


def start(request, name):
    note("start", id=name, job=request.id, attempt=request.attempt, pid=PID)


def end(request, name):
    note("end", id=name, attempt=request.attempt, pid=PID)


def part(request, name, number, parts):
    return f"chaos {name} {request.attempt} {number} {parts} {PID}\n"


def name_of(request):
    name = request.params["id"]
    if request.headers.get("x-chaos-id") != name or (request.method == "POST" and request.text != name):
        note("mixed", what=f"path {name}, header {request.headers.get('x-chaos-id')}, body {request.text}")
    return name


app = App()


@app.route("/quick/{id}", methods=["GET", "POST"])
def quick(request):
    name = name_of(request)
    start(request, name)
    end(request, name)
    return part(request, name, 0, 1)


@app.route("/slow/{ms}/{id}", methods=["GET", "POST"])
async def slow(request):
    name = name_of(request)
    start(request, name)
    await asyncio.sleep(int(request.params["ms"]) / 1000)
    end(request, name)
    return part(request, name, 0, 1)


@app.get("/stream/{parts}/{ms}/{id}")
async def stream(request):
    name = name_of(request)
    parts = int(request.params["parts"])
    start(request, name)

    async def pieces():
        for number in range(parts):
            await asyncio.sleep(int(request.params["ms"]) / 1000)
            yield part(request, name, number, parts)
        end(request, name)

    return pieces()


@app.action("chaos.job")
def background(request):
    start(request, request.id)
    time.sleep(int(request.text or "0") / 1000)
    end(request, request.id)


note("up", pid=PID, **{"class": CLASS})
app.run()
