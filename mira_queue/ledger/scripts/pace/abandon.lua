-- Release the permit of a call that will bring no response: its worker crashed, or has released the job.
-- Why atomic: only one call may become the next probe.
-- Uses  permits
-- KEYS  1 pace hash   2 in-flight zset
-- ARGV  1 job:epoch
-- Returns 1 if the call was the probe (the next call becomes the probe), else 0
return abandon(KEYS[1], KEYS[2], ARGV[1]) and 1 or 0
