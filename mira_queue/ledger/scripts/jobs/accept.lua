-- Accept jobs. Once this has returned, they are durable.
-- Why atomic: two callers with the same idempotency key must get the same job, and a job must never be half written.
-- Uses  clock
-- KEYS  1 queued zset; then for each job: job hash, request, idempotency key
-- ARGV  for each job: job id, request body, request digest, name of the idempotency key ('' for none),
--       group, model, deadline in ms, 1 if its batch pauses when the account is rejected ('' for none of them)
-- Returns {position from 0, 'existing' | 'conflict', id} for each job whose idempotency key already has a job
local now = server_ms()
local others, queued = {}, {}
for position = 0, #ARGV / 8 - 1 do
  local id, body, digest, name, group, model, deadline_ms, pauses = unpack(ARGV, 8 * position + 1, 8 * position + 8)
  local job, request, key = unpack(KEYS, 3 * position + 2, 3 * position + 4)
  -- Only if it does not exist: a repeated call may come after the job has finished, and must not change its TTL.
  local is_new = name ~= '' and redis.call('SET', key, digest .. ':' .. id, 'NX')
  if not is_new then
    local held_digest, held_id = string.match(name ~= '' and redis.call('GET', key) or '', '^(%x+):(.*)$')
    if held_id and held_id ~= id then
      others[#others + 1] = { position, held_digest == digest and 'existing' or 'conflict', held_id }
    else
      -- The same id is the same call, repeated by a client that lost the response.
      is_new = redis.call('EXISTS', job) == 0
    end
  end
  if is_new then
    redis.call('HSET', job, 'state', 'queued', 'epoch', 0, 'created_ms', now, 'key', name, 'group', group, 'model', model)
    if deadline_ms ~= '' then
      redis.call('HSET', job, 'deadline_ms', deadline_ms)
    end
    if pauses ~= '' then
      redis.call('HSET', job, 'pauses', pauses)
    end
    redis.call('SET', request, body)
    queued[#queued + 1] = now
    queued[#queued + 1] = id
  end
end
if #queued > 0 then
  redis.call('ZADD', KEYS[1], unpack(queued))
end
return others
