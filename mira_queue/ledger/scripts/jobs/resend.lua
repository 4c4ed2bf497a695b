-- Note that a job needs a new message: its wait is over, or the queue has lost the one it had.
-- Why atomic: any number of rescuers look at once; one of them sends.
-- KEYS  1 job hash   2 queued zset where it was found   3 waiting zset   4 queued zset of the lane that goes first
-- ARGV  1 job id   2 a queued job was lost when it was sent before this time (ms)
-- Returns 1 (send it) | 0
local now = redis.call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
local state = redis.call('HGET', KEYS[1], 'state')
local overdue_ms = redis.call('ZSCORE', KEYS[3], ARGV[1])
local sent_ms = redis.call('ZSCORE', KEYS[2], ARGV[1])
if state == 'waiting' and overdue_ms and tonumber(overdue_ms) <= now_ms then
  redis.call('HSET', KEYS[1], 'state', 'queued')
  redis.call('HDEL', KEYS[1], 'due_ms')
  redis.call('ZREM', KEYS[3], ARGV[1])
elseif state ~= 'queued' or not sent_ms or tonumber(sent_ms) >= tonumber(ARGV[2]) then
  if state ~= 'waiting' then
    redis.call('ZREM', KEYS[3], ARGV[1])
  end
  if state ~= 'queued' then
    redis.call('ZREM', KEYS[2], ARGV[1])
  end
  return 0
end
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZADD', KEYS[4], now_ms, ARGV[1])
return 1
