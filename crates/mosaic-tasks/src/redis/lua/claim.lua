-- Gives out pending tasks. Queue, limit, lease, why a late one is archived; number of kinds, kinds.
-- Returns the end of the lease and the tasks.
local queue, limit, lease, too_late = take(), tonumber(take()), now + take(), take()
local q = of(queue)
if call('EXISTS', q .. 'paused') == 1 then return { text(lease), {} } end
local known = {}
for _ = 1, tonumber(take()) do known[take()] = true end

-- Decides as `admit` in Rust; returns when to look again, or nothing if it may start.
local function admit(limit)
  local most, again, interval, lead, key = limit_of(limit)
  local k = limit_key(key)
  if most > 0 and call('SCARD', k .. ':active') >= most then return now + again, key end
  if interval == 0 then return nil, key end
  local time = tonumber(call('GET', k .. ':time') or 0)
  if now < time - lead then return time - lead, key end
  time = math.max(time, now) + interval
  call('SET', k .. ':time', text(time))
  if not is_held_still then call('PEXPIRE', k .. ':time', text(math.ceil((time - now) / 1000))) end
  return nil, key
end

local claimed, ids, leases = {}, {}, {}
local parked = {}

local function archive(id, task)
  local msg = task.msg .. string.char(58, #too_late) .. too_late
  call('HSET', q .. 't:' .. id, 'state', 'archived', 'msg', msg, 'xv', (task.xv or 0) + 1)
  call('HDEL', q .. 't:' .. id, 'pending_since', 'unique_key', 'xu')
  let_go(task.unique_key, id)
  link(queue, id, { state = 'archived' }, now)
end

local function wait(id, task, at, key)
  call('HSET', q .. 't:' .. id, 'state', 'waiting', 'xw', 'turn', 'xv', (task.xv or 0) + 1)
  call('HDEL', q .. 't:' .. id, 'pending_since')
  task.state, task.xw = 'waiting', 'turn'
  link(queue, id, task, task.xe)
  call('ZADD', base .. 'x:keys', 'LT', score(at), key)
end

-- Of each: id, name if it is another, msg, x, number, enqueued, due, key held until, awaited, what came before.
local function claim(id, it, more)
  local msg, x, fence, enqueued = it[2], it[3], (it[5] or 0) + 1, it[6]
  if enqueued then
    call('HSET', q .. 't:' .. id, 'state', 'active', 'xf', fence)
  else
    enqueued = more.pending_since and string.sub(more.pending_since, 1, -4) or text(now)
    call('HSET', q .. 't:' .. id, 'state', 'active', 'xf', fence, 'xe', enqueued)
  end
  ids[#ids + 1] = id
  leases[#leases + 1] = score(lease)
  leases[#leases + 1] = id
  local name = (not x or #id ~= 32) and name_of(queue, id)
  local earlier = more.xb and call('HGETALL', q .. 'x:earlier:' .. id)
  claimed[#claimed + 1] = { id, name or false, msg, x, fence, enqueued, more.xd or false, more.xu or false,
    more.xa or false, earlier or false }
end

local NOTHING = {}
local MORE = { 'xv', 'xn', 'xd', 'xl', 'xb', 'xp', 'unique_key', 'pending_since', 'xu', 'xa' }
local function more_of(id, it)
  local more = { msg = it[2], xe = it[6] }
  for index, value in ipairs(call('HMGET', q .. 't:' .. id, unpack(MORE))) do
    if value and value ~= '' then more[MORE[index]] = value end
  end
  return more
end

local function look_at(id, is_parked, priority)
  local it = call('HMGET', q .. 't:' .. id, 'state', 'msg', 'x', 'xm', 'xf', 'xe')
  if it[1] ~= 'pending' or not it[2] then return end
  local kind = kind_of(it[2])
  if not is_parked and not known[kind] then
    local lane = priority .. ':' .. kind
    parked[lane] = parked[lane] or { priority = priority, ids = {} }
    table.insert(parked[lane].ids, id)
    return
  end
  if not it[4] and it[3] then return claim(id, it, NOTHING) end
  local more = more_of(id, it)
  if more.xn and tonumber(more.xn) <= now then return archive(id, more) end
  if more.xl then
    local at, key = admit(more.xl)
    if at then return wait(id, more, at, key) end
    call('SADD', limit_key(key) .. ':active', queue .. ' ' .. id)
  end
  claim(id, it, more)
end

-- Lanes by priority; of one priority those set aside for other kinds come first, for they are older.
local lanes = {}
local named = call('ZREVRANGE', q .. 'x:lanes', 0, -1, 'WITHSCORES')
for index = 1, #named, 2 do
  local lane, priority = named[index], tonumber(named[index + 1])
  local kind = string.match(lane, '^%d+:(.*)$')
  if not kind or known[kind] then lanes[#lanes + 1] = { lane, priority, kind ~= nil } end
end
lanes[#lanes + 1] = { '', 0, false }
table.sort(lanes, function(a, b)
  if a[2] ~= b[2] then return a[2] > b[2] end
  return a[3] and not b[3]
end)

local budget = limit + 1000
for _, lane in ipairs(lanes) do
  while #claimed < limit and budget > 0 do
    local popped = call('RPOP', lane_key(queue, lane[1]), math.min(limit - #claimed, budget))
    if not popped or #popped == 0 then
      if lane[1] ~= '' then call('ZREM', q .. 'x:lanes', lane[1]) end
      break
    end
    budget = budget - #popped
    for _, id in ipairs(popped) do look_at(id, lane[3], lane[2]) end
  end
end
for lane, some in pairs(parked) do push(queue, lane, some.priority, some.ids, false) end
in_pieces(ids, function(...) call('LPUSH', q .. 'active', ...) end)
in_pieces(leases, function(...) call('ZADD', q .. 'lease', ...) end)
return { text(lease), claimed }
