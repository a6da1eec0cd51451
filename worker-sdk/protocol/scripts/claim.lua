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
  local ids = {}
  for at, job in ipairs(jobs) do
    -- As fronts write it; reading any other JSON takes ten times as long.
    local id = string.match(job, '^{"v":1,"id":"([%w.-]+)"')
    if not id then
      local read, head = pcall(cjson.decode, string.match(job, '^[^\n]*'))
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
