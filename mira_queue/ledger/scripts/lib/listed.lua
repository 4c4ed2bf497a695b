-- Indexes of single jobs: one of the open jobs, one for each state in which jobs end, and one for each error code. The
-- score is when the job was accepted. An entry is a hint: readers compare it with the job's hash.

-- Add a job to an index. The oldest entries make room, so that a list costs nothing that grows with the queue.
local function list_job(index, created_ms, id)
  redis.call('ZADD', index, created_ms, id)
  redis.call('ZREMRANGEBYRANK', index, 0, -MAX_LISTED - 1)
end

-- Remove a job that has ended from the deadlines, which are at `first` in KEYS. The usage of its project comes next. Move it
-- between the indexes that follow: from those of open jobs (of its project, and of all jobs) to the others, which live for
-- `ttl_ms`.
local function list_end(id, project, created_ms, ttl_ms, first)
  local ends = first + 2 + (project and 2 or 1)
  redis.call('ZREM', KEYS[first], id)
  for place = first + 2, ends - 1 do
    redis.call('ZREM', KEYS[place], id)
  end
  for place = ends, #KEYS do
    list_job(KEYS[place], created_ms, id)
    redis.call('PEXPIRE', KEYS[place], ttl_ms)
  end
end

-- Do the opposite. A job that is retried has no deadline.
local function list_open(id, project, created_ms, first)
  local ends = first + 2 + (project and 2 or 1)
  for place = first + 2, ends - 1 do
    list_job(KEYS[place], created_ms, id)
  end
  for place = ends, #KEYS do
    redis.call('ZREM', KEYS[place], id)
  end
end
