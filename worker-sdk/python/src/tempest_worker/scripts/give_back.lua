-- Gives claims that were not started back to the head of the queue, in their order.
-- KEYS 1 claims, 2 normal, 3 withdrawn, 4 (optional) batch
-- ARGV numbers, ascending
-- Gives how many went back; those that are gone were taken away before.
local head = KEYS[4] and redis.call('LINDEX', KEYS[4], 0) or ''
local first, started, open = string.match(head, '^(%d+) (%d+) (%d+)$')
local back, of_batch = 0, 0
for at = #ARGV, 1, -1 do
  local job = redis.call('HGET', KEYS[1], ARGV[at])
  local place = first and tonumber(ARGV[at]) - first + 1 or 0
  if job then
    redis.call('HDEL', KEYS[1], ARGV[at])
  elseif place > 0 then
    job = redis.call('LINDEX', KEYS[4], place)
    if job and job ~= '' then
      redis.call('LSET', KEYS[4], place, '')
      of_batch = of_batch + 1
    end
  end
  if job and job ~= '' then
    redis.call('LPUSH', KEYS[2], job)
    back = back + 1
  end
end
if of_batch > 0 and of_batch == tonumber(open) then
  redis.call('DEL', KEYS[4])
elseif of_batch > 0 then
  redis.call('LSET', KEYS[4], 0, string.format('%s %s %d', first, started, open - of_batch))
end
-- Claims are to look for withdrawn ones in the lists again.
local last = back > 0 and redis.call('ZRANGE', KEYS[3], -1, -1, 'WITHSCORES') or {}
if last[1] then redis.call('ZADD', KEYS[3], last[2], '') end
return back
