-- Denials: reasons why a job's call must not start, whatever the account's limits allow. The rule is the same for a call
-- that requests a permit and for one that has had its permit for some time.
-- Uses  holds, rejections

-- Return the verdict of a job whose call must not start, or nothing; and the rejection that its call would probe.
-- The account is {in_flight, holds (keys), holds_channel, rejections}.
local function denied(account, job, epoch, member, now)
  local state, held_epoch, owner, group, model, deadline_ms, pauses = unpack(redis.call('HMGET', job, 'state', 'epoch',
    'account', 'group', 'model', 'deadline_ms', 'pauses'))
  if state ~= 'running' or held_epoch ~= epoch then
    return { 'lost' }
  end
  if deadline_ms and tonumber(deadline_ms) <= now then
    return { 'expired' }
  end
  if group and group ~= '' and is_held(account.holds, group, owner, now) then
    return { 'held' }
  end
  local known = account.rejections
  local rejection = known and (known.account or known['model:' .. (model or '')])
  if not rejection or rejection.probe == member then
    return
  end
  if rejection.probe ~= '' and redis.call('ZSCORE', account.in_flight, rejection.probe) then
    return { 'wait' }
  end
  if rejection.ends <= now then
    return nil, rejection
  end
  if pauses then
    local name = rejected_name(group, owner, rejection.field)
    if has_hold(account.holds, name, now) then
      return { 'held' }
    end
    -- This one tells its supervisor about the error.
    hold(account.holds, name, now, rejection.ends - now, account.holds_channel)
  end
  return { 'rejected', rejection.error }
end
