-- Changes a session in one piece, or not at all.
-- KEYS: the session, what it is to be called from here on (the same key: no change of name).
-- ARGV: 1 if it must be there, ms that it lasts, bytes that it may have, ms that the old name is barred;
--       then steps of three: r path -, p path value, o path -
-- Replies: gone · large BYTES · empty · ok BYTES
local fields, count = {}, 0
local flat = redis.call('HGETALL', KEYS[1])
for at = 1, #flat, 2 do
  fields[flat[at]] = flat[at + 1]
end
if ARGV[1] == '1' and (#flat == 0 or fields['']) then
  return {'gone'}
end

local before = {}
for path, value in pairs(fields) do
  before[path] = value
end

local function remove(path)
  fields[path] = nil
  local below = path .. '/'
  if fields[below] then
    for other in pairs(fields) do
      if other:sub(1, #below) == below then
        fields[other] = nil
      end
    end
  end
end

for at = 5, #ARGV, 3 do
  local what, path = ARGV[at], ARGV[at + 1]
  if what == 'o' then
    fields[path] = nil
    fields[path .. '/'] = ''
  else
    remove(path)
    if what == 'p' then
      fields[path] = ARGV[at + 2]
    end
  end
end

-- As JSON: "name":value, or "name":{}, and the braces.
local bytes = 1
for path, value in pairs(fields) do
  count = count + 1
  local name = path:match('([^/]*)/?$')
  bytes = bytes + #name + 4 + (path:sub(-1) == '/' and 2 or #value)
end
if bytes > tonumber(ARGV[3]) then
  return {'large', bytes}
end
if count == 0 then
  redis.call('UNLINK', KEYS[1])
  return {'empty'}
end

for path in pairs(before) do
  if fields[path] == nil then
    redis.call('HDEL', KEYS[1], path)
  end
end
for path, value in pairs(fields) do
  if before[path] ~= value then
    redis.call('HSET', KEYS[1], path, value)
  end
end
if KEYS[2] ~= KEYS[1] then
  redis.call('RENAME', KEYS[1], KEYS[2])
  redis.call('HSET', KEYS[1], '', 'renamed')
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
end
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return {'ok', bytes}
