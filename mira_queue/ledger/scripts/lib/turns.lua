-- Turns of the processes that wait for an account. Their score is the weighted number of calls that they were granted:
-- the lowest goes first. A new process starts where the process that was last served stood.

-- Return the process's score, and the scores of the other processes that wait, the lowest first.
local function read_turns(turns, turn_ends, process, served, weight, now)
  for _, ended in ipairs(redis.call('ZRANGEBYSCORE', turn_ends, '-inf', now)) do
    redis.call('ZREM', turns, ended)
    redis.call('ZREM', turn_ends, ended)
  end
  local score, waiting = nil, {}
  local all = redis.call('ZRANGE', turns, 0, -1, 'WITHSCORES')
  for at = 1, #all, 2 do
    if all[at] == process then
      score = tonumber(all[at + 1])
    else
      waiting[#waiting + 1] = tonumber(all[at + 1])
    end
  end
  if not score then
    score = tonumber(served)
    if weight < 1 and waiting[1] then
      -- A new process whose calls count less goes before all others.
      score = math.min(score, waiting[1] - weight)
    end
  end
  return score, waiting
end

-- Return how many slots belong to other processes, because their scores are lower.
local function slots_ahead(waiting, score)
  local ahead = 0
  for _, other in ipairs(waiting) do
    ahead = ahead + math.ceil(math.max(0, score - other))
  end
  return ahead
end

-- Wake the processes that wait, up to the one at position `last`.
local function wake(turns, channel, last, process)
  for _, waiting in ipairs(redis.call('ZRANGE', turns, 0, last)) do
    if waiting ~= process then
      redis.call('PUBLISH', channel .. waiting, '1')
    end
  end
end
