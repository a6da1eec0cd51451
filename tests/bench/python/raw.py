"""The benchmark's raw Python worker: a Redis client and a JSON parser, no SDK, one job at a time.

It must do no more than the ten lines in the manual, except that it answers what every other contender answers.
"""

import json
import os

import redis

queue = os.environ["TEMPEST_QUEUE"]
url = os.environ["REDIS_URL"]
# A unix socket has no keepalive, and the client refuses to be asked for it.
keepalive = {} if url.startswith("unix:") else {"socket_keepalive": True}
db = redis.from_url(url, socket_timeout=10, **keepalive)
while True:
    taken = db.blpop([queue], timeout=5)
    if taken:
        job = json.loads(taken[1].partition(b"\n")[0])
        answer = {"id": job["id"], "headers": {"content-type": "text/plain"}, "body": f"hello {job['query'][2:]}\n"}
        db.rpush(job["reply_to"], json.dumps(answer))
