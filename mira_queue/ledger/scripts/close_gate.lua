-- Close the account's gate until a Retry-After has passed; then one probe goes first.
-- Why atomic: of several refusals the longest holds.
-- KEYS  1 gate   2 probe
-- ARGV  1 ms to stay closed   2 ms that the need of a probe outlives the gate
-- Returns ms that the gate stays closed
local closed_ms = math.max(redis.call('PTTL', KEYS[1]), tonumber(ARGV[1]))
redis.call('SET', KEYS[1], '1', 'PX', closed_ms)
redis.call('SET', KEYS[2], 'needed', 'PX', closed_ms + ARGV[2])
return closed_ms
