-- Release the permit of a rate-limited call, and return what the account's record says about it.
-- Why atomic: of calls that are rate-limited together, each finds the others either still counted or released.
-- Uses  call_times, clock
-- KEYS  1 pace hash   2 sent zset   3 in-flight zset   4 hash of call times
-- ARGV  1 now in ms ('' for the server's clock)   2 job:epoch   3 when the call started in ms   4 its Retry-After in ms
--       5.. what the call adds to the call times: fields and amounts
-- Returns {version of the estimate, estimate, now, calls sent in a Retry-After's length before the call started, calls
--         in flight with it, peak in flight since the estimate was stored, duration of a call in ms, most calls in an
--         earlier window of that length, calls in the learned rate limit's window before the call started, calls of the
--         account that are not known to be rate-limited, when the account's first call was sent (0: too long ago)}
local now, member, started, retry_after_ms = server_ms(ARGV[1]), unpack(ARGV, 2, 4)
local in_flight = redis.call('ZCARD', KEYS[3])
if redis.call('ZREM', KEYS[3], member) == 1 then
  redis.call('HINCRBY', KEYS[1], 'rate_limited', 1)
  add_call_times(KEYS[4], 5)
end
local version, estimate, peak_in_flight, sent, call_ms, window_ms, rate_limited = unpack(redis.call('HMGET', KEYS[1],
  'version', 'estimate', 'peak_in_flight', 'sent', 'call_ms', 'window_ms', 'rate_limited'))
sent = tonumber(sent or 0)

-- Return how many calls had been sent when the window began that is so long and ends when the call started.
local function sent_before(length_ms)
  local first = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. (started - length_ms), '+inf', 'LIMIT', 0, 1)[1]
  return tonumber(first or sent)
end

local window_began = sent_before(retry_after_ms)
local earlier = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', started - retry_after_ms, 'WITHSCORES')
local peak_window, tail = 0, 1
for head = 1, #earlier, 2 do
  while earlier[tail + 1] + retry_after_ms <= tonumber(earlier[head + 1]) do
    tail = tail + 2
  end
  peak_window = math.max(peak_window, (earlier[head + 2] or window_began) - earlier[tail])
end
local first, first_ms = unpack(redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES'))
if not call_ms then
  -- No call has returned yet: a call takes at least as long as the first one has been in flight.
  call_ms = first_ms and math.max(0, now - first_ms) or 0
end
return { version or '0', estimate or '', now, sent - window_began, math.max(1, in_flight), tonumber(peak_in_flight or 0),
  tonumber(call_ms), peak_window, window_ms and sent - sent_before(window_ms) or 0, sent - (rate_limited or 0),
  first == '0' and tonumber(first_ms) or 0 }
