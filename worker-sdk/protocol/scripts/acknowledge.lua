-- Acknowledges jobs of a batch that do not end together: with the last of them the batch goes.
-- KEYS 1 batch
-- ARGV 1 number of its first job: another batch is not touched, 2… numbers
-- Gives how many of them were still there.
local first, started, open = string.match(redis.call('LINDEX', KEYS[1], 0) or '', '^(%d+) (%d+) (%d+)$')
if first ~= ARGV[1] then return 0 end
local there = 0
for at = 2, #ARGV do
  local place = tonumber(ARGV[at]) - first + 1
  if place > 0 and (redis.call('LINDEX', KEYS[1], place) or '') ~= '' then
    redis.call('LSET', KEYS[1], place, '')
    there = there + 1
  end
end
if there == tonumber(open) then
  redis.call('DEL', KEYS[1])
elseif there > 0 then
  redis.call('LSET', KEYS[1], 0, string.format('%s %s %d', first, started, open - there))
end
return there
