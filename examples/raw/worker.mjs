// A whole Tempest worker in Node; needs the package `redis` (npm ci).
// Run alone: REDIS_URL=redis://127.0.0.1:6379 TEMPEST_QUEUE=tempest:web node worker.mjs

import { createClient, RESP_TYPES } from "redis";
import { setTimeout as pause } from "node:timers/promises";

const queue = process.env.TEMPEST_QUEUE ?? "tempest:web";
const url = process.env.REDIS_URL ?? "redis://127.0.0.1:6379";
// The socket timeout is longer than the pop waits, or an abandoned pop eats the next job.
const socket = { socketTimeout: 10_000, keepAlive: true, reconnectStrategy: () => 500 };
const redis = createClient({ url, socket, disableOfflineQueue: true })
  .withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer }) // bodies are bytes, not text
  .on("error", (problem) => console.error(`node: ${problem.message || problem.code}`));

let stopping = false;
for (const signal of ["SIGINT", "SIGTERM"])
  process.on(signal, () => ((stopping = true), redis.isReady || process.exit()));

await redis.connect();
while (!stopping) {
  const taken = await redis.blPop(queue, 1).catch((problem) => {
    if (redis.isReady) console.error(`node: ${problem.message}`); // else on("error") has said so
    return pause(500);
  });
  if (!taken) continue;
  try {
    const end = taken.element.indexOf("\n");
    const job = JSON.parse(end < 0 ? taken.element : taken.element.subarray(0, end));
    if (job.v !== 1) throw new Error("unknown version");
    const body = `hello from node, ${job.method} ${job.path} (worker pid ${process.pid})\n`;
    const headers = { "content-type": "text/plain", "x-worker": "node" };
    await redis.rPush(job.reply_to, JSON.stringify({ id: job.id, status: 200, headers, body }));
  } catch (problem) {
    console.error(`node: skipped a job: ${problem.message}`);
  }
}
redis.destroy();
