-- Return the server's time in ms, or the time that a test has passed in its place.
local function server_ms(given)
  if given and given ~= '' then
    return tonumber(given)
  end
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
