-- Events for webhooks: written when they happen, by the script that makes them happen. Gateways deliver them.
-- Its keys (names.webhook_keys) are the list of events, and the endpoints of the project.

-- Add an event, unless nothing receives it: it has no webhook of its own, and its project has no endpoints.
local function add_event(place, event)
  if event.webhook ~= '-' or redis.call('EXISTS', KEYS[place + 1]) == 1 then
    redis.call('RPUSH', KEYS[place], cjson.encode(event))
  end
end
