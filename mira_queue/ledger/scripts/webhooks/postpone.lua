-- Record a failed attempt, after which there is another one. A receiver that is overloaded gets no delivery for a time.
-- Why atomic: a delivery that another gateway has settled must not come back.
-- Uses  clock, receivers
-- KEYS  1 receivers zset   2 receiver's zset   3 delivery hash   4 receiver's pause
-- ARGV  1 receiver   2 id   3 attempts before this one   4 result of the attempt   5 ms until the next attempt
--       6 ms of the receiver's pause (0 for none)
-- Returns 1 | 0 (it is settled already, or another gateway has made another attempt)
local receiver, id, attempts, result, wait_ms, pause_ms = unpack(ARGV)
if redis.call('HGET', KEYS[3], 'attempts') ~= attempts or not redis.call('ZSCORE', KEYS[2], id) then
  return 0
end
local now = server_ms()
redis.call('HSET', KEYS[3], 'attempts', attempts + 1, 'result', result, 'attempted_ms', now, 'due_ms', now + wait_ms)
redis.call('ZADD', KEYS[2], now + wait_ms, id)
if tonumber(pause_ms) > 0 then
  redis.call('SET', KEYS[4], 1, 'PX', pause_ms)
end
reschedule(KEYS[1], KEYS[2], receiver)
return 1
