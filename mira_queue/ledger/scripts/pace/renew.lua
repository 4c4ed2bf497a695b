-- Calls are still under way: their places stay taken. A process that is gone says so no more, and they come back.
-- Why atomic: a call that has come back meanwhile must not take its place again.
-- KEYS  1 flying zset
-- ARGV  1 lease of a call in ms   2.. job:epoch of each
-- Returns how many are kept
local time = redis.call('TIME')
local lease_end = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1]
local kept = 0
for index = 2, #ARGV do
  if redis.call('ZSCORE', KEYS[1], ARGV[index]) then
    redis.call('ZADD', KEYS[1], 'XX', lease_end, ARGV[index])
    kept = kept + 1
  end
end
return kept
