-- Ends a session. Its name is barred for a while, so that requests under way cannot begin it anew.
-- KEYS: the session. ARGV: ms that its name is barred.
if redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
redis.call('UNLINK', KEYS[1])
redis.call('HSET', KEYS[1], '', 'ended')
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
