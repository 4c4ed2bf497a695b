-- A call was refused: its place is free, and what the account's record says about it is told.
-- Why atomic: the count must be that of the moment at which the call left.
-- KEYS  1 pace hash   2 sent zset   3 flying zset
-- ARGV  1 job:epoch   2 calls sent before it   3 when it left, in ms   4 its Retry-After in ms
--       5 now in ms, '' for the server's clock
-- Returns {version, belief, calls in the time of the Retry-After before it, most calls in flight with one that was
--          accepted since the belief was formed, now in ms}
local now = tonumber(ARGV[5])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
redis.call('ZREM', KEYS[3], ARGV[1])
local first = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. (ARGV[3] - ARGV[4]), '+inf', 'LIMIT', 0, 1)[1]
local pace = redis.call('HMGET', KEYS[1], 'version', 'belief', 'peak_flying')
return { pace[1] or '0', pace[2] or '', math.max(0, first and ARGV[2] - first or 0), tonumber(pace[3] or 0), now }
