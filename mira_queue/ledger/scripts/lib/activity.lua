-- Activity of an account: how many jobs ended in each minute, and the tokens of each hour. Entries that are too old are added
-- to totals, so that the hash stays small, and totals never shrink.
-- Fields are "time what of": the minute, 'end', the kind of the job and its code; or the hour, 'prompt', 'completion' or
-- 'uncounted' (completions that report no tokens), and the model. The time of a total is 0. 'tidied' is the minute in which
-- the old entries were last added to the totals.
local MINUTE_MS, HOUR_MS = 60000, 3600000

-- Add the old entries to the totals. This happens at most once per minute.
local function tidy(activity, now)
  local minute = tostring(math.floor(now / MINUTE_MS))
  if redis.call('HGET', activity, 'tidied') == minute then
    return
  end
  redis.call('HSET', activity, 'tidied', minute)
  redis.call('PEXPIRE', activity, ACCOUNT_TTL_MS)
  local oldest_minute = math.floor((now - ACTIVITY_MINUTES_MS) / MINUTE_MS)
  local oldest_hour = math.floor((now - ACTIVITY_HOURS_MS) / HOUR_MS)
  local fields = redis.call('HGETALL', activity)
  for at = 1, #fields, 2 do
    local time, what = string.match(fields[at], '^(%d+) (.*)$')
    local oldest = what and string.sub(what, 1, 4) == 'end ' and oldest_minute or oldest_hour
    if what and time ~= '0' and tonumber(time) < oldest then
      redis.call('HINCRBY', activity, '0 ' .. what, fields[at + 1])
      redis.call('HDEL', activity, fields[at])
    end
  end
end

local function add_count(activity, now, unit_ms, what, of, amount)
  local field = math.floor(now / unit_ms) .. ' ' .. what .. ' ' .. of
  if redis.call('HINCRBY', activity, field, amount) ~= tonumber(amount) then
    return
  end
  -- A new entry. A client may send any number of names of models.
  if what ~= 'end' and of ~= '' and redis.call('HLEN', activity) > MAX_ACTIVITY then
    redis.call('HDEL', activity, field)
    return add_count(activity, now, unit_ms, what, '', amount)
  end
  tidy(activity, now)
end

-- Count the end of a job with its tokens. The code of a job that has succeeded is empty.
local function count_end(activity, now, group, code, model, prompt, completion, uncounted)
  add_count(activity, now, MINUTE_MS, 'end', (group == '' and 'job ' or 'line ') .. code, 1)
  if prompt ~= '0' then
    add_count(activity, now, HOUR_MS, 'prompt', model or '', prompt)
  end
  if completion ~= '0' then
    add_count(activity, now, HOUR_MS, 'completion', model or '', completion)
  end
  if uncounted ~= '0' then
    add_count(activity, now, HOUR_MS, 'uncounted', model or '', uncounted)
  end
end
