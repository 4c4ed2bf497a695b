-- Free an Idempotency-Key whose request was wrong and has created nothing: the corrected request may have the same key.
-- Why atomic: a key that has expired meanwhile may belong to another request by now.
-- KEYS  1 string of the Idempotency-Key
-- ARGV  1 identity   2 digest of the request
-- Returns nothing
local identity, digest = unpack(ARGV)
if redis.call('GET', KEYS[1]) == digest .. ':' .. identity then
  redis.call('DEL', KEYS[1])
end
