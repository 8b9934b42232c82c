-- Stores one update of one program and publishes it, atomically: no client sees the one without the
-- other. An older version never replaces a newer one. An equal version is stored and published
-- again, so that a retry completes whatever its first attempt left undone.
--
-- KEYS[1]  the program's hash
-- ARGV[1]  the update's epoch       ARGV[2]  its sequence number (both without leading zeros)
-- ARGV[3]  the channel              ARGV[4]  the message to publish
-- ARGV[5]  seconds until the hash expires; 0: never
-- ARGV[6..] the hash's fields and values
-- Returns 1 if the update was stored, 0 if Redis holds a newer version.

-- Compares decimal numbers of any length: Lua's own numbers lose digits above 2^53.
local function greater(a, b)
  if #a ~= #b then return #a > #b end
  return a > b
end

-- A key that is not a hash (written by another program) has no version, and is replaced.
if redis.call('TYPE', KEYS[1]).ok == 'hash' then
  local held = redis.call('HGET', KEYS[1], 'version')
  local epoch, sequence = string.match(held or '', '^(%d+)%.(%d+)$')
  if epoch and (greater(epoch, ARGV[1]) or (epoch == ARGV[1] and greater(sequence, ARGV[2]))) then
    return 0
  end
end

redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], unpack(ARGV, 6))
if ARGV[5] ~= '0' then
  redis.call('EXPIRE', KEYS[1], ARGV[5])
end
redis.call('PUBLISH', ARGV[3], ARGV[4])
return 1
