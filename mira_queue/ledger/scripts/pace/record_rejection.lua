-- Record that the API has rejected the account, or the model of this job. If the job's batch pauses at that, the account's
-- jobs in it are held.
-- Why atomic: no job that waits for a permit may start a call after this, and only those jobs are held.
-- Uses  clock, holds, rejections, turns
-- KEYS  1 job hash   2 rejections hash   3 holds zset   4 turns zset
-- ARGV  1 1 if only the job's model is rejected, else 0   2 error   3 ms for which jobs get it without a call
--       4 channel of holds   5 channel of wake-ups, without the process
-- Returns nothing
local of_model, error, rejected_ms, holds_channel, channel = unpack(ARGV)
local now = server_ms()
local account, group, model, pauses = unpack(redis.call('HMGET', KEYS[1], 'account', 'group', 'model', 'pauses'))
local field = of_model == '1' and 'model:' .. (model or '') or 'account'
write_rejection(KEYS[2], { field = field, ends = now + rejected_ms, probe = '', error = error })
-- Until its supervisor holds it: if the worker crashes before the outcome is stored, the supervisor never learns of it.
if pauses then
  hold(KEYS[3], rejected_name(group, account, field), now, tonumber(rejected_ms), holds_channel)
end
wake(KEYS[4], channel, -1)
