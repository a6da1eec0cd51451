-- Publishes a message on a channel without history, once.
-- KEYS 1 what remembers the publication's own key
-- ARGV 1 channel, 2 payload, 3 for how many ms KEYS 1 is remembered
-- Gives {id, how many reactors and other subscribers were told, 1 if it had been published before, else 0}, like publish.lua
-- There is an id only where the channel had a history when it was published before. Both in one script: between a note
-- and its PUBLISH nothing may break.
local known = redis.call('GET', KEYS[1])
if known then return { known, 0, 1 } end
redis.call('SET', KEYS[1], '', 'PX', ARGV[3])
return { '', redis.call('PUBLISH', ARGV[1], ARGV[2]), 0 }
