-- Logs of what an account has used (calls or tokens), and windows that slide over them.
-- A log is {key, total, bucket}. Each entry of its zset is a bucket of calls: the member is the log's total before the
-- bucket's first call, the score is the time of its last call. `bucket` names the newest one: "member start".
-- A window is {reason, log, max, ms}.
local GRAIN_MS, FINE_MS, COARSE_MS = 10, 10000, 100

-- Return what the window holds, and the log's total before the window's first entry.
local function used_in(window, now)
  local log = window.log
  local first = redis.call('ZRANGEBYSCORE', log.key, '(' .. (now - window.ms), '+inf', 'LIMIT', 0, 1)[1]
  return first and log.total - first or 0, tonumber(first or log.total)
end

-- Return the ms until there is room for `amount` after `ahead` times as much; 0 if there is room now.
local function window_wait_ms(window, now, amount, ahead)
  local used, first = used_in(window, now)
  -- An amount above the window's maximum waits until the window is empty.
  local excess = math.min(used, used + amount * (ahead + 1) - window.max)
  if excess <= 0 then
    return 0
  end
  local entries = redis.call('ZRANGEBYSCORE', window.log.key, '(' .. (now - window.ms), '+inf', 'WITHSCORES',
    'LIMIT', 0, math.min(excess + 1, 1000))
  for at = 1, #entries, 2 do
    local next_first = tonumber(entries[at + 2])
    if not next_first or next_first - first >= excess then
      return math.max(1, entries[at + 1] + window.ms - now)
    end
  end
end

-- Add an amount to a log that is needed for `window_ms`. Buckets older than FINE_MS are merged to COARSE_MS.
local function add_to_log(log, now, amount, window_ms)
  local history_ms = math.max(CALL_HISTORY_MS, window_ms)
  local member, start = string.match(log.bucket or '', '^(%S+) (%S+)$')
  if not member or now - start >= math.max(GRAIN_MS, math.floor(window_ms / 2000)) then
    member = string.format('%.0f', log.total)
    log.bucket = member .. ' ' .. now
    redis.call('ZREMRANGEBYSCORE', log.key, '-inf', now - history_ms)
    local old = redis.call('ZREVRANGEBYSCORE', log.key, now - FINE_MS, '-inf', 'WITHSCORES', 'LIMIT', 0, 3)
    if old[6] and old[2] - old[6] <= COARSE_MS then
      redis.call('ZREM', log.key, old[1])
      redis.call('ZADD', log.key, old[2], old[3])
    end
  end
  redis.call('ZADD', log.key, now, member)
  redis.call('PEXPIRE', log.key, history_ms + KEY_MARGIN_MS)
  log.total = log.total + amount
end
