-- Takes everything from a dead worker: jobs that a front waits for are put on the list of lost ones for their fronts,
-- the others go back to the head of the queue, or to the dead letters when they have crashed too many workers.
-- KEYS 1 claimers, 2 claims, 3 landing, 4 record, 5 workers, 6 normal, 7 lost, 8 crashes, 9 dead, 10 stats,
--      11 batch
-- ARGV 1 worker, 2 the registration that was seen, or nothing: whatever it is, 3 certain: 1 or 0,
--      4 crashes after which a job is dead, 5 dead letters kept, 6 time to live of the crash counts in ms
-- Gives {handed to fronts, back in the queue, dead}, or {-1}: it has registered anew or beaten, and lives.
local certain = ARGV[3] == '1'
local registration = redis.call('HGET', KEYS[1], ARGV[1])
if ARGV[2] ~= '' and registration ~= ARGV[2] then return { -1 } end
if not certain and redis.call('EXISTS', KEYS[4]) == 1 then return { -1 } end

local started, claims = 0, {}
local entries = redis.call('HGETALL', KEYS[2])
for at = 1, #entries, 2 do
  local number = tonumber(entries[at])
  if number then claims[#claims + 1] = { number, entries[at + 1] } else started = tonumber(entries[at + 1]) end
end
local held = redis.call('LRANGE', KEYS[11], 0, -1)
if held[1] then
  local first, marked = string.match(held[1], '^(%d+) (%d+)')
  started = math.max(started, tonumber(marked))
  for at = 2, #held do
    if held[at] ~= '' then claims[#claims + 1] = { first + at - 2, held[at] } end
  end
end
for _, job in ipairs(redis.call('LRANGE', KEYS[3], 0, -1)) do claims[#claims + 1] = { math.huge, job } end
table.sort(claims, function(a, b) return a[1] > b[1] end)

-- What a MessagePack map says under `id`, `reply_to` and `attempt`; raises an error unless it is one, and nothing behind it.
-- Not `cmsgpack`: it does not know `bin`, which bodies are.
local function packed(job)
  local wide = { [196] = 1, [197] = 2, [198] = 4, [199] = 1, [200] = 2, [201] = 4, [204] = 1, [205] = 2, [206] = 4, [207] = 8,
    [217] = 1, [218] = 2, [219] = 4, [220] = 2, [221] = 4, [222] = 2, [223] = 4 }
  local fixed = { [192] = 0, [194] = 0, [195] = 0, [202] = 4, [203] = 8, [208] = 1, [209] = 2, [210] = 4, [211] = 8,
    [212] = 2, [213] = 3, [214] = 5, [215] = 9, [216] = 17 }
  -- The mark at a place, what the bytes behind it or the mark itself count, and where that is over.
  local function mark(at)
    local byte, count = string.byte(job, at) or error('cut off'), 0
    local over = at + 1 + (wide[byte] or 0)
    for place = at + 1, over - 1 do count = count * 256 + (string.byte(job, place) or error('cut off')) end
    if byte < 144 then count = byte % 128 elseif byte < 160 then count = byte - 144 elseif byte < 192 then count = byte - 160 end
    return byte, count, over
  end
  -- Where the value at a place ends, however deeply it is nested.
  local function skip(at)
    local open = 1
    repeat
      local byte, count, over = mark(at)
      at, open = over, open - 1
      if byte > 127 and byte < 144 or byte > 221 and byte < 224 then open = open + 2 * count
      elseif byte > 143 and byte < 160 or byte == 220 or byte == 221 then open = open + count
      elseif byte > 159 and byte < 192 or byte > 216 and byte < 220 or byte > 195 and byte < 199 then at = at + count
      elseif byte > 198 and byte < 202 then at = at + count + 1
      elseif byte > 191 and byte < 224 and not wide[byte] then at = at + (fixed[byte] or error('no such mark')) end
    until open == 0
    return at
  end
  local function text(at)
    local byte, count, over = mark(at)
    local is = byte > 159 and byte < 192 or byte > 216 and byte < 220
    return is and string.sub(job, over, over + count - 1) or nil
  end
  local fields, _, pairs, at = {}, mark(1)
  for _ = 1, pairs do
    local name = text(at) or error('a key that is no text')
    at = skip(at)
    local byte, count = mark(at)
    if name == 'id' or name == 'reply_to' then fields[name] = text(at)
    elseif name == 'attempt' then fields[name] = (byte < 128 or byte > 203 and byte < 208) and count or nil end
    at = skip(at)
  end
  return at == #job + 1 and fields or error('cut off, or bytes behind it')
end

local handed, back, dead = 0, 0, 0
local function bury(job)
  redis.call('RPUSH', KEYS[9], job)
  dead = dead + 1
end
for _, claim in ipairs(claims) do
  local job, was_started = claim[2], claim[1] <= started
  local read, head
  if string.find(job, '^[\128-\143\222\223]') then read, head = pcall(packed, job)
  -- The first line only, and as JSON: a body can look like anything.
  else read, head = pcall(cjson.decode, string.match(job, '^[^\n]*')) end
  if not read or type(head) ~= 'table' or type(head.id) ~= 'string' then
    bury(job)
  elseif type(head.reply_to) == 'string' then
    redis.call('RPUSH', KEYS[7], cjson.encode({
      id = head.id, attempt = tonumber(head.attempt) or 1, reply_to = head.reply_to,
      started = was_started, certain = certain, worker = ARGV[1],
    }))
    handed = handed + 1
  else
    local crashes = was_started and redis.call('HINCRBY', KEYS[8], head.id, 1) or 0
    if crashes >= tonumber(ARGV[4]) then
      redis.call('HDEL', KEYS[8], head.id)
      bury(job)
    else
      redis.call('LPUSH', KEYS[6], job)
      back = back + 1
    end
    if was_started then redis.call('PEXPIRE', KEYS[8], ARGV[6]) end
  end
end
if dead > 0 then redis.call('LTRIM', KEYS[9], -tonumber(ARGV[5]), -1) end
redis.call('DEL', KEYS[2], KEYS[3], KEYS[4], KEYS[11])
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[5], ARGV[1])
for name, count in pairs({ reaped = registration and 1 or 0, handed = handed, requeued = back, dead = dead }) do
  if count > 0 then redis.call('HINCRBY', KEYS[10], name, count) end
end
return { handed, back, dead }
