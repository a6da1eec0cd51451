-- Pushes a job of high or low priority. Where the normal list is empty it goes there: workers that wait do so there,
-- and there is nobody it could overtake, or be overtaken by.
-- KEYS 1 normal, 2 high, 3 low
-- ARGV 1 job, 2 `high` or `low`
-- Gives the depth of all three.
local class = ARGV[2] == 'high' and KEYS[2] or KEYS[3]
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('RPUSH', class, ARGV[1])
else
  local waiting = redis.call('EXISTS', KEYS[2], KEYS[3]) > 0
  redis.call('RPUSH', waiting and class or KEYS[1], ARGV[1])
  if waiting and not redis.call('LMOVE', KEYS[2], KEYS[1], 'LEFT', 'RIGHT') then
    redis.call('LMOVE', KEYS[3], KEYS[1], 'LEFT', 'RIGHT')
  end
end
return redis.call('LLEN', KEYS[1]) + redis.call('LLEN', KEYS[2]) + redis.call('LLEN', KEYS[3])
