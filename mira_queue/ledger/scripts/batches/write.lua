-- Write a batch, and the event that it has ended.
-- Why atomic: no event is lost, and none reports an end that did not happen.
-- Uses  batch_usage, events
-- KEYS  1 batch hash   2 batches zset   3 set of open batches   4 usage of its project; then those of an event
--       (lib/events.lua)
-- ARGV  1 id   2 the batch   3 its status   4 time of its creation   5 1 if a supervisor has to run it, else 0
--       6 TTL in ms ('' if it does not expire)   7 event ('' for none)   8 its project ('' for none)
--       9 its open lines ('' if they are not counted yet)   10 what it may still cost   11 its cost
--       12 the batch that it replaces ('none': there is none; '' for any)   13 the command that is pending ('' for any)
-- Returns 1 | 0 (there is another batch, or another command)
local id, batch, status, created_at, is_open, ttl_ms, event, project, lines, reserved, cost, replaces, command = unpack(ARGV)
local stored = redis.call('HGET', KEYS[1], 'batch')
if replaces ~= '' and (stored or 'none') ~= replaces then
  return 0
end
if command ~= '' and redis.call('HGET', KEYS[1], 'command') ~= command then
  return 0
end
if event ~= '' then
  -- The end is written more than once: by a supervisor that continues after a crash, and if a response was lost.
  if not stored or cjson.decode(stored).status ~= status then
    add_event(5, cjson.decode(event))
  end
end
if project ~= '' then
  -- The server has lost its data, or an older version has added the batch: this cost is not one of today.
  redis.call('HSETNX', KEYS[1], 'counted_cost', cost)
  local counted_lines, counted_reserved, has_command
    = unpack(redis.call('HMGET', KEYS[1], 'open_lines', 'reserved', 'command'))
  lines = tonumber(lines ~= '' and lines or counted_lines or 1)
  reserved = tonumber(reserved)
  if has_command and is_open == '1' then
    -- Its supervisor has not seen yet what the command has reserved.
    lines, reserved = math.max(lines, counted_lines or 0), math.max(reserved, counted_reserved or 0)
  end
  count_batch(KEYS[1], KEYS[4], lines, reserved, tonumber(cost))
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
