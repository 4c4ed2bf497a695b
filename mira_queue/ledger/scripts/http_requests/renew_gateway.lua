-- Renew the lease of a gateway. When it ends, the requests that the gateway has not finished have broken connections.
-- Why atomic: the end of a lease is in the ledger's time, and an expired one stays only as long as retries need it.
-- Uses  clock
-- KEYS  1 zset of gateways
-- ARGV  1 gateway   2 ms until its lease ends (0 if it stops)
-- Returns nothing
local gateway, lease_ms = unpack(ARGV)
local now = server_ms()
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - RETRY_WITHIN_MS)
redis.call('ZADD', KEYS[1], now + lease_ms, gateway)
redis.call('PEXPIRE', KEYS[1], HTTP_REQUEST_TTL_MS)
