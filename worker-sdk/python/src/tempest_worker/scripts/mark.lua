-- Marks all claims up to one as started, before it is.
-- KEYS 1 claims, 2 (optional) batch
-- ARGV 1 number
-- Gives 1, or 0: the claim is gone, the worker was declared dead, the job must not be started.
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then
  local first = string.match(KEYS[2] and redis.call('LINDEX', KEYS[2], 0) or '', '^%d+')
  local place = first and tonumber(ARGV[1]) - first + 1 or 0
  if place < 1 or (redis.call('LINDEX', KEYS[2], place) or '') == '' then return 0 end
end
if tonumber(redis.call('HGET', KEYS[1], 'started') or 0) < tonumber(ARGV[1]) then
  redis.call('HSET', KEYS[1], 'started', ARGV[1])
end
return 1
