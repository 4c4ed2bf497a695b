-- Replace the record of an endpoint.
-- Why atomic: a change that another gateway has made in the meantime, such as a new secret, must not be undone.
-- KEYS  1 endpoints of the project
-- ARGV  1 id   2 record before   3 record after ('' to delete it)
-- Returns 1 | 0 (the record is another one by now: read it again)
local id, before, after = unpack(ARGV)
if redis.call('HGET', KEYS[1], id) ~= before then
  return 0
end
if after == '' then
  redis.call('HDEL', KEYS[1], id)
else
  redis.call('HSET', KEYS[1], id, after)
end
return 1
