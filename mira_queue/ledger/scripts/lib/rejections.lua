-- Rejections: errors that every call of an account ('account': 401, 402) or of one of its models ('model:' and its name:
-- 403) would get. For a time, jobs get this error without a call. Then one job probes, and the others wait for it.

-- Return the rejections by their field, each as {ends, probe ('' for none), error}; nil if there is none.
local function read_rejections(key)
  local fields, found = redis.call('HGETALL', key), nil
  for at = 1, #fields, 2 do
    local ends, probe, error = string.match(fields[at + 1], '^(%d+) (%S*) (.*)$')
    found = found or {}
    found[fields[at]] = { field = fields[at], ends = tonumber(ends), probe = probe, error = error }
  end
  return found
end

local function write_rejection(key, rejection)
  redis.call('HSET', key, rejection.field,
    string.format('%.0f %s %s', rejection.ends, rejection.probe, rejection.error))
  redis.call('PEXPIRE', key, ACCOUNT_TTL_MS)
end
