-- Begin a call: permission of the account's gate, and the note that an answer is now owed.
-- Why atomic: after a Retry-After exactly one call goes first, and a crash after this point may have been billed.
-- KEYS  1 job hash   2 gate   3 probe
-- ARGV  1 epoch   2 probe's lease in ms   3 ms to wait while somebody else probes
-- The probe is 'needed', or who is out as it: the job and epoch, so that a repeated call hears again that it is the one.
-- Returns {'go', 0} | {'probe', 0} | {'wait', ms} | {'lost', 0}
local job = redis.call('HMGET', KEYS[1], 'state', 'epoch')
if job[1] ~= 'running' or job[2] ~= ARGV[1] then
  return { 'lost', 0 }
end
local closed_ms = redis.call('PTTL', KEYS[2])
if closed_ms > 0 then
  return { 'wait', closed_ms }
end
local probe = redis.call('GET', KEYS[3])
local own = KEYS[1] .. ':' .. ARGV[1]
if probe and probe ~= 'needed' and probe ~= own then
  return { 'wait', tonumber(ARGV[3]) }
end
redis.call('HSET', KEYS[1], 'calling', 1)
if probe then
  redis.call('SET', KEYS[3], own, 'PX', ARGV[2])
  return { 'probe', 0 }
end
return { 'go', 0 }
