"""The benchmark's raw Python worker: a Redis client and a JSON parser, no SDK, one job at a time.

It must do no more than the ten lines in the manual, except that it answers what every other contender answers.
"""

import json
import os

import redis

queue = os.environ["TEMPEST_QUEUE"]
db = redis.from_url(os.environ["REDIS_URL"], socket_timeout=10, socket_keepalive=True)
while True:
    taken = db.blpop([queue], timeout=5)
    if taken:
        job = json.loads(taken[1].partition(b"\n")[0])
        answer = {"id": job["id"], "headers": {"content-type": "text/plain"}, "body": f"hello {job['query'][2:]}\n"}
        db.rpush(job["reply_to"], json.dumps(answer))
