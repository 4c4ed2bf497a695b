-- Keys of a job, in the order of `names.job_keys`, and the steps that several scripts take with it.
local JOB, REQUEST, RESULT, IDEMPOTENCY, FINISHED, LEASED, HOLDS, WAITING, FIRST, NORMAL, LOW = unpack(KEYS)
local LAST_QUEUE = 12

-- Remove the job from the waiting zset, or from the queued zset of its lane: it is in one of them. That of lines comes
-- first, because they are the most.
local function leave_queue(id)
  for place = LAST_QUEUE, 8, -1 do
    if redis.call('ZREM', KEYS[place], id) == 1 then
      return
    end
  end
end

-- Count a call in flight as perhaps billed. Return the number of such calls, or nil if no call is in flight.
local function count_call()
  return redis.call('HDEL', JOB, 'calling') == 1 and redis.call('HINCRBY', JOB, 'unanswered', 1) or nil
end

-- Forget the 429s of the job's calls: they count against it only in one account, and in one life. What it has paid for
-- stays on record.
local function forget_rejections()
  local history = redis.call('HGET', JOB, 'history')
  if history then
    redis.call('HSET', JOB, 'history', (string.gsub(history, '"rejections":%d+', '"rejections":0')))
  end
end

-- Announce a finished job. Its keys live for `ttl_ms` from now.
local function close(id, record, ttl_ms, name, group)
  redis.call('ZREM', LEASED, id)
  redis.call('PEXPIRE', JOB, ttl_ms)
  if name ~= '' then
    redis.call('PEXPIRE', IDEMPOTENCY, ttl_ms)
  end
  if record ~= '' then
    redis.call('SET', RESULT, record, 'PX', ttl_ms)
  end
  if group ~= '' then
    redis.call('RPUSH', FINISHED, id)
    redis.call('PEXPIRE', FINISHED, ttl_ms)
  end
  redis.call('PUBLISH', RESULT, record)
end
