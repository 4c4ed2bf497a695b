-- Record that the connection of an HTTP request broke before its client can have received the response.
-- Why atomic: a request whose identity another gateway has given to a retry stays that of the retry.
-- Uses  clock
-- KEYS  1 zset of equal requests
-- ARGV  1 entry of the request   2 ms until a retry may get the identity ('' while its handler still runs)
-- Returns nothing
local entry, after_ms = unpack(ARGV)
local CLOSING = 9e15
local now = server_ms()
if not redis.call('ZSCORE', KEYS[1], entry) then
  return
end
redis.call('ZADD', KEYS[1], after_ms == '' and CLOSING or now + after_ms, entry)
if redis.call('ZCOUNT', KEYS[1], CLOSING, '+inf') == 0 then
  redis.call('PEXPIRE', KEYS[1], RETRY_WITHIN_MS)
end
