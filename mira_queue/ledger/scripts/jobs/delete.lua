-- Delete finished jobs whose outcomes are stored permanently elsewhere.
-- Why atomic: an open job must not be deleted.
-- KEYS  for each job: job hash, request, result, idempotency key
-- Returns nothing: open jobs stay
for first = 1, #KEYS, 4 do
  local state = redis.call('HGET', KEYS[first], 'state')
  if state ~= 'queued' and state ~= 'running' and state ~= 'waiting' then
    redis.call('DEL', unpack(KEYS, first, first + 3))
  end
end
