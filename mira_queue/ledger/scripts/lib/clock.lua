-- The ledger's clock: the server's clock, without its jumps. Workers read it every half second (clock/check.lua), so a
-- larger step was a jump, or a time in which no worker reached the server. Either way, leases and waits must not end by
-- it. To a producer, the same step may be a time in which no worker ran, and which has passed: it decides nothing.
-- The clock's key is the last one of KEYS, and the last one of ARGV is 1 if the process watches the clock, else 0. Both are
-- removed here: the others are the script's own.
local CLOCK, WATCHES = table.remove(KEYS), table.remove(ARGV) == '1'
local MAX_BACK_MS, READ_EVERY_MS = 1000, 200

-- Return the ledger's time in ms, or the time that a test has passed in its place.
local function server_ms(given)
  if given and given ~= '' then
    return tonumber(given)
  end
  local time = redis.call('TIME')
  local server = time[1] * 1000 + math.floor(time[2] / 1000)
  local last, offset = unpack(redis.call('HMGET', CLOCK, 'server_ms', 'offset_ms'))
  local step = last and server - last or READ_EVERY_MS
  offset = tonumber(offset or 0)
  if step > MAX_STEP_MS and not WATCHES then
    return server + offset
  end
  if step > MAX_STEP_MS or step < -MAX_BACK_MS then
    offset = offset - step
    redis.call('HINCRBY', CLOCK, 'jump_ms', step)
    redis.call('HSET', CLOCK, 'offset_ms', offset)
  end
  if step >= READ_EVERY_MS or step < 0 then
    redis.call('HSET', CLOCK, 'server_ms', server)
    redis.call('PEXPIRE', CLOCK, CLOCK_TTL_MS)
  end
  return server + offset
end
