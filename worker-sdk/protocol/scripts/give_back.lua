-- Gives claims that were not started back to the head of the queue, in their order.
-- KEYS 1 claims, 2 normal, 3 withdrawn
-- ARGV numbers, ascending
-- Gives how many went back; those that are gone were taken away before.
local back = 0
for at = #ARGV, 1, -1 do
  local job = redis.call('HGET', KEYS[1], ARGV[at])
  if job then
    redis.call('HDEL', KEYS[1], ARGV[at])
    redis.call('LPUSH', KEYS[2], job)
    back = back + 1
  end
end
-- Claims are to look for withdrawn ones in the lists again.
local last = back > 0 and redis.call('ZRANGE', KEYS[3], -1, -1, 'WITHSCORES') or {}
if last[1] then redis.call('ZADD', KEYS[3], last[2], '') end
return back
