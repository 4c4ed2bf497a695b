-- Timeline of a single job: an entry for each of its leases that did not finish it, and for what its owner did. Its hash has
-- the facts of the current lease, so a job that succeeds at its first call writes nothing here.
-- Uses  job

-- Add the current lease to the timeline, with what followed: 'waiting' (until a time, for a reason), 'released', 'crashed',
-- 'moved' (to another account), 'retried' (after it ended at a time, with a code).
local function add_lease(timeline, now, call, then_, at_ms, reason)
  local claimed_ms, worker, known_call, calling = unpack(redis.call('HMGET', JOB, 'claimed_ms', 'worker', 'call', 'calling'))
  local length = redis.call('RPUSH', timeline, cjson.encode({
    claimed_ms = tonumber(claimed_ms), worker = worker or nil, call = call or known_call or nil,
    calling_ms = tonumber(calling), ended_ms = now, next = then_, at_ms = tonumber(at_ms), reason = reason,
  }))
  if length > MAX_LEASES then
    -- Entries differ by their times: this one gets a name by which it is removed.
    redis.call('LSET', timeline, FIRST_LEASES, '')
    redis.call('LREM', timeline, 1, '')
    redis.call('HINCRBY', JOB, 'leases_left_out', 1)
  end
  redis.call('HDEL', JOB, 'claimed_ms', 'worker', 'call')
end
