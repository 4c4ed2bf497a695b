-- Open the account's circuit breaker for a time. Afterward one probe goes first.
-- Why atomic: of several waits the longest counts, and calls that were in flight belong to the same event.
-- Uses  clock
-- KEYS  1 pace hash
-- ARGV  1 now in ms ('' for the server's clock)   2 ms to stay open   3 reason: 'limit' or 'faults'
-- Returns ms that the breaker stays open
local now, wait_ms, reason = server_ms(ARGV[1]), unpack(ARGV, 2, 3)
local open_before = tonumber(redis.call('HGET', KEYS[1], 'open_until') or 0)
local open_until = math.max(open_before, now + wait_ms)
if open_before <= now then
  redis.call('HINCRBY', KEYS[1], 'openings_' .. reason, 1)
end
redis.call('HSET', KEYS[1], 'open_until', open_until, 'opened_at', now, 'reason', reason, 'probe', 'needed',
  'probe_until', 0)
if reason == 'faults' then
  redis.call('HINCRBY', KEYS[1], 'fault_openings', 1)
end
redis.call('PEXPIRE', KEYS[1], open_until - now + ACCOUNT_TTL_MS)
return open_until - now
