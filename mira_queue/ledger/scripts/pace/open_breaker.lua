-- Open the account's circuit breaker for a time. Afterward one probe goes first.
-- Why atomic: of several waits the longest counts, and calls that were in flight belong to the same event.
-- Uses  clock
-- KEYS  1 pace hash
-- ARGV  1 now in ms ('' for the server's clock)   2 ms to stay open   3 reason: 'limit' or 'faults'
--       4 when the call that had a fault started in ms ('' for none)
-- Returns ms that the breaker stays open | 0 (an earlier fault of the same event has opened it)
local now, wait_ms, reason, started = server_ms(ARGV[1]), unpack(ARGV, 2, 4)
local open_before, opened_at = unpack(redis.call('HMGET', KEYS[1], 'open_until', 'opened_at'))
open_before = tonumber(open_before or 0)
if started ~= '' and tonumber(started) <= tonumber(opened_at or 0) then
  -- Of many calls that fail together, one opens the breaker, however late the others are.
  return 0
end
local open_until = math.max(open_before, now + wait_ms)
if open_before <= now then
  redis.call('HINCRBY', KEYS[1], 'openings_' .. reason, 1)
end
redis.call('HSET', KEYS[1], 'open_until', open_until, 'opened_at', now, 'reason', reason, 'probe', 'needed',
  'probe_until', 0)
if reason == 'faults' then
  redis.call('HSETNX', KEYS[1], 'faults_since', now)
end
redis.call('PEXPIRE', KEYS[1], open_until - now + ACCOUNT_TTL_MS)
return open_until - now
