-- Takes or renews the lease of the one who looks after a queue's workers.
-- KEYS 1 lease
-- ARGV 1 who, 2 for how many ms
-- Gives 1, or 0: somebody else has it.
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
