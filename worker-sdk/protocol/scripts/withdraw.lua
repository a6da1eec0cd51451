-- Takes a job that nobody wants any more out of its queue, or notes that it is not to be started and to be stopped.
-- KEYS 1 normal, 2 high, 3 low, 4 withdrawn
-- ARGV 1 job, 2 its id, 3 its deadline in ms, or 0: note nothing, 4 depth up to which a list is searched, or
--      -1: it is in none, 5 1 from the head, -1 from the tail, 6 now in ms, 7 ids noted at most
-- Gives 1 if it was taken out, else 0.
local searched = true
for at = 1, ARGV[4] == '-1' and 0 or 3 do
  local depth = redis.call('LLEN', KEYS[at])
  if depth > tonumber(ARGV[4]) then
    searched = false
  elseif depth > 0 and redis.call('LREM', KEYS[at], ARGV[5], ARGV[1]) > 0 then
    return 1
  end
end
local deadline, now = tonumber(ARGV[3]), tonumber(ARGV[6])
if deadline > now then
  redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', '(' .. ARGV[6])
  redis.call('ZADD', KEYS[4], ARGV[3], ARGV[2])
  -- No job has this id. It says that the lists may hold some of these: only then do claims look for them.
  if not searched then redis.call('ZADD', KEYS[4], 'GT', ARGV[3], '') end
  local over = redis.call('ZCARD', KEYS[4]) - tonumber(ARGV[7])
  if over > 0 then redis.call('ZREMRANGEBYRANK', KEYS[4], 0, over - 1) end
  if redis.call('PTTL', KEYS[4]) < deadline - now then redis.call('PEXPIRE', KEYS[4], deadline - now) end
end
return 0
