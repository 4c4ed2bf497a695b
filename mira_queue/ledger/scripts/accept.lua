-- Accept a job: from here on it is never lost.
-- Why atomic: two callers with the same idempotency key must get the same job; a job must never be half written.
-- KEYS  1 job hash   2 request   3 idempotency key   4 queued zset
-- ARGV  1 job id   2 request body   3 request digest   4 idempotency key's name ('' for none)   5 group ('' for none)
-- Returns {'accepted', id} | {'existing', id} | {'conflict', id}
local now = redis.call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
if ARGV[4] ~= '' then
  local holder = redis.call('GET', KEYS[3])
  if holder then
    local digest, id = string.match(holder, '^(%x+):(.*)$')
    if id ~= ARGV[1] then
      return { digest == ARGV[3] and 'existing' or 'conflict', id }
    end
  else
    -- Only when it is not there: a repeated call may come after the job's end, whose life span it must keep.
    redis.call('SET', KEYS[3], ARGV[3] .. ':' .. ARGV[1])
  end
end
-- The same id again is the same call, repeated by a client whose answer was lost.
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[1], 'state', 'queued', 'epoch', 0, 'created_ms', now_ms, 'key', ARGV[4], 'group', ARGV[5])
  redis.call('SET', KEYS[2], ARGV[2])
  redis.call('ZADD', KEYS[4], now_ms, ARGV[1])
end
return { 'accepted', ARGV[1] }
