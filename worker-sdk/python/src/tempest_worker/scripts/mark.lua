-- Marks all claims up to one as started, before it is.
-- KEYS 1 claims
-- ARGV 1 number
-- Gives 1, or 0: the claim is gone, the worker was declared dead, the job must not be started.
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
if tonumber(redis.call('HGET', KEYS[1], 'started') or 0) < tonumber(ARGV[1]) then
  redis.call('HSET', KEYS[1], 'started', ARGV[1])
end
return 1
