-- Moves jobs from the lists of a queue into the claims of one worker.
-- KEYS 1 claimers, 2 claims, 3 landing, 4 normal, 5 high, 6 low, 7 withdrawn, 8 crashes, 9 stats, 10 (optional) batch
-- ARGV 1 worker, 2 number of the first claim, 3 how many to take from the lists, 4 how many count as started at once
-- Gives {landed: 1 if the job in landing has become the first claim, more: 1 if the lists hold more,
--        crashes: {} or a number a claim, job taken from the lists, …}
-- or {landed, more, how many}: all of them, the one that landed too, are the batch, behind its head `first started open`.
-- What runs for every claim is few calls: each costs Redis more than all the rest, and a number handed to one as much again.
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then
  while redis.call('LMOVE', KEYS[3], KEYS[4], 'RIGHT', 'LEFT') do end
  return redis.error_reply('UNREGISTERED ' .. ARGV[1] .. ' takes no claims: register first')
end
local first, wanted, marks = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local text = string.format

local dropping, others = redis.call('ZSCORE', KEYS[7], ''), redis.call('EXISTS', KEYS[5], KEYS[6], KEYS[8]) > 0
local counting = others and redis.call('EXISTS', KEYS[8]) == 1
local classes = others and (not counting or redis.call('EXISTS', KEYS[5], KEYS[6]) > 0)

-- No job passes through here: the list itself, or a copy of its head, becomes the batch. A copy costs by what is copied.
if KEYS[10] and wanted >= 4 and not dropping and not others then
  local depth, moved = redis.call('LLEN', KEYS[4]), 0
  if depth >= 4 and depth <= wanted then
    moved = redis.pcall('RENAMENX', KEYS[4], KEYS[10])
  elseif depth > wanted and depth <= 8 * wanted then
    local bytes = redis.pcall('MEMORY', 'USAGE', KEYS[4])
    moved = type(bytes) == 'number' and bytes <= 262144 and redis.pcall('COPY', KEYS[4], KEYS[10])
    if moved == 1 then
      redis.call('LTRIM', KEYS[10], '0', text('%d', wanted - 1))
      redis.call('LTRIM', KEYS[4], ARGV[3], '-1')
    end
  end
  if moved == 1 then
    local landed, count = 0, math.min(depth, wanted)
    if redis.call('LMOVE', KEYS[3], KEYS[10], 'RIGHT', 'LEFT') then landed, count = 1, count + 1 end
    redis.call('LPUSH', KEYS[10], text('%d %d %d', first, first + math.min(marks, count) - 1, count))
    if redis.call('HINCRBY', KEYS[9], 'taken', text('%d', count)) == count then redis.call('PEXPIRE', KEYS[9], 86400000) end
    return { landed, depth > wanted and 1 or 0, count }
  end
end
local jobs = wanted > 0 and not classes and redis.call('LPOP', KEYS[4], ARGV[3]) or {}
local landing = redis.call('LPOP', KEYS[3])
if landing then table.insert(jobs, 1, landing) end
local landed, more = landing and 1 or 0, 0
-- Of ten claims seven begin with the high ones, two with the normal ones, one with the low ones: nobody starves.
while classes and #jobs < landed + wanted do
  local turn = (first + #jobs) % 10
  local order = { 5, 4, 6 }
  if turn == 9 then order = { 6, 5, 4 } elseif turn % 5 == 2 then order = { 4, 5, 6 } end
  local job = false
  for _, at in ipairs(order) do job = job or redis.call('LPOP', KEYS[at]) end
  if not job then break end
  jobs[#jobs + 1] = job
end
local taken = #jobs
-- Fewer than were wanted means that there are no more.
if classes or taken - landed == wanted then more = redis.call('EXISTS', KEYS[4]) end
-- Workers that wait do so at the normal list: while it is empty so are the others.
if more == 0 and classes and (redis.call('LMOVE', KEYS[5], KEYS[4], 'LEFT', 'RIGHT')
    or redis.call('LMOVE', KEYS[6], KEYS[4], 'LEFT', 'RIGHT')) then more = 1 end
if taken == 0 then return { 0, more, {} } end

local crashes = {}
if dropping or counting then
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
  local ids = {}
  for at, job in ipairs(jobs) do
    -- As fronts write it; reading any other JSON takes ten times as long.
    local id = string.match(job, '^{"v":1,"id":"([%w.-]+)"')
    -- The same in MessagePack: `map 16`, `v` 1, `id`.
    if not id and string.sub(job, 1, 1) == '\222' and string.sub(job, 4, 9) == '\161v\1\162id' then
      local length = string.byte(job, 10) or 0
      id = length > 160 and length < 192 and string.sub(job, 11, length - 150)
    end
    if not id then
      local read, head
      if string.find(job, '^[\128-\143\222\223]') then read, head = pcall(packed, job)
      else read, head = pcall(cjson.decode, string.match(job, '^[^\n]*')) end
      id = read and type(head) == 'table' and type(head.id) == 'string' and head.id or ''
    end
    ids[at] = id
  end
  local deadlines = dropping and redis.call('ZMSCORE', KEYS[7], unpack(ids)) or {}
  local all = jobs
  jobs = {}
  for at, job in ipairs(all) do
    if deadlines[at] and at > landed and ids[at] ~= '' then
      redis.call('ZREM', KEYS[7], ids[at])
    else
      jobs[#jobs + 1] = job
      if counting then crashes[#jobs] = tonumber(redis.call('HGET', KEYS[8], ids[at]) or 0) end
    end
  end
  if #jobs < taken then redis.call('HINCRBY', KEYS[9], 'withdrawn', text('%d', taken - #jobs)) end
end
-- The first to count sees to the key's end; fronts put it off.
if redis.call('HINCRBY', KEYS[9], 'taken', text('%d', taken)) == taken then redis.call('PEXPIRE', KEYS[9], 86400000) end
if #jobs > 0 then
  local fields = marks > 0 and { 'started', text('%d', first + math.min(marks, #jobs) - 1) } or {}
  local before = #fields - 1
  for at = 1, #jobs do
    fields[before + 2 * at] = text('%d', first + at - 1)
    fields[before + 2 * at + 1] = jobs[at]
  end
  redis.call('HSET', KEYS[2], unpack(fields))
end
return { landed, more, crashes, unpack(jobs, landed + 1) }
