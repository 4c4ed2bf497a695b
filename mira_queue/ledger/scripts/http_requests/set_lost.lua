-- Record that the connection of an HTTP request broke before it was known that its client has received the response.
-- Why atomic: a request whose identity another gateway has given to a retry stays that of the retry.
-- Uses  clock
-- KEYS  1 zset of equal requests
-- ARGV  1 entry of the request   2 ms for which a retry is recognized ('' while its handler still runs)
-- Returns nothing
local entry, within_ms = unpack(ARGV)
local CLOSING = '9000000000000000'
local now = server_ms()
if not redis.call('ZSCORE', KEYS[1], entry) then
  return
end
redis.call('ZADD', KEYS[1], within_ms == '' and CLOSING or now + within_ms, entry)
if redis.call('ZCOUNT', KEYS[1], CLOSING, '+inf') == 0 then
  redis.call('PEXPIRE', KEYS[1], RETRY_WITHIN_MS)
end
