-- Accept jobs of one account. Once this has returned, they are durable. A job keeps its account.
-- Why atomic: two callers with the same idempotency key must get the same job, and a job must never be half written.
-- Uses  clock, job_usage, listed, usage
-- KEYS  1 queued zset   2 accounts zset   3 pace hash   4 waiting zset   5 index of open jobs
--       6 index of open jobs of their project (the same without a project)
--       7 deadlines zset   8 usage of their project; then for each job: job hash, request, idempotency key
-- ARGV  1 account   2 its base URL ('' if the caller does not know it); then for each job: job id, request body,
--       request digest, name of the idempotency key ('' for none), group, model, ms until its deadline,
--       1 if its batch pauses when the account is rejected, options ('' for none of them)
--       The options are a JSON object: delay_ms (it waits for so long, and rescue sends its message), priority, metadata,
--       project, view, webhook, traceparent, max_open and max_cost (limits of the project),
--       price (prompt, completion, per_call)
-- Returns the base URL that the queue knows, if it is another one: nothing was accepted
--         | {position from 0, 'existing' | 'conflict', id} for each job whose idempotency key already has a job,
--         and {position, 'open' | 'cost', ''} for each that a limit of the project does not allow
local now = server_ms()
local account, base = ARGV[1], ARGV[2]
local others, queued, delayed = {}, {}, {}
if base ~= '' then
  redis.call('HSETNX', KEYS[3], 'base', base)
  local known_base = redis.call('HGET', KEYS[3], 'base')
  if known_base ~= base then
    return known_base
  end
  if redis.call('TTL', KEYS[3]) < ACCOUNT_TTL_MS / 1000 then
    redis.call('PEXPIRE', KEYS[3], ACCOUNT_TTL_MS)
  end
end
for position = 0, (#ARGV - 2) / 9 - 1 do
  local id, body, digest, name, group, model, left_ms, pauses, options = unpack(ARGV, 9 * position + 3, 9 * position + 11)
  local job, request, key = unpack(KEYS, 3 * position + 9, 3 * position + 11)
  -- Only if it does not exist: a repeated call may come after the job has finished, and must not change its TTL.
  local is_new = name ~= '' and redis.call('SET', key, digest .. ':' .. id, 'NX')
  if not is_new then
    local held_digest, held_id = string.match(name ~= '' and redis.call('GET', key) or '', '^(%x+):(.*)$')
    if held_id and held_id ~= id then
      others[#others + 1] = { position, held_digest == digest and 'existing' or 'conflict', held_id }
    else
      -- The same id is the same call, repeated by a client that lost the response.
      is_new = redis.call('EXISTS', job) == 0
    end
  end
  if is_new and options ~= '' then
    options = cjson.decode(options)
    local max_open, max_cost = options.max_open or 0, options.max_cost or 0
    local limit = options.project and limit_reached(KEYS[8], max_open, max_cost, 1, 0)
    if limit then
      others[#others + 1] = { position, limit, '' }
      is_new = false
      if name ~= '' then
        redis.call('DEL', key)
      end
    end
  end
  if is_new then
    redis.call('HSET', job, 'state', 'queued', 'epoch', 0, 'created_ms', now, 'account', account, 'key', name,
      'group', group, 'model', model)
    if left_ms ~= '' then
      -- The ledger's time: a deadline of another clock would end early or late by the difference of the two.
      redis.call('HSET', job, 'deadline_ms', now + left_ms)
      if group == '' then
        redis.call('ZADD', KEYS[7], now + left_ms, id)
      end
    end
    if pauses ~= '' then
      redis.call('HSET', job, 'pauses', pauses)
    end
    redis.call('SET', request, body)
    local due_ms
    if options ~= '' then
      if options.priority then
        redis.call('HSET', job, 'priority', options.priority)
      end
      if options.metadata then
        redis.call('HSET', job, 'metadata', options.metadata)
      end
      if options.project then
        redis.call('HSET', job, 'project', options.project)
        if options.price then
          local prompt, completion, per_call = unpack(options.price)
          redis.call('HSET', job, 'price_prompt', prompt, 'price_completion', completion, 'price_call', per_call)
        end
        open_job_usage(job, KEYS[8])
        list_job(KEYS[6], now, id)
      end
      if options.view then
        redis.call('HSET', job, 'view', options.view)
      end
      if options.webhook then
        redis.call('HSET', job, 'webhook', options.webhook)
      end
      if options.traceparent then
        redis.call('HSET', job, 'traceparent', options.traceparent)
      end
      due_ms = options.delay_ms and now + options.delay_ms
    end
    if due_ms then
      redis.call('HSET', job, 'state', 'waiting', 'due_ms', due_ms, 'not_before_ms', due_ms)
      delayed[#delayed + 1] = due_ms
      delayed[#delayed + 1] = id
    else
      queued[#queued + 1] = now
      queued[#queued + 1] = id
    end
    -- The lines of files are not listed: a million of them would push out every other job.
    if group == '' then
      list_job(KEYS[5], now, id)
    end
  end
end
if #delayed > 0 then
  redis.call('ZADD', KEYS[4], unpack(delayed))
end
if #queued > 0 then
  redis.call('ZADD', KEYS[1], unpack(queued))
end
if #queued + #delayed > 0 then
  redis.call('ZADD', KEYS[2], 'GT', now, account)
  redis.call('PEXPIRE', KEYS[2], ACCOUNT_TTL_MS)
end
return others
