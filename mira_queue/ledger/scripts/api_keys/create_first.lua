-- Store an API key if there is none.
-- Why atomic: of two gateways that start at the same time, one creates the first key.
-- KEYS  1 hash of API keys
-- ARGV  1 digest of the key   2 its record
-- Returns 1 (also if an earlier attempt has stored it) | 0 (there are other keys)
local digest, record = unpack(ARGV)
if redis.call('HEXISTS', KEYS[1], digest) == 1 then
  return 1
end
if redis.call('HLEN', KEYS[1]) > 0 then
  return 0
end
redis.call('HSET', KEYS[1], digest, record)
return 1
