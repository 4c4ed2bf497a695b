-- Forget finished jobs: their outcomes have been written elsewhere for good.
-- Why atomic: an open job must not be dropped.
-- KEYS  for each job: job hash, request, idempotency key, result
-- Returns nothing: open jobs stay
for place = 1, #KEYS, 4 do
  local state = redis.call('HGET', KEYS[place], 'state')
  if state ~= 'queued' and state ~= 'running' and state ~= 'waiting' then
    redis.call('DEL', unpack(KEYS, place, place + 3))
  end
end
