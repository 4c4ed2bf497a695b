-- Close the account's gate for a time; then one probe goes first.
-- Why atomic: of several waits the longest holds, and calls that were on their way belong to the same event.
-- KEYS  1 pace hash
-- ARGV  1 now in ms, '' for the server's clock   2 ms to stay closed   3 reason: 'limit' or 'faults'
-- Returns ms that the gate stays closed
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local closed_before = tonumber(redis.call('HGET', KEYS[1], 'open_until') or 0)
local closed_until = math.max(closed_before, now + ARGV[2])
if closed_before <= now then
  redis.call('HINCRBY', KEYS[1], 'openings_' .. ARGV[3], 1)
end
redis.call('HSET', KEYS[1], 'open_until', closed_until, 'opened_at', now, 'reason', ARGV[3], 'probe', 'needed',
  'probe_until', 0)
if ARGV[3] == 'faults' then
  redis.call('HINCRBY', KEYS[1], 'fault_openings', 1)
end
redis.call('PEXPIRE', KEYS[1], math.max(604800000, closed_until - now + 604800000))
return closed_until - now
