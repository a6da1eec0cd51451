-- After a broken connection: claims whose replies never arrived.
-- KEYS 1 claimers, 2 claims, 3 landing, 4 (optional) batch
-- ARGV 1 worker, 2 the number that its next claim would have had
-- Gives {started: claims up to this number count as started, number, job, …} in the order of the numbers; with KEYS 4
-- {started, the numbers of the first and the last job of the batch, or 0 and 0, number, job, …}.
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
local held = KEYS[4] and redis.call('LRANGE', KEYS[4], 0, -1) or {}
local first, marked = 0, 0
if held[1] then
  first, marked = string.match(held[1], '^(%d+) (%d+)')
  first, started = tonumber(first), math.max(started, tonumber(marked))
  for at = 2, #held do
    local number = first + at - 2
    last = math.max(last, number)
    if number >= next and held[at] ~= '' then found[#found + 1] = { number, held[at] } end
  end
end
local job = redis.call('LPOP', KEYS[3])
if job then
  redis.call('HSET', KEYS[2], last + 1, job)
  found[#found + 1] = { last + 1, job }
end
table.sort(found, function(a, b) return a[1] < b[1] end)
local reply = KEYS[4] and { started, first, held[1] and first + #held - 2 or 0 } or { started }
for _, entry in ipairs(found) do
  reply[#reply + 1] = entry[1]
  reply[#reply + 1] = entry[2]
end
return reply
