-- Says that a worker takes claims, and over which connections. A worker that was declared dead is not let in again
-- as the one it was: its claims are gone, and it must begin anew (fresh).
-- KEYS 1 claimers
-- ARGV 1 worker, 2 registration, 3 fresh: 1 or 0
-- Gives 1, or 0: fresh and the name is taken; not fresh and the worker was declared dead.
local known = redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1
if known == (ARGV[3] == '1') then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
