-- Lets go what is due; then says what groups and keys have come to their time (they need the rules). Limit.
-- Returns the time, how many went, when the next one may, groups (queue, name), keys (key, x, active, waiting, time).
local limit = tonumber(take())
local left, next_at = limit, nil
local groups, keys = {}, {}

local function note(zset)
  local first = call('ZRANGE', zset, 0, 0, 'WITHSCORES')
  if first[2] then
    local at = micros(first[2])
    if not next_at or at < next_at then next_at = at end
  end
end

local function promote(queue, state)
  local zset, q = of(queue) .. state, of(queue)
  local due = left > 0 and call('ZRANGEBYSCORE', zset, '-inf', score(now), 'LIMIT', 0, left) or {}
  if #due == 0 then return end
  in_pieces(due, function(...) call('ZREM', zset, ...) end)
  local lanes = {}
  for _, id in ipairs(due) do
    local it = call('HMGET', q .. 't:' .. id, 'state', 'xp', 'xv')
    if it[1] == state then
      call('HSET', q .. 't:' .. id, 'state', 'pending', 'pending_since', text(now) .. '000', 'xv', (it[3] or 0) + 1)
      local priority = tonumber(it[2] or 0)
      lanes[priority] = lanes[priority] or {}
      table.insert(lanes[priority], id)
      left = left - 1
    end
  end
  for priority, ids in pairs(lanes) do push(queue, lane_of(priority), priority, ids, false) end
end

local all = queues()
local n = #all
for index = 1, n do
  -- Not always the same one first.
  local queue = all[(index + now) % n + 1]
  local q = of(queue)
  promote(queue, 'scheduled')
  promote(queue, 'retry')
  if limit > 0 then
    for _, name in ipairs(call('ZRANGEBYSCORE', q .. 'x:groups', '-inf', score(now), 'LIMIT', 0, limit - #groups)) do
      groups[#groups + 1] = { queue, name }
    end
  end
  note(q .. 'scheduled')
  note(q .. 'retry')
  note(q .. 'x:groups')
end

local due = limit > 0 and call('ZRANGEBYSCORE', base .. 'x:keys', '-inf', score(now), 'LIMIT', 0, limit) or {}
for _, key in ipairs(due) do
  local k = limit_key(key)
  local first = call('ZRANGE', k .. ':waiting', 0, 0)[1]
  local queue, id = string.match(first or '', '^(%S+) (.*)$')
  local x = queue and call('HGET', task_key(queue, id), 'x')
  if x then
    keys[#keys + 1] = { key, x, call('SCARD', k .. ':active'), call('ZCARD', k .. ':waiting'), call('GET', k .. ':time') }
  else
    -- Nobody waits, or whoever did was removed by somebody who does not know of limits.
    if first then call('ZREM', k .. ':waiting', first) else call('ZREM', base .. 'x:keys', key) end
  end
end
note(base .. 'x:keys')
return { text(now), limit - left, next_at and text(next_at) or false, groups, keys }
