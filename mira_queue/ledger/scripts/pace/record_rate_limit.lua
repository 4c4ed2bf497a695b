-- Release the permit of a rate-limited call, and return what the account's record says about it.
-- Why atomic: of calls that are rate-limited together, each finds the others either still counted or released.
-- Uses  clock
-- KEYS  1 pace hash   2 sent zset   3 in-flight zset
-- ARGV  1 now in ms ('' for the server's clock)   2 job:epoch   3 when the call started in ms   4 its Retry-After in ms
-- Returns {version of the estimate, estimate, now, calls sent in a Retry-After's length before the call started, calls
--         in flight with it, peak in flight since the estimate was stored, duration of a call in ms}
local now, member, started, retry_after_ms = server_ms(ARGV[1]), unpack(ARGV, 2, 4)
local in_flight = redis.call('ZCARD', KEYS[3])
if redis.call('ZREM', KEYS[3], member) == 1 then
  redis.call('HINCRBY', KEYS[1], 'rate_limited', 1)
end
local first = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. (started - retry_after_ms), '+inf', 'LIMIT', 0, 1)[1]
local version, estimate, peak_in_flight, sent, call_ms = unpack(redis.call('HMGET', KEYS[1],
  'version', 'estimate', 'peak_in_flight', 'sent', 'call_ms'))
if not call_ms then
  -- No call has returned yet: a call takes at least as long as the first one has been in flight.
  local oldest = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2]
  call_ms = oldest and math.max(0, now - oldest) or 0
end
return { version or '0', estimate or '', now, first and (sent or 0) - first or 0, math.max(1, in_flight),
  tonumber(peak_in_flight or 0), tonumber(call_ms) }
