-- Removes lost jobs that have been handed to their fronts, unless somebody else does so by now.
-- KEYS 1 lease, 2 lost
-- ARGV 1 who, 2 how many
-- Gives 1, or 0: the lease has passed on, and so has the list.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('LTRIM', KEYS[2], ARGV[2], -1)
return 1
