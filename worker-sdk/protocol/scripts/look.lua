-- What a front wants to know of a queue once a second. Also brings forward what a worker that pops by itself left behind.
-- KEYS 1 normal, 2 high, 3 low, 4 stats, 5 workers, 6 claimers
-- ARGV 1 beats before this moment in ms do not count, 2 time to live of the statistics in ms, 3 (may be left out) 1: also gives,
-- as a seventh number, when the oldest job was pushed, in ms; 0: none waits, or none says when
-- Gives {normal, high, low, jobs ever claimed and handed out, workers alive, workers with claims}. Those that a claim met
-- and dropped because nobody wanted them any more took no worker's time: they say nothing of how fast jobs are done.
if redis.call('EXISTS', KEYS[1]) == 0 and not redis.call('LMOVE', KEYS[2], KEYS[1], 'LEFT', 'RIGHT') then
  redis.call('LMOVE', KEYS[3], KEYS[1], 'LEFT', 'RIGHT')
end
redis.call('PEXPIRE', KEYS[4], ARGV[2])
local function pushed(list)
  local job = redis.call('LINDEX', list, 0)
  if not job then return nil end
  -- The first six fields of a front's job: what follows them is a client's.
  local deadline, timeout = string.match(job, '^{"v":1,"id":"[^"]*","attempt":%d+,"deadline":(%d+),"timeout_ms":(%d+),')
  if deadline then return deadline - timeout end
  local head = string.match(job, '^[^\n]*')
  local good, fields = pcall(cjson.decode, #head <= 16384 and head or '')
  return good and type(fields) == 'table' and type(fields.enqueued) == 'number' and fields.enqueued or nil
end
local oldest
for list = 1, ARGV[3] == '1' and 3 or 0 do
  local at = pushed(KEYS[list])
  if at and at > 0 and (not oldest or at < oldest) then oldest = at end
end
local stats = redis.call('HMGET', KEYS[4], 'taken', 'withdrawn')
return {
  redis.call('LLEN', KEYS[1]), redis.call('LLEN', KEYS[2]), redis.call('LLEN', KEYS[3]),
  tonumber(stats[1] or 0) - tonumber(stats[2] or 0),
  redis.call('ZCOUNT', KEYS[5], ARGV[1], '+inf'), redis.call('HLEN', KEYS[6]),
  ARGV[3] == '1' and (oldest or 0) or nil,
}
