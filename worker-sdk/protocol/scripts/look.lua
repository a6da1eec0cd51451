-- What a front wants to know of a queue once a second. Also brings forward what a worker that pops by itself left behind.
-- KEYS 1 normal, 2 high, 3 low, 4 stats, 5 workers, 6 claimers
-- ARGV 1 beats before this moment in ms do not count, 2 time to live of the statistics in ms
-- Gives {normal, high, low, jobs ever claimed and handed out, workers alive, workers with claims}. Those that a claim met
-- and dropped because nobody wanted them any more took no worker's time: they say nothing of how fast jobs are done.
if redis.call('EXISTS', KEYS[1]) == 0 and not redis.call('LMOVE', KEYS[2], KEYS[1], 'LEFT', 'RIGHT') then
  redis.call('LMOVE', KEYS[3], KEYS[1], 'LEFT', 'RIGHT')
end
redis.call('PEXPIRE', KEYS[4], ARGV[2])
local stats = redis.call('HMGET', KEYS[4], 'taken', 'withdrawn')
return {
  redis.call('LLEN', KEYS[1]), redis.call('LLEN', KEYS[2]), redis.call('LLEN', KEYS[3]),
  tonumber(stats[1] or 0) - tonumber(stats[2] or 0),
  redis.call('ZCOUNT', KEYS[5], ARGV[1], '+inf'), redis.call('HLEN', KEYS[6]),
}
