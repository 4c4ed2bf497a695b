-- Claim a job for one worker. Return the request and a lease with an epoch, or the reason why there is nothing to do.
-- Why atomic: of two messages for one job, or two workers with one message, exactly one gets the job. A job of another
-- account stays where it is: its data must not reach this one, whatever queue its message came from.
-- Uses  clock, holds, job
-- KEYS  of the job (lib/job.lua), and the account's pace hash
-- ARGV  1 job id   2 account   3 its base URL at the worker   4 lease in ms
--       5 token of this claim (a repeated call with the same token gets the same response)   6 name of the worker
-- Returns {'run', epoch, request, attempts, crashes, unanswered, key, group, history, ms until the deadline of a single
--         job (-1: none), project, 1 if its priority is low, traceparent}
--         | {'store', epoch, outcome, key, group, project} | {'early', ms until due} | {'held'} | {'leased'} | {'final'} | {'missing'}
--         | {'foreign'} (it is another account's, or the queue knows the account with another base URL)
local id, account, base, lease_ms, token, worker = unpack(ARGV)
local state, owner, epoch, held_token, due_ms, attempts, crashes, unanswered, key, group, outcome, deadline_ms,
  history, project, priority, traceparent
  = unpack(redis.call('HMGET', JOB, 'state', 'account', 'epoch', 'token', 'due_ms', 'attempts', 'crashes', 'unanswered',
    'key', 'group', 'outcome', 'deadline_ms', 'history', 'project', 'priority', 'traceparent'))
if not state then
  return { 'missing' }
end
local known_base = redis.call('HGET', KEYS[#KEYS], 'base')
if owner ~= account or known_base and known_base ~= base then
  return { 'foreign' }
end
local now = server_ms()
if state == 'queued' or state == 'waiting' then
  if state == 'waiting' and tonumber(due_ms) > now then
    return { 'early', due_ms - now }
  end
  -- Its supervisor removes it from the queue, or resumes it. An outcome that is decided already can be stored.
  local is_late = deadline_ms and tonumber(deadline_ms) <= now
  if group ~= '' and not outcome and (is_late or is_held(HOLDS, group, account, now)) then
    return { 'held' }
  end
  epoch = epoch + 1
  redis.call('HSET', JOB, 'state', 'running', 'epoch', epoch, 'token', token, 'worker', worker, 'claimed_ms', now)
  redis.call('HDEL', JOB, 'due_ms', 'reason', 'calling')
  leave_queue(id)
  redis.call('ZADD', LEASED, now + lease_ms, id)
elseif state ~= 'running' then
  return { 'final' }
elseif held_token ~= token then
  return { 'leased' }
end
if outcome then
  return { 'store', tonumber(epoch), outcome, key, group, project or '' }
end
return { 'run', tonumber(epoch), redis.call('GET', REQUEST), tonumber(attempts or 0), tonumber(crashes or 0),
  tonumber(unanswered or 0), key, group, history or '',
  group == '' and deadline_ms and math.max(0, deadline_ms - now) or -1, project or '', priority == 'low' and 1 or 0,
  traceparent or '' }
