-- Histograms of an account's calls (contract/call_times.py).

-- Add the fields and amounts that begin at `first` in ARGV.
local function add_call_times(times, first)
  for at = first, #ARGV, 2 do
    redis.call('HINCRBY', times, ARGV[at], ARGV[at + 1])
  end
  if ARGV[first] then
    redis.call('PEXPIRE', times, ACCOUNT_TTL_MS)
  end
end
