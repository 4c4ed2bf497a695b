-- Indexes of single jobs: one of the open jobs, one for each state in which jobs end, and one for each error code. The
-- score is when the job was accepted. An entry is a hint: readers compare it with the job's hash.

-- Add a job to an index. The oldest entries make room, so that a list costs nothing that grows with the queue.
local function list_job(index, created_ms, id)
  redis.call('ZADD', index, created_ms, id)
  redis.call('ZREMRANGEBYRANK', index, 0, -MAX_LISTED - 1)
end

-- Move a job that has ended from the index of open jobs to those from `first` on in KEYS, which live for `ttl_ms`.
local function list_end(id, created_ms, ttl_ms, first)
  redis.call('ZREM', KEYS[first], id)
  for place = first + 1, #KEYS do
    list_job(KEYS[place], created_ms, id)
    redis.call('PEXPIRE', KEYS[place], ttl_ms)
  end
end
