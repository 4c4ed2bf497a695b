-- Record that a job gets a new message: its wait is over, or the queue has lost the message that it had.
-- Why atomic: of any number of rescuers one sends the message.
-- Uses  clock, holds
-- KEYS  1 job hash   2 queued zset where it was found   3 waiting zset   4 queued zset of the first lane   5 holds zset
-- ARGV  1 job id   2 a queued job's message is lost if it was sent before this time (ms)
-- Returns 1 (send it) | 0 (not lost, or held: it is queued without a message, and counts from now)
local id, lost_before_ms = unpack(ARGV)
local now, state, group = server_ms(), unpack(redis.call('HMGET', KEYS[1], 'state', 'group'))
local sent_ms, overdue_ms = redis.call('ZSCORE', KEYS[2], id), redis.call('ZSCORE', KEYS[3], id)
if state == 'waiting' and overdue_ms and tonumber(overdue_ms) <= now then
  redis.call('HSET', KEYS[1], 'state', 'queued')
  redis.call('HDEL', KEYS[1], 'due_ms')
  redis.call('ZREM', KEYS[3], id)
elseif state ~= 'queued' or not sent_ms or tonumber(sent_ms) >= tonumber(lost_before_ms) then
  if state ~= 'waiting' then
    redis.call('ZREM', KEYS[3], id)
  end
  if state ~= 'queued' then
    redis.call('ZREM', KEYS[2], id)
  end
  return 0
end
redis.call('ZREM', KEYS[2], id)
redis.call('ZADD', KEYS[4], now, id)
return is_held(KEYS[5], group, now) and 0 or 1
