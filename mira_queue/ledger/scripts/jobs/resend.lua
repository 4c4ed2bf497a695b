-- Record that a job gets a new message: its wait is over, or the queue has lost the message that it had.
-- Why atomic: of any number of rescuers one sends the message.
-- Uses  clock, holds, job
-- KEYS  of the job (lib/job.lua), and the queued zset where it was found
-- ARGV  1 job id   2 a queued job's message is lost if it was sent before this time (ms)
-- Returns 'first' | 'low' (the lane of its new message) | nil (not lost, or held: it is queued without a message, and
--         counts from now)
local id, lost_before_ms, found_in = ARGV[1], ARGV[2], KEYS[#KEYS]
local now, state, account, group, priority
  = server_ms(), unpack(redis.call('HMGET', JOB, 'state', 'account', 'group', 'priority'))
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
  return
end
redis.call('ZREM', found_in, id)
-- A job that has waited goes first. One with a low priority never does: many that are due together stay behind.
redis.call('ZADD', priority == 'low' and LOW or FIRST, now, id)
return not is_held(HOLDS, group, account, now) and (priority == 'low' and 'low' or 'first') or nil
