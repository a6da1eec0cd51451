"""A worker in base mode, without an SDK: pops, answers, repeats, and writes down what it does.

Under a supervisor it has reliable mode without knowing. It must not judge anything.
"""

import json
import os
import signal
import sys
import time

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

PID = os.getpid()
CLASS = os.environ["CHAOS_CLASS"]
LEDGER = os.open(
    os.path.join(os.environ["CHAOS_LEDGER"], f"worker-{CLASS}-{PID}.jsonl"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644
)
QUEUE = os.environ.get("TEMPEST_QUEUE", "tempest:web")
#: Pauses of a worker that cannot reach Redis, in seconds.
PAUSE = 0.1


def note(event, **fields):
    line = {"t": time.clock_gettime_ns(time.CLOCK_MONOTONIC), "e": event, **fields}
    os.write(LEDGER, (json.dumps(line) + "\n").encode())


def send(answer, to):
    """Again until Redis has it: what arrives twice is dropped by the front."""
    while True:
        try:
            return db.rpush(to, json.dumps(answer))
        except redis.RedisError as problem:
            print(f"raw: {problem}", file=sys.stderr, flush=True)
            time.sleep(PAUSE)


def run(job, body):
    background = job["action"] == "chaos.job"
    words = [""] if background else job["path"].strip("/").split("/")
    name = job["id"] if background else words[-1]
    said = job.get("headers", {}).get("x-chaos-id", "")
    if not background and (said != name or (job["method"] == "POST" and body.decode() != name)):
        note("mixed", what=f"path {name}, header {said}, body {body!r}")
    note("start", id=name, job=job["id"], attempt=job["attempt"], pid=PID)
    parts = int(words[1]) if words[0] == "stream" else 1
    pause = int(body or b"0") if background else int(words[-2]) if words[0] in ("slow", "stream") else 0
    for number in range(parts):
        time.sleep(pause / 1000)
        answer = {"id": job["id"], "attempt": job["attempt"], "n": number, "more": number < parts - 1}
        answer["body"] = f"chaos {name} {job['attempt']} {number} {parts} {PID}\n"
        if number == parts - 1:
            note("end", id=name, attempt=job["attempt"], pid=PID)
        if "reply_to" in job:
            send(answer, job["reply_to"])


stopping = []
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *_: stopping.append(True))
db = redis.from_url(
    os.environ["REDIS_URL"], socket_timeout=10, socket_keepalive=True, retry=Retry(NoBackoff(), 0)
)
note("up", pid=PID, **{"class": CLASS})
while not stopping:
    try:
        taken = db.blpop([QUEUE], timeout=1)
    except redis.RedisError as problem:
        print(f"raw: {problem}", file=sys.stderr, flush=True)
        time.sleep(PAUSE)
        continue
    if taken:
        head, _, body = taken[1].partition(b"\n")
        run(json.loads(head), body)
