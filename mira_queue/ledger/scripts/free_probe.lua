-- Free the probe of a job that will not bring its answer: its worker is gone, or has given it back.
-- Why atomic: only that job's probe; another one may be out by now.
-- KEYS  1 probe
-- ARGV  1 key of the job's hash
-- Returns 1 | 0 (the probe is somebody else's, or nobody's)
local holder = redis.call('GET', KEYS[1])
if not holder or string.sub(holder, 1, #ARGV[1] + 1) ~= ARGV[1] .. ':' then
  return 0
end
redis.call('SET', KEYS[1], 'needed', 'KEEPTTL')
return 1
