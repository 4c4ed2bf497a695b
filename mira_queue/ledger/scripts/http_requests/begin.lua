-- Begin an HTTP request: give it an identity, from which the id of the object that it creates follows. A retry gets the
-- identity of a request whose response was lost. A retry of a lost response is then the same creation, done once.
-- Why atomic: two retries must not get the identity of the same request, and a request that has an identity is recorded.
-- Uses  clock
-- KEYS  1 zset of equal requests (see recent_requests_key)   2 zset of gateways
-- ARGV  1 name of this call, and the identity if it is a new one   2 gateway   3 '' unless the client says that it retries,
--       else ms for which a loss is still recognized after its time: earlier retries may have reached no gateway
--       4 1 if there is time to find out whether another gateway, or one of its connections, still lives
-- Returns the identity | false if the retry has to ask again: the handler of the lost request still runs, or ARGV 4
local attempt, gateway, late_ms, has_time = unpack(ARGV)
local CLOSING, OWN = '9000000000000000', ':' .. gateway .. ':' .. attempt
local now = server_ms()

-- Return the entry whose identity the retry gets, or nothing; and whether to ask again.
local function find_lost()
  -- Those whose responses were certainly lost are recognized for longer: they come first.
  local lost = redis.call('ZREVRANGEBYSCORE', KEYS[1], '(' .. CLOSING, '(' .. now - late_ms, 'LIMIT', 0, 1)[1]
  local is_open = false
  for _, entry in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], CLOSING, '+inf')) do
    if string.sub(entry, -#OWN) == OWN then
      -- This is the same call, repeated because its response was lost.
      return entry
    end
    local holder = string.match(entry, ':(.*):')
    local ends = tonumber(redis.call('ZSCORE', KEYS[2], holder) or 0)
    if ends <= now and ends > now - RETRY_WITHIN_MS then
      -- The connections of a killed gateway are broken.
      lost = lost or entry
    end
    if ends > now then
      local is_closing = tonumber(redis.call('ZSCORE', KEYS[1], entry)) == tonumber(CLOSING)
      is_open = is_open or is_closing or holder ~= gateway and has_time == '1'
    end
  end
  return lost, is_open
end

local identity = attempt
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - RETRY_WITHIN_MS)
if late_ms ~= '' then
  local lost, is_open = find_lost()
  if is_open and not lost then
    return false
  end
  if lost then
    redis.call('ZREM', KEYS[1], lost)
    identity = string.match(lost, '^(.-):')
  end
end
redis.call('ZADD', KEYS[1], '+inf', identity .. OWN)
redis.call('PEXPIRE', KEYS[1], HTTP_REQUEST_TTL_MS)
redis.call('ZADD', KEYS[2], 'GT', now + GATEWAY_LEASE_MS, gateway)
redis.call('PEXPIRE', KEYS[2], HTTP_REQUEST_TTL_MS)
return identity
