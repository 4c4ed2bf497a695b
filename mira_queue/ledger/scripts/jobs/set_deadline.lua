-- Give open jobs another deadline: a run that was killed is resumed with other options.
-- Why atomic: a job that is deleted at the same time must not come back as a hash without a TTL.
-- Uses  clock
-- KEYS  job hashes
-- ARGV  1 ms until the deadline ('' for none)
-- Returns nothing
local now = server_ms()
for _, job in ipairs(KEYS) do
  if ARGV[1] == '' then
    redis.call('HDEL', job, 'deadline_ms')
  elseif redis.call('HEXISTS', job, 'state') == 1 then
    redis.call('HSET', job, 'deadline_ms', now + ARGV[1])
  end
end
