-- Write a batch, and the event that it has ended.
-- Why atomic: no event is lost, and none reports an end that did not happen.
-- Uses  events
-- KEYS  1 batch hash   2 batches zset   3 set of open batches; then those of an event (lib/events.lua)
-- ARGV  1 id   2 the batch   3 its status   4 time of its creation   5 1 if a supervisor has to run it, else 0
--       6 TTL in ms ('' if it does not expire)   7 event ('' for none)   8 1 to write it only if there is none, else 0
-- Returns 1 | 0 (there is one)
local id, batch, status, created_at, is_open, ttl_ms, event, only_new = unpack(ARGV)
if only_new == '1' and redis.call('HEXISTS', KEYS[1], 'batch') == 1 then
  return 0
end
if event ~= '' then
  -- The end is written more than once: by a supervisor that continues after a crash, and if a response was lost.
  local before = redis.call('HGET', KEYS[1], 'batch')
  if not before or cjson.decode(before).status ~= status then
    add_event(4, cjson.decode(event))
  end
end
redis.call('HSET', KEYS[1], 'batch', batch)
redis.call('ZADD', KEYS[2], 'NX', created_at, id)
if ttl_ms == '' then
  redis.call('PERSIST', KEYS[1])
else
  redis.call('PEXPIRE', KEYS[1], ttl_ms)
end
if is_open == '1' then
  redis.call('SADD', KEYS[3], id)
else
  redis.call('SREM', KEYS[3], id)
end
return 1
