-- What a project of the gateway uses of its limits (names.usage_key): `jobs` and `lines` that are open, the `cost` of the
-- `day` (UTC), and what open jobs and batches have `reserved`. Costs are whole billionths of the currency.

local DAY_S = 86400

local function whole(amount)
  return string.format('%.0f', amount)
end

-- Begin the next day with no cost. It is a day of UTC: the ledger's clock does not follow every jump of the server's clock.
local function begin_day(usage)
  local today = whole(math.floor(redis.call('TIME')[1] / DAY_S))
  if redis.call('HGET', usage, 'day') ~= today then
    redis.call('HSET', usage, 'day', today, 'cost', 0)
  end
end

-- Change what is open and reserved, and add to the cost of the day. HINCRBYFLOAT: a sum that is too large is no error.
local function use(usage, field, count, reserved, cost)
  begin_day(usage)
  local open = redis.call('HINCRBY', usage, field, count)
  if reserved ~= 0 then
    redis.call('HINCRBYFLOAT', usage, 'reserved', whole(reserved))
  end
  if cost > 0 then
    redis.call('HINCRBYFLOAT', usage, 'cost', whole(cost))
  end
  local other = redis.call('HGET', usage, field == 'jobs' and 'lines' or 'jobs')
  if open + (tonumber(other) or 0) > 0 then
    redis.call('PERSIST', usage)
  else
    redis.call('PEXPIRE', usage, USAGE_TTL_MS)
  end
end

-- Return 'open' or 'cost' if the limits (0: none) do not allow `count` more open jobs that may cost `cost`, otherwise nil.
local function limit_reached(usage, max_open, max_cost, count, cost)
  begin_day(usage)
  local jobs, lines, spent, reserved = unpack(redis.call('HMGET', usage, 'jobs', 'lines', 'cost', 'reserved'))
  if max_open > 0 and (tonumber(jobs) or 0) + (tonumber(lines) or 0) + count > max_open then
    return 'open'
  end
  local used = (tonumber(spent) or 0) + (tonumber(reserved) or 0)
  if max_cost > 0 and (used >= max_cost or used + cost > max_cost) then
    return 'cost'
  end
end
