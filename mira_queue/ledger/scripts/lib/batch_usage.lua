-- What a batch of a project counts for its limits. The batch's hash has what is counted: `open_lines`, `reserved`, and
-- `counted_cost`.
-- Uses  usage

-- Count so many open lines, what the batch may still cost, and its cost so far, in place of what was counted before.
local function count_batch(batch, usage, lines, reserved, cost)
  local old_lines, old_reserved, counted = unpack(redis.call('HMGET', batch, 'open_lines', 'reserved', 'counted_cost'))
  -- The cost of a batch that is read again may be lower for a moment.
  cost = math.max(cost, counted or 0)
  redis.call('HSET', batch, 'open_lines', lines, 'reserved', whole(reserved), 'counted_cost', whole(cost))
  use(usage, 'lines', lines - (old_lines or 0), reserved - (old_reserved or 0), cost - (counted or 0))
end
