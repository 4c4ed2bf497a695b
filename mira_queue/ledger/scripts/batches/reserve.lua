-- Reserve for a batch what a command is about to allow: lines that run again, and a larger maximum cost.
-- Why atomic: two commands, or a command and a request, must not both get what is left.
-- Uses  batch_usage, usage
-- KEYS  1 batch hash   2 usage of its project
-- ARGV  1 additional open lines   2 additional cost (both negative if the command failed)   3 cost that has to be left
--       4 and 5 limits of the project: open jobs, cost of the day (0: none)
-- Returns 1 | 'open' | 'cost' (the limit that does not allow it)
local lines, cost, needed, max_open, max_cost = unpack(ARGV)
local limit = limit_reached(KEYS[2], tonumber(max_open), tonumber(max_cost), tonumber(lines), tonumber(needed))
if limit then
  return limit
end
local open_lines, reserved, counted = unpack(redis.call('HMGET', KEYS[1], 'open_lines', 'reserved', 'counted_cost'))
count_batch(KEYS[1], KEYS[2], math.max(0, (open_lines or 0) + lines), math.max(0, (reserved or 0) + cost),
  tonumber(counted or 0))
return 1
