-- Return fields of a hash by their names. A field that does not exist is nil.
local function read_hash(key, ...)
  local names, hash = { ... }, {}
  for index, value in ipairs(redis.call('HMGET', key, ...)) do
    hash[names[index]] = value or nil
  end
  return hash
end

-- Return the arguments from `first` to `last` as numbers.
local function read_numbers(first, last)
  local numbers = {}
  for index = first, last do
    numbers[#numbers + 1] = tonumber(ARGV[index])
  end
  return unpack(numbers)
end
