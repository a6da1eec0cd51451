-- After a broken connection: claims whose replies never arrived.
-- KEYS 1 claimers, 2 claims, 3 landing
-- ARGV 1 worker, 2 the number that its next claim would have had
-- Gives {started: claims up to this number count as started, number, job, …} in the order of the numbers.
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then
  return redis.error_reply('UNREGISTERED ' .. ARGV[1] .. ' takes no claims: register first')
end
local next, started, found = tonumber(ARGV[2]), 0, {}
local entries = redis.call('HGETALL', KEYS[2])
local last = next - 1
for at = 1, #entries, 2 do
  local number = tonumber(entries[at])
  if not number then started = tonumber(entries[at + 1])
  elseif number >= next then
    found[#found + 1] = { number, entries[at + 1] }
    last = math.max(last, number)
  end
end
local job = redis.call('LPOP', KEYS[3])
if job then
  redis.call('HSET', KEYS[2], last + 1, job)
  found[#found + 1] = { last + 1, job }
end
table.sort(found, function(a, b) return a[1] < b[1] end)
local reply = { started }
for _, entry in ipairs(found) do
  reply[#reply + 1] = entry[1]
  reply[#reply + 1] = entry[2]
end
return reply
