-- Publishes a message on a channel with history: keeps it in the channel's log and announces it.
-- KEYS 1 log; the announcement goes to the channel of the same name; 2 (optional) what remembers a publication's own key
-- ARGV 1 payload, 2 messages kept at most, 3 for how many ms, 4 for how many ms KEYS 2 is remembered
-- Gives {id, how many reactors and other subscribers were told, 1 if it had been published before, else 0}
-- An id is the time in ms and the number of the message in its log; `prev` names the message before, so that whoever has
-- seen that one knows that nothing lies between.
local keep = tonumber(ARGV[3])
-- Before anything is written: an error half way would leave a message that nobody is told of.
if not tonumber(ARGV[2]) or not keep or KEYS[2] and not tonumber(ARGV[4]) then
  return redis.error_reply('ERR publish.lua takes a payload, a number of messages and a number of ms')
end
local known = KEYS[2] and redis.call('GET', KEYS[2])
if known then return { known, 0, 1 } end
local time = redis.call('TIME')
local ms = time[1] * 1000 + math.floor(time[2] / 1000)
local ended = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local prev, number = '0-0', 0
if ended then
  prev = ended[1]
  local last, counted = string.match(prev, '^(%d+)-(%d+)$')
  ms, number = math.max(ms, tonumber(last)), tonumber(counted)
end
local id = string.format('%.0f-%.0f', ms, number + 1)
redis.call('XADD', KEYS[1], 'MAXLEN', ARGV[2], id, 'prev', prev, 'data', ARGV[1])
redis.call('XTRIM', KEYS[1], 'MINID', string.format('%.0f', math.max(ms - keep, 0)))
-- The last one outlives its time by a day: by it a client that comes back learns that it has missed nothing.
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', keep + 86400000))
if KEYS[2] then redis.call('SET', KEYS[2], id, 'PX', ARGV[4]) end
return { id, redis.call('PUBLISH', KEYS[1], id .. ' ' .. prev .. ' ' .. ARGV[1]), 0 }
