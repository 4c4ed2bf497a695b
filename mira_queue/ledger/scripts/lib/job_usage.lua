-- What a single job of a project counts for its limits. The job's hash has its price: `price_prompt`, `price_completion`
-- (of a token), and `price_call` (the estimated cost of a call). `reserved` is there while the job is open and counted.
-- Uses  usage

-- Count the job as open.
local function open_job_usage(job, usage)
  if redis.call('HEXISTS', job, 'reserved') == 0 then
    local reserved = redis.call('HGET', job, 'price_call') or 0
    redis.call('HSET', job, 'reserved', reserved)
    use(usage, 'jobs', 1, tonumber(reserved), 0)
  end
end

-- Count the job as ended, with the tokens of all its calls, of which an earlier end may have counted some. A call whose
-- response was lost costs its estimate.
local function close_job_usage(job, usage, prompt_tokens, completion_tokens)
  local reserved, prompt, completion, call, unanswered, counted = unpack(redis.call('HMGET', job, 'reserved',
    'price_prompt', 'price_completion', 'price_call', 'unanswered', 'counted_cost'))
  if not reserved then
    return
  end
  local cost = 0
  if prompt then
    local total = math.ceil(prompt_tokens * prompt + completion_tokens * completion + (unanswered or 0) * call)
    cost = math.max(0, total - (counted or 0))
    redis.call('HSET', job, 'counted_cost', whole(math.max(total, counted or 0)))
  end
  redis.call('HDEL', job, 'reserved')
  use(usage, 'jobs', -1, -tonumber(reserved), cost)
end
