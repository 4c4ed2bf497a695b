-- Accept jobs: from here on none of them is ever lost.
-- Why atomic: two callers with the same idempotency key must get the same job; a job must never be half written.
-- KEYS  1 queued zset; then for each job: job hash, request, idempotency key
-- ARGV  for each job: job id, request body, request digest, idempotency key's name ('' for none), group ('' for none)
-- Returns {place from 0, 'existing' | 'conflict', id} of each job that was not accepted: its key has one already
local now = redis.call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
local others, queued = {}, {}
for place = 0, #ARGV / 5 - 1 do
  local job, request, key = KEYS[3 * place + 2], KEYS[3 * place + 3], KEYS[3 * place + 4]
  local id, body, digest, name, group = unpack(ARGV, 5 * place + 1, 5 * place + 5)
  -- Only when it is not there: a repeated call may come after the job's end, whose life span it must keep.
  local is_new = name ~= '' and redis.call('SET', key, digest .. ':' .. id, 'NX')
  if not is_new then
    local held_digest, held_id = string.match(name ~= '' and redis.call('GET', key) or '', '^(%x+):(.*)$')
    if held_id and held_id ~= id then
      others[#others + 1] = { place, held_digest == digest and 'existing' or 'conflict', held_id }
    else
      -- The same id again is the same call, repeated by a client whose answer was lost.
      is_new = redis.call('EXISTS', job) == 0
    end
  end
  if is_new then
    redis.call('HSET', job, 'state', 'queued', 'epoch', 0, 'created_ms', now_ms, 'key', name, 'group', group)
    redis.call('SET', request, body)
    queued[#queued + 1] = now_ms
    queued[#queued + 1] = id
  end
end
if #queued > 0 then
  redis.call('ZADD', KEYS[1], unpack(queued))
end
return others
