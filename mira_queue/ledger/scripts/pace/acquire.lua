-- Begin calls: permission of the account's pacer, and the note that answers are now owed.
-- Why atomic: every worker of the account counts against the same limits, and after a wait exactly one call goes first;
-- a crash after this point may have been billed.
-- KEYS  1 pace hash   2 sent zset   3 tokens zset   4 flying zset   5 turns zset   6 turns' ends zset   7.. job hashes
-- ARGV  1 now in ms, '' for the server's clock   2 process   3 channel of wake-ups, without the process
--       4 lease of a call in ms   5 probe's lease in ms   6 ms after which to ask again where only an answer frees a place
--       7, 8 told calls and their window in ms   9 told calls in flight   10, 11 told tokens and their window in ms
--       12 what a call counts for in the turns   13.. for each job: id, epoch, tokens it may use.
--       A told limit of 0 is none. No jobs: only wake who may go.
-- Returns { {version, reason, ms to wait, calls accepted at the ceiling, peak flying, peak sent, quiet ms,
--         ms since calls last waited for the rate, now}, verdict of each job },
--         a verdict being {'go' | 'probe', calls in the rate's window before it, calls flying with it, now}
--         | {'wait'} | {'lost'}
local JOBS = 13
-- While nothing is known calls leave one by one: few are under way when the first is refused.
local SLOW_CALLS, SLOW_MS = 200, 5
local START, GRAIN_MS, HISTORY_MS, TURN_MS, LIFE_MS = 2, 10, 120000, 500, 604800000
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local process, again_ms = ARGV[2], tonumber(ARGV[6])
local pace = redis.call('HMGET', KEYS[1], 'version', 'open_until', 'probe', 'probe_until', 'rate', 'window_ms',
  'max_in_flight', 'sent', 'spent', 'sent_at', 'at_ceiling', 'peak_in_flight', 'peak_sent', 'remaining', 'remaining_until',
  'sent_bucket', 'tokens_bucket', 'rate_bound', 'served')
local closed_until, probe, probe_until = tonumber(pace[2] or 0), pace[3], tonumber(pace[4] or 0)
local flights = tonumber(pace[7])
local sent, spent, sent_at = tonumber(pace[8] or 0), tonumber(pace[9] or 0), tonumber(pace[10] or 0)
local room, room_until = tonumber(pace[14]), tonumber(pace[15] or 0)
local told_flights = tonumber(ARGV[9])
if not flights then
  flights = told_flights > 0 and told_flights or START
end
local ceiling = told_flights > 0 and math.min(flights, told_flights) or flights
redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', now)
local flying = redis.call('ZCARD', KEYS[4])

-- Sliding logs: {name, key, total so far, most, window}. An entry is a bucket of calls: its member what the total was
-- before them, its score the time of the last of them.
local windows = {}
local function watch(reason, key, most, window_ms)
  if most and most > 0 then
    windows[#windows + 1] = { reason, key, most, window_ms }
  end
end
watch('rate', KEYS[2], tonumber(pace[5]), tonumber(pace[6]))
watch('told', KEYS[2], tonumber(ARGV[7]), tonumber(ARGV[8]))
watch('tokens', KEYS[3], tonumber(ARGV[10]), tonumber(ARGV[11]))

-- What a window holds, and what the total was before the first of it.
local function used_of(window)
  local total = window[2] == KEYS[2] and sent or spent
  local first = redis.call('ZRANGEBYSCORE', window[2], '(' .. (now - window[4]), '+inf', 'LIMIT', 0, 1)[1]
  return first and total - tonumber(first) or 0, tonumber(first or total)
end

-- Until the place that is the nth to come free (0 is the first) in a window has come free; 0 when it is free now.
local function wait_for(window, amount, nth)
  local used, first = used_of(window)
  -- What asks for more than the whole window holds waits until the window is empty.
  local over = math.min(used, used + amount * (nth + 1) - window[3])
  if over <= 0 then
    return 0
  end
  local entries = redis.call('ZRANGEBYSCORE', window[2], '(' .. (now - window[4]), '+inf', 'WITHSCORES', 'LIMIT', 0,
    math.min(over + 1, 1000))
  for at = 1, #entries, 2 do
    local next_first = tonumber(entries[at + 2])
    if not next_first or next_first - first >= over then
      return math.max(1, entries[at + 1] + window[4] - now)
    end
  end
end

-- A log of two minutes is as long as ten seconds at any rate: of older calls, tenths of a second are kept.
local FINE_MS, COARSE_MS = 10000, 100
local function thin(key)
  local old = redis.call('ZREVRANGEBYSCORE', key, now - FINE_MS, '-inf', 'WITHSCORES', 'LIMIT', 0, 3)
  if old[6] and old[2] - old[6] <= COARSE_MS then
    redis.call('ZREM', key, old[1])
    redis.call('ZADD', key, old[2], old[3])
  end
end

local function record(key, bucket_field, bucket, total, window_ms)
  local grain_ms = math.max(GRAIN_MS, math.floor(window_ms / 2000))
  local member, began = string.match(bucket or '', '^(%S+) (%S+)$')
  if not member or now - began >= grain_ms then
    member, began = string.format('%.0f', total), now
    bucket = member .. ' ' .. began
    redis.call('HSET', KEYS[1], bucket_field, bucket)
    redis.call('ZREMRANGEBYSCORE', key, '-inf', now - math.max(HISTORY_MS, window_ms))
    thin(key)
    redis.call('PEXPIRE', KEYS[1], LIFE_MS)
  end
  redis.call('ZADD', key, now, member)
  redis.call('PEXPIRE', key, math.max(HISTORY_MS, window_ms) + 60000)
  return bucket
end

-- Whose turn it is: who waits has as score the calls that it was served, and the fewest come first; who comes anew
-- begins where the last one that was served stood, or, where a call counts for less than one, before all.
local counts = tonumber(ARGV[12])
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', KEYS[6], '-inf', now)) do
  redis.call('ZREM', KEYS[5], gone)
  redis.call('ZREM', KEYS[6], gone)
end
local in_line = redis.call('ZSCORE', KEYS[5], process)
local others = redis.call('ZCARD', KEYS[5]) - (in_line and 1 or 0)
local turn = tonumber(in_line or pace[19] or 0)
if counts < 1 and not in_line and others > 0 then
  turn = math.min(turn, redis.call('ZRANGE', KEYS[5], 0, 0, 'WITHSCORES')[2] - counts)
end
local granted = 0
local waiting = others > 0 and redis.call('ZRANGE', KEYS[5], 0, -1, 'WITHSCORES') or {}
-- Places that those who wait are behind: they are left to them, or who asks first would take all but one.
local function count_ahead()
  local ahead = 0
  for at = 1, #waiting, 2 do
    if waiting[at] ~= process then
      ahead = ahead + math.ceil(math.max(0, turn + granted * counts - waiting[at + 1]))
    end
  end
  return ahead
end
local ahead = count_ahead()

local function blocked(tokens)
  if closed_until > now then
    return 'closed', closed_until - now
  end
  if probe and probe ~= 'needed' and probe_until > now then
    return 'probe', math.min(again_ms, probe_until - now)
  end
  if flying + ahead >= ceiling then
    return flying < ceiling and 'turn' or ceiling == told_flights and 'told' or 'max_in_flight', again_ms
  end
  for _, window in ipairs(windows) do
    local wait_ms = wait_for(window, window[1] == 'tokens' and tokens or 1, window[1] == 'tokens' and 0 or ahead)
    if wait_ms > 0 then
      return window[1], wait_ms
    end
  end
  if room_until > now and room - ahead <= 0 then
    return 'header', room_until - now
  end
  local spacing_ms = pace[5] and 0 or sent < SLOW_CALLS and SLOW_MS or sent < 5 * SLOW_CALLS and 1 or 0
  if now - sent_at < spacing_ms then
    return 'spacing', spacing_ms - (now - sent_at)
  end
end

local reason, wait_ms = '', 0
local verdicts, denied = {}, 0
local sent_bucket, tokens_bucket = pace[16], pace[17]
for index = 0, (#ARGV - JOBS + 1) / 3 - 1 do
  local id, epoch, tokens = ARGV[JOBS + index * 3], ARGV[JOBS + index * 3 + 1], tonumber(ARGV[JOBS + index * 3 + 2])
  local member = id .. ':' .. epoch
  local job = redis.call('HMGET', KEYS[7 + index], 'state', 'epoch')
  if job[1] ~= 'running' or job[2] ~= epoch then
    verdicts[index + 1] = { 'lost' }
  elseif redis.call('ZSCORE', KEYS[4], member) then
    -- Asked before; the answer was lost on its way.
    verdicts[index + 1] = { probe == member and 'probe' or 'go', 0, flying, now }
  else
    if denied == 0 then
      reason, wait_ms = blocked(tokens)
    end
    if reason then
      denied = denied + 1
      verdicts[index + 1] = { 'wait' }
    else
      redis.call('HSET', KEYS[7 + index], 'calling', 1)
      redis.call('ZADD', KEYS[4], now + ARGV[4], member)
      flying, granted = flying + 1, granted + 1
      verdicts[index + 1] = { probe and 'probe' or 'go', windows[1] and used_of(windows[1]) or 0, flying, now }
      sent_bucket = record(KEYS[2], 'sent_bucket', sent_bucket, sent, math.max(tonumber(pace[6] or 0), ARGV[8]))
      sent, sent_at = sent + 1, now
      if tonumber(ARGV[10]) > 0 then
        tokens_bucket = record(KEYS[3], 'tokens_bucket', tokens_bucket, spent, tonumber(ARGV[11]))
        spent = spent + tokens
      end
      if room_until > now then
        room = room - 1
      end
      if probe then
        probe, probe_until = member, now + ARGV[5]
        redis.call('HSET', KEYS[1], 'probe', probe, 'probe_until', probe_until)
      end
      ahead = count_ahead()
    end
  end
end
if granted > 0 then
  redis.call('PEXPIRE', KEYS[4], ARGV[4] + 60000)
  redis.call('HSET', KEYS[1], 'sent', sent, 'spent', spent, 'sent_at', sent_at, 'served', turn + granted * counts)
  if room then
    redis.call('HSET', KEYS[1], 'remaining', room)
  end
end
if denied > 0 then
  if reason == 'rate' then
    redis.call('HSET', KEYS[1], 'rate_bound', now)
  end
  redis.call('ZADD', KEYS[5], turn + granted * counts, process)
  redis.call('ZADD', KEYS[6], now + wait_ms + TURN_MS, process)
  redis.call('PEXPIRE', KEYS[5], wait_ms + LIFE_MS)
  redis.call('PEXPIRE', KEYS[6], wait_ms + LIFE_MS)
else
  redis.call('ZREM', KEYS[5], process)
  redis.call('ZREM', KEYS[6], process)
end
-- Places that are left belong to those who wait in other processes.
if others > 0 and (not reason or reason == '' or reason == 'turn') then
  ahead = 0
  if reason == 'turn' or not blocked(0) then
    for _, other in ipairs(redis.call('ZRANGE', KEYS[5], 0, math.min(ceiling - flying, others, 8))) do
      if other ~= process then
        redis.call('PUBLISH', ARGV[3] .. other, '1')
      end
    end
  end
end
return {
  { pace[1] or '0', reason or '', wait_ms or 0, tonumber(pace[11] or 0), tonumber(pace[12] or 0),
    tonumber(pace[13] or 0), now - sent_at, now - tonumber(pace[18] or 0), now },
  verdicts,
}
