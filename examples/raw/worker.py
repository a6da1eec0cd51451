# A whole Tempest worker in Python; needs redis-py (pip install -r requirements.txt).
# Run alone: REDIS_URL=redis://127.0.0.1:6379 TEMPEST_QUEUE=tempest:web python3 worker.py

import json, os, signal, sys, time
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

queue = os.environ.get("TEMPEST_QUEUE", "tempest:web")
db = redis.from_url(
    os.environ.get("REDIS_URL", "redis://127.0.0.1:6379"),
    socket_timeout=10,  # longer than the pop waits, or an abandoned pop eats the next job
    socket_keepalive=True,
    retry=Retry(NoBackoff(), 0),  # the loop below is the retry
)
stopping = []
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *_: stopping.append(True))

while not stopping:
    try:
        taken = db.blpop([queue], timeout=1)
        if not taken:
            continue
        header, _, body = taken[1].partition(b"\n")
        job = json.loads(header)
        if job["v"] != 1:
            raise ValueError("unknown version")
        text = f"hello from python, {job['method']} {job['path']} (worker pid {os.getpid()})\n"
        headers = {"content-type": "text/plain", "x-worker": "python"}
        db.rpush(job["reply_to"], json.dumps({"id": job["id"], "status": 200, "headers": headers, "body": text}))
    except redis.RedisError as problem:
        print(f"python: {problem}", file=sys.stderr, flush=True)
        time.sleep(0.5)
    except Exception as problem:
        print(f"python: skipped a job: {problem!r}", file=sys.stderr, flush=True)
