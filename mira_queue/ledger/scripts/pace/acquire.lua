-- Acquire permits. Each one lets a call of the account start, which from then on may be billed.
-- Why atomic: all workers of the account count against the same limits, and after a wait exactly one call goes first.
-- After a command, or a rejection of the account, no call starts: nothing is decided before this step.
-- Uses  clock, rejections, denials, permits, window, turns
-- KEYS  1 pace hash   2 sent zset   3 tokens zset   4 in-flight zset   5 turns zset   6 turn-ends zset   7 holds zset
--       8 rejections hash   9.. job hashes
-- ARGV  1 now in ms ('' for the server's clock)   2 process   3 channel of wake-ups, without the process
--       4 lease of a call in ms   5 lease of a probe in ms   6 ms to wait if only a response frees a slot
--       7, 8 configured calls and their window in ms   9 configured calls in flight
--       10, 11 configured tokens and their window in ms   12 weight of a call in the turns
--       13 channel of holds   14.. for each job: id, epoch, estimated tokens
--       A configured limit of 0 is none. Without jobs, the script only wakes the processes that may go.
-- Returns {state of the account, verdict on each job}
--         state: now, reason to wait ('' for none), ms to wait, accepted calls that took the last slot, peak in
--         flight, peak sent, ms since the last call, ms since a call last waited for the rate, version of the estimate
--         verdict: {'go' | 'probe', calls in the rate limit's window before it, calls in flight with it, now}
--         | {'wait'} | {'lost'} | {'held'} (its batch) | {'expired'} (its deadline has passed) | {'rejected', error}
local now, process, channel, call_lease_ms, probe_lease_ms = server_ms(ARGV[1]), unpack(ARGV, 2, 5)
local again_ms, max_calls, calls_ms = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local max_configured, max_tokens, tokens_ms = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
local weight, holds_channel, JOBS, FIRST_JOB_KEY = tonumber(ARGV[12]), ARGV[13], 14, 9
-- While no limit is known, calls start one by one: then few are in flight at the first 429.
local START, SLOW_CALLS, SLOW_MS = 2, 200, 5

local version, open_until, probe, probe_until, rate, rate_ms, max_in_flight, total_sent, sent_bucket, sent_at,
  total_spent, spent_bucket, at_ceiling, peak_in_flight, peak_sent, remaining, remaining_until, rate_bound, served,
  uncounted, uncounted_until
  = unpack(redis.call('HMGET', KEYS[1], 'version', 'open_until', 'probe', 'probe_until', 'rate', 'window_ms',
    'max_in_flight', 'sent', 'sent_bucket', 'sent_at', 'spent', 'tokens_bucket', 'at_ceiling', 'peak_in_flight',
    'peak_sent', 'remaining', 'remaining_until', 'rate_bound', 'served', 'uncounted', 'uncounted_until'))
open_until, probe_until, sent_at = tonumber(open_until or 0), tonumber(probe_until or 0), tonumber(sent_at or 0)
remaining_until, rate_ms = tonumber(remaining_until or 0), tonumber(rate_ms or 0)
local ceiling = tonumber(max_in_flight or (max_configured > 0 and max_configured or START))
if max_configured > 0 then
  ceiling = math.min(ceiling, max_configured)
end
redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', now)
local in_flight = redis.call('ZCARD', KEYS[4])

local sent = { key = KEYS[2], total = tonumber(total_sent or 0), bucket = sent_bucket }
local spent = { key = KEYS[3], total = tonumber(total_spent or 0), bucket = spent_bucket }
local windows = {}
if rate then
  local more = tonumber(uncounted_until or 0) > now and uncounted or 0
  windows[1] = { reason = 'rate', log = sent, max = rate + more, ms = rate_ms }
end
if max_calls > 0 then
  windows[#windows + 1] = { reason = 'configured', log = sent, max = max_calls, ms = calls_ms }
end
if max_tokens > 0 then
  windows[#windows + 1] = { reason = 'tokens', log = spent, max = max_tokens, ms = tokens_ms }
end
local score, waiting = read_turns(KEYS[5], KEYS[6], process, served or 0, weight, now)
local ahead = slots_ahead(waiting, score)

-- Return why a call has to wait, and for how many ms; nothing if it may start.
local function blocked(tokens)
  if open_until > now then
    return 'breaker', open_until - now
  end
  if probe and probe ~= 'needed' and probe_until > now then
    return 'probe', math.min(again_ms, probe_until - now)
  end
  if in_flight + ahead >= ceiling then
    return in_flight < ceiling and 'turn' or ceiling == max_configured and 'configured' or 'in_flight', again_ms
  end
  for _, window in ipairs(windows) do
    local of_tokens = window.log == spent
    local wait_ms = window_wait_ms(window, now, of_tokens and tokens or 1, of_tokens and 0 or ahead)
    if wait_ms > 0 then
      return window.reason, wait_ms
    end
  end
  if remaining_until > now and remaining - ahead <= 0 then
    return 'header', remaining_until - now
  end
  local spacing_ms = rate and 0 or sent.total < SLOW_CALLS and SLOW_MS or sent.total < 5 * SLOW_CALLS and 1 or 0
  if now - sent_at < spacing_ms then
    return 'spacing', spacing_ms - (now - sent_at)
  end
end

local account = { in_flight = KEYS[4], holds = KEYS[7], holds_channel = holds_channel,
  rejections = read_rejections(KEYS[8]) }

local function grant(job, member, tokens)
  redis.call('HSET', job, 'calling', now)
  redis.call('ZADD', KEYS[4], now + call_lease_ms, member)
  in_flight = in_flight + 1
  local verdict = { probe and 'probe' or 'go', windows[1] and used_in(windows[1], now) or 0, in_flight, now }
  add_to_log(sent, now, 1, math.max(rate_ms, calls_ms))
  sent_at = now
  if max_tokens > 0 then
    add_to_log(spent, now, tokens, tokens_ms)
  end
  if remaining_until > now then
    remaining = remaining - 1
  end
  if probe then
    probe, probe_until = member, now + probe_lease_ms
    redis.call('HSET', KEYS[1], 'probe', probe, 'probe_until', probe_until)
  end
  score = score + weight
  ahead = slots_ahead(waiting, score)
  return verdict
end

local reason, wait_ms
local verdicts, granted, waits_for_probe = {}, false, false
for at = JOBS, #ARGV, 3 do
  local id, epoch, tokens = unpack(ARGV, at, at + 2)
  local job, member = KEYS[FIRST_JOB_KEY + #verdicts], id .. ':' .. epoch
  local verdict, rejection
  if redis.call('ZSCORE', KEYS[4], member) then
    -- Granted before; the response was lost.
    verdict = denied_since(account, KEYS[1], job, epoch, member, now)
      or { probe == member and 'probe' or 'go', 0, in_flight, now }
  else
    verdict, rejection = denied(account, job, epoch, member, now)
    waits_for_probe = waits_for_probe or verdict and verdict[1] == 'wait'
    if not verdict and not reason then
      reason, wait_ms = blocked(tokens)
    end
    if not verdict and reason then
      verdict = { 'wait' }
    elseif not verdict then
      verdict, granted = grant(job, member, tokens), true
      if rejection then
        rejection.probe = member
        write_rejection(KEYS[8], rejection)
      end
    end
  end
  verdicts[#verdicts + 1] = verdict
end

if waits_for_probe and not reason then
  reason, wait_ms = 'rejected', again_ms
end
if granted then
  redis.call('HSET', KEYS[1], 'sent', sent.total, 'sent_bucket', sent.bucket, 'sent_at', now, 'served', score)
  if max_tokens > 0 then
    redis.call('HSET', KEYS[1], 'spent', spent.total, 'tokens_bucket', spent.bucket)
  end
  if remaining_until > now then
    redis.call('HSET', KEYS[1], 'remaining', remaining)
  end
  if sent.bucket ~= sent_bucket then
    redis.call('PEXPIRE', KEYS[1], ACCOUNT_TTL_MS)
  end
  redis.call('PEXPIRE', KEYS[4], call_lease_ms + KEY_MARGIN_MS)
end
if reason then
  if reason == 'rate' then
    redis.call('HSET', KEYS[1], 'rate_bound', now)
  end
  redis.call('ZADD', KEYS[5], score, process)
  -- A process asks again within MAX_SLEEP_MS. One that has stopped must not keep its turn for a Retry-After of an hour.
  local turn_ms = reason == 'breaker' and math.min(wait_ms, MAX_SLEEP_MS) or wait_ms
  redis.call('ZADD', KEYS[6], now + turn_ms + TURN_MS, process)
  redis.call('PEXPIRE', KEYS[5], wait_ms + ACCOUNT_TTL_MS)
  redis.call('PEXPIRE', KEYS[6], wait_ms + ACCOUNT_TTL_MS)
else
  redis.call('ZREM', KEYS[5], process)
  redis.call('ZREM', KEYS[6], process)
end

-- Slots that are left belong to other processes.
ahead = 0
if #waiting > 0 and (reason == 'turn' or not reason and not blocked(0)) then
  wake(KEYS[5], channel, math.min(ceiling - in_flight, #waiting, 8), process)
end
return {
  { now, reason or '', wait_ms or 0, tonumber(at_ceiling or 0), tonumber(peak_in_flight or 0), tonumber(peak_sent or 0),
    now - sent_at, now - (rate_bound or 0), tonumber(version or 0) },
  verdicts,
}
