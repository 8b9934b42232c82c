-- Stores one update of one program and publishes it, atomically: no client sees the one without the
-- other. An older version never replaces a newer one. An equal version is stored and published
-- again, so that a retry completes whatever its first attempt left undone.
--
-- Everything is read before anything is written, and the first write is one that Redis refuses if it is
-- full (`noeviction`), so Redis refuses an update as a whole and keeps what it holds. A DEL before it would
-- lift that check for the rest of the script.
--
-- KEYS[1]  the program's hash
-- KEYS[2]  the mark, which counts programs; absent in a cluster, where another node may have it
-- ARGV[1]  the update's epoch       ARGV[2]  its sequence number (both without leading zeros)
-- ARGV[3]  the channel              ARGV[4]  the message to publish, a JSON object
-- ARGV[5]  seconds until the hash expires: of a tombstone; 0: never
-- ARGV[6..] the hash's fields and values, and these options with theirs:
--   ?highestEpoch     the highest epoch that a held version can have
--   ?highestSequence  the highest sequence number that one of the update's epoch can have
--   ?replaces         a version that is known to be wrong, to be replaced whatever it is
--   ?count            return whether the number of programs changes
-- Returns 0 if Redis holds a newer version, 1 if the update was stored; with ?count, 2 if it was stored
-- and there is one program more, 3 if there is one fewer.

-- Compares decimal numbers of any length: Lua's own numbers lose digits above 2^53.
local function greater(a, b)
  if #a ~= #b then return #a > #b end
  return a > b
end

local fields, names, options = {}, {}, {}
local function add(name, value)
  table.insert(fields, name)
  table.insert(fields, value)
  names[name] = true
end
for i = 6, #ARGV, 2 do
  if string.sub(ARGV[i], 1, 1) == '?' then
    options[ARGV[i]] = ARGV[i + 1]
  else
    add(ARGV[i], ARGV[i + 1])
  end
end

-- A key that is not a hash, or a hash of another program, is foreign: it has no version, and is replaced.
local kind = redis.call('TYPE', KEYS[1]).ok
local was_program, replaces = false, nil
if kind == 'hash' then
  local function held(name) return redis.call('HGET', KEYS[1], name) or '' end
  local function parse(version) return string.match(version, '^0*(%d+)%.0*(%d+)$') end
  local id = held('programId')
  if KEYS[1] == 'program:{' .. id .. '}' then
    was_program = held('deleted') ~= 'true'
    -- Becomes part of the message, so it must not be arbitrary text.
    if parse(held('replaces')) then replaces = held('replaces') end
    local epoch, sequence = parse(held('version'))
    if epoch and (greater(epoch, ARGV[1]) or (epoch == ARGV[1] and greater(sequence, ARGV[2]))) then
      -- Newer, unless no record of the stream can have had it.
      local epochs, sequences = options['?highestEpoch'], options['?highestSequence']
      local version = epoch .. '.' .. sequence
      local impossible = version == options['?replaces']
        or (epochs and greater(epoch, epochs))
        or (sequences and epoch == ARGV[1] and greater(sequence, sequences))
      if not impossible then return 0 end
      -- Trackers keep it, too, until an update names it.
      replaces = version
    end
  end
end
local message = ARGV[4]
if replaces then
  add('replaces', replaces)
  message = '{"replaces":"' .. replaces .. '",' .. string.sub(message, 2)
end
local stale = {}
if kind == 'hash' then
  for _, name in ipairs(redis.call('HKEYS', KEYS[1])) do
    if not names[name] then table.insert(stale, name) end
  end
end

-- How the number of programs changes, and the mark with it.
local is_program = ARGV[5] == '0'
local change = (is_program and 1 or 0) - (was_program and 1 or 0)
local mark, counted
if change ~= 0 and KEYS[2] and redis.call('TYPE', KEYS[2]).ok == 'string' then
  local text = redis.call('GET', KEYS[2])
  mark = #text <= 10 and tonumber(string.match(text, '^%d+$'))
  local held = redis.call('DBSIZE') - 1 + (kind == 'none' and 1 or 0)
  -- The mark may be set before its programs arrive: it includes those already.
  if mark and (change < 0 or held > mark) then counted = math.max(mark + change, 0) end
end

if (kind ~= 'hash' and kind ~= 'none') or #stale > 1000 then
  redis.call('DEL', KEYS[1])
  stale = {}
end
redis.call('HSET', KEYS[1], unpack(fields))
if #stale > 0 then redis.call('HDEL', KEYS[1], unpack(stale)) end
if is_program then
  if kind == 'hash' then redis.call('PERSIST', KEYS[1]) end
else
  redis.call('EXPIRE', KEYS[1], ARGV[5])
end
redis.call('PUBLISH', ARGV[3], message)
if counted and counted ~= mark then redis.call('SET', KEYS[2], string.format('%d', counted)) end
if change == 0 or not options['?count'] then return 1 end
return change > 0 and 2 or 3
