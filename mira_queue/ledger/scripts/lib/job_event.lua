-- Event of a single job that ends.
-- Uses  clock, job, events

-- Add the end of a job to the events, if it was accepted with a webhook.
local function add_end(place, id, webhook, project, epoch, ending, code)
  if webhook then
    local view, metadata = unpack(redis.call('HMGET', JOB, 'view', 'metadata'))
    add_event(place, {
      -- A job that is retried ends again: under another epoch, or cancelled.
      id = 'evt_' .. string.sub(redis.sha1hex(id .. ':' .. epoch .. ':' .. ending), 1, 32),
      type = 'response.' .. ending,
      created_at = math.floor(server_ms() / 1000),
      subject = id,
      project = project or '',
      webhook = webhook,
      kind = view and cjson.decode(view).kind or '',
      code = code,
      metadata = metadata or '',
    })
  end
end
