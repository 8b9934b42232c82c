-- Updates the number of programs in a cluster's mark, which the script that stores them cannot reach. Never
-- creates the mark.
--
-- KEYS[1]  the mark
-- ARGV[1]  programs added   ARGV[2]  programs removed   ARGV[3]  keys that the cluster holds
if redis.call('TYPE', KEYS[1]).ok ~= 'string' then return 0 end
local text = redis.call('GET', KEYS[1])
local mark = #text <= 10 and tonumber(string.match(text, '^%d+$'))
if not mark then return 0 end
-- The mark may be set before its programs arrive: it includes those already.
local counted = math.max(math.max(mark, math.min(mark + ARGV[1], ARGV[3])) - ARGV[2], 0)
if counted ~= mark then redis.call('SET', KEYS[1], string.format('%d', counted)) end
return 1
