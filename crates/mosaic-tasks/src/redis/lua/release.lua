-- Lets the first of those that wait for a key try again. Key, how many, when to look again (empty for never).
local key, n, again = take(), tonumber(take()), take()
local k = limit_key(key)
local first = n > 0 and call('ZRANGE', k .. ':waiting', 0, n - 1) or {}
local lanes = {}
local n_released = 0
for _, member in ipairs(first) do
  local queue, id = string.match(member, '^(%S+) (.*)$')
  local it = call('HMGET', task_key(queue, id), 'state', 'xw', 'xp', 'xv')
  call('ZREM', k .. ':waiting', member)
  if it[1] == 'waiting' and it[2] == 'turn' then
    call('ZREM', of(queue) .. 'x:waiting', id)
    call('HSET', task_key(queue, id), 'state', 'pending', 'pending_since', text(now) .. '000', 'xv', (it[4] or 0) + 1)
    call('HDEL', task_key(queue, id), 'xw')
    local priority = tonumber(it[3] or 0)
    local lane = queue .. ' ' .. priority
    lanes[lane] = lanes[lane] or { queue = queue, priority = priority, ids = {} }
    table.insert(lanes[lane].ids, id)
    n_released = n_released + 1
  end
end
-- They have waited: in front of those that came after them.
for _, lane in pairs(lanes) do push(lane.queue, lane_of(lane.priority), lane.priority, lane.ids, true) end
if again == '' or call('EXISTS', k .. ':waiting') == 0 then
  call('ZREM', base .. 'x:keys', key)
else
  call('ZADD', base .. 'x:keys', score(tonumber(again)), key)
end
return n_released
