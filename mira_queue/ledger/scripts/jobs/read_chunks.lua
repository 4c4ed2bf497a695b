-- Read the chunks that were published since a client last read them, for several clients.
-- Why atomic: the epoch and the chunks must be those of one attempt.
-- KEYS  list of chunks of each client
-- ARGV  for each client: epoch of the attempt that it reads ('' for none yet), number of chunks that it has
-- Returns for each client {epoch ('' if nothing is published), chunk, ..}; all chunks if the epoch is another one
local found = {}
for place, chunks in ipairs(KEYS) do
  local known_epoch, count = unpack(ARGV, 2 * place - 1, 2 * place)
  local epoch = redis.call('LINDEX', chunks, 0)
  local first = epoch == known_epoch and count + 1 or 1
  found[place] = { epoch or '', unpack(epoch and redis.call('LRANGE', chunks, first, first + MAX_CHUNKS - 1) or {}) }
end
return found
