-- Record that a job gets a new message: its wait is over, or the queue has lost the message that it had.
-- Why atomic: of any number of rescuers one sends the message.
-- Uses  clock, holds, job
-- KEYS  of the job (lib/job.lua), and the queued zset where it was found
-- ARGV  1 job id   2 a queued job's message is lost if it was sent before this time (ms)
-- Returns 1 (send it) | 0 (not lost, or held: it is queued without a message, and counts from now)
local id, lost_before_ms, found_in = ARGV[1], ARGV[2], KEYS[#KEYS]
local now, state, account, group = server_ms(), unpack(redis.call('HMGET', JOB, 'state', 'account', 'group'))
local sent_ms, overdue_ms = redis.call('ZSCORE', found_in, id), redis.call('ZSCORE', WAITING, id)
if state == 'waiting' and overdue_ms and tonumber(overdue_ms) <= now then
  redis.call('HSET', JOB, 'state', 'queued')
  redis.call('HDEL', JOB, 'due_ms')
  redis.call('ZREM', WAITING, id)
elseif state ~= 'queued' or not sent_ms or tonumber(sent_ms) >= tonumber(lost_before_ms) then
  if state ~= 'waiting' then
    redis.call('ZREM', WAITING, id)
  end
  if state ~= 'queued' then
    redis.call('ZREM', found_in, id)
  end
  return 0
end
redis.call('ZREM', found_in, id)
redis.call('ZADD', FIRST, now, id)
return is_held(HOLDS, group, account, now) and 0 or 1
