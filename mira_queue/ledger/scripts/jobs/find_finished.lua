-- Find the finished jobs among those that a client waits for.
-- Why atomic: it need not be. A client polls all its waits with one command; one for each would cost it ten times as much.
-- KEYS  job hashes
-- Returns for each job that is not open: its place in KEYS, its state ('' if it does not exist)
local is_open = {queued = true, waiting = true, running = true}
local found = {}
for place, job in ipairs(KEYS) do
  local state = redis.call('HGET', job, 'state') or ''
  if not is_open[state] then
    found[#found + 1] = place
    found[#found + 1] = state
  end
end
return found
