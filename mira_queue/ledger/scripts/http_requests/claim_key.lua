-- Give a request with an Idempotency-Key its identity: the one of the first request with this key.
-- Why atomic: of two requests that arrive at the same time, one is the first.
-- KEYS  1 string of the Idempotency-Key
-- ARGV  1 identity, if it is the first request   2 digest of the request   3 TTL in ms
-- Returns the identity | false if the key belongs to another request
local identity, digest, ttl_ms = unpack(ARGV)
local held = redis.call('GET', KEYS[1])
if held then
  local held_digest, held_identity = string.match(held, '^(.-):(.*)$')
  return held_digest == digest and held_identity
end
redis.call('SET', KEYS[1], digest .. ':' .. identity, 'PX', ttl_ms)
return identity
