-- A call was refused: its place is free, and what the account's record says about it is told.
-- Why atomic: of calls that were refused together each must find the others still counted, or gone.
-- KEYS  1 pace hash   2 sent zset   3 flying zset
-- ARGV  1 job:epoch   2 when it left, in ms   3 its Retry-After in ms   4 now in ms, '' for the server's clock
-- Returns {version, belief, calls made since the Retry-After before it left, calls in flight with it, most calls in
--          flight with one that was accepted since the belief was formed, how long calls take in ms, now in ms}
local now = tonumber(ARGV[4])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local flying = redis.call('ZCARD', KEYS[3])
if redis.call('ZREM', KEYS[3], ARGV[1]) == 1 then
  redis.call('HINCRBY', KEYS[1], 'rate_limited', 1)
end
local first = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. (ARGV[2] - ARGV[3]), '+inf', 'LIMIT', 0, 1)[1]
local pace = redis.call('HMGET', KEYS[1], 'version', 'estimate', 'peak_in_flight', 'sent', 'call_ms')
local call_ms = pace[5]
if not call_ms then
  -- None has come back yet: at least as long as the first of them is out.
  local oldest = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2]
  call_ms = oldest and math.max(0, now - oldest) or 0
end
return { pace[1] or '0', pace[2] or '', first and (pace[4] or 0) - first or 0, math.max(1, flying),
  tonumber(pace[3] or 0), tonumber(call_ms), now }
