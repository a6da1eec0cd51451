-- Moves jobs from the lists of a queue into the claims of one worker.
-- KEYS 1 claimers, 2 claims, 3 landing, 4 normal, 5 high, 6 low, 7 withdrawn, 8 crashes, 9 stats
-- ARGV 1 worker, 2 number of the first claim, 3 how many to take from the lists, 4 how many count as started at once
-- Gives {landed: 1 if the job in landing has become the first claim, more: 1 if the lists hold more,
--        crashes: {} or a number a claim, job taken from the lists, …}
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then
  while redis.call('LMOVE', KEYS[3], KEYS[4], 'RIGHT', 'LEFT') do end
  return redis.error_reply('UNREGISTERED ' .. ARGV[1] .. ' takes no claims: register first')
end
local first, wanted, marks = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])

local function id_of(job)
  local read, head = pcall(cjson.decode, string.match(job, '^[^\n]*'))
  return read and type(head) == 'table' and type(head.id) == 'string' and head.id or ''
end

local jobs = { redis.call('LPOP', KEYS[3]) or nil }
local landed = #jobs
local classes = redis.call('EXISTS', KEYS[5], KEYS[6]) > 0
if wanted > 0 and not classes then
  for _, job in ipairs(redis.call('LPOP', KEYS[4], wanted) or {}) do jobs[#jobs + 1] = job end
end
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
local more = redis.call('EXISTS', KEYS[4])
-- Workers that wait do so at the normal list: while it is empty so are the others.
if more == 0 and classes and (redis.call('LMOVE', KEYS[5], KEYS[4], 'LEFT', 'RIGHT')
    or redis.call('LMOVE', KEYS[6], KEYS[4], 'LEFT', 'RIGHT')) then more = 1 end
if taken == 0 then return { 0, more, {} } end

if redis.call('EXISTS', KEYS[7]) == 1 then
  local wanted_still = {}
  for at, job in ipairs(jobs) do
    if at <= landed or redis.call('ZREM', KEYS[7], id_of(job)) == 0 then wanted_still[#wanted_still + 1] = job end
  end
  if #wanted_still < #jobs then redis.call('HINCRBY', KEYS[9], 'withdrawn', #jobs - #wanted_still) end
  jobs = wanted_still
end
local crashes = {}
if redis.call('EXISTS', KEYS[8]) == 1 then
  for at, job in ipairs(jobs) do crashes[at] = tonumber(redis.call('HGET', KEYS[8], id_of(job)) or 0) end
end
redis.call('HINCRBY', KEYS[9], 'taken', taken)
if #jobs > 0 then
  local fields = { 'started', first + math.min(marks, #jobs) - 1 }
  if marks < 1 then fields = {} end
  for at, job in ipairs(jobs) do
    fields[#fields + 1] = first + at - 1
    fields[#fields + 1] = job
  end
  redis.call('HSET', KEYS[2], unpack(fields))
end
local reply = { landed, more, crashes }
for at = landed + 1, #jobs do reply[#reply + 1] = jobs[at] end
return reply
