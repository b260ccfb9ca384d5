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

local function archive(id, it)
  local msg = it[1] .. string.char(58, #too_late) .. too_late
  call('HSET', q .. 't:' .. id, 'state', 'archived', 'msg', msg, 'xv', (it[4] or 0) + 1)
  call('HDEL', q .. 't:' .. id, 'pending_since', 'unique_key', 'xu')
  let_go(it[11], id)
  link(queue, id, { state = 'archived' }, now)
end

local function wait(id, it, at, key)
  call('HSET', q .. 't:' .. id, 'state', 'waiting', 'xw', 'turn', 'xv', (it[4] or 0) + 1)
  call('HDEL', q .. 't:' .. id, 'pending_since')
  link(queue, id, { state = 'waiting', xw = 'turn', xl = it[8], xp = it[10], xd = it[7], xe = it[6] }, it[6])
  call('ZADD', base .. 'x:keys', 'LT', score(at), key)
end

local function claim(id, it, key)
  local fence, version, enqueued = (it[3] or 0) + 1, (it[4] or 0) + 1, it[6]
  if not enqueued then enqueued = it[12] and string.sub(it[12], 1, -4) or text(now) end
  call('HSET', q .. 't:' .. id, 'state', 'active', 'xf', fence, 'xv', version, 'xe', enqueued)
  call('HDEL', q .. 't:' .. id, 'pending_since')
  if key then call('SADD', limit_key(key) .. ':active', queue .. ' ' .. id) end
  ids[#ids + 1] = id
  leases[#leases + 1] = score(lease)
  leases[#leases + 1] = id
  local earlier = it[9] and call('HGETALL', q .. 'x:earlier:' .. id)
  claimed[#claimed + 1] = { queue, id, name_of(queue, id), 'active', it[1], it[2], version, fence, enqueued,
    it[7], false, false, it[13], false, it[15], text(lease), earlier or false }
end

local function look_at(id, is_parked, priority)
  local it = call('HMGET', q .. 't:' .. id, 'msg', 'x', 'xf', 'xv', 'xn', 'xe', 'xd', 'xl', 'xb', 'xp', 'unique_key',
    'pending_since', 'xu', 'state', 'xa')
  if not it[1] or it[14] ~= 'pending' then return end
  local kind = kind_of(it[1])
  if not is_parked and not known[kind] then
    local lane = priority .. ':' .. kind
    parked[lane] = parked[lane] or { priority = priority, ids = {} }
    table.insert(parked[lane].ids, id)
    return
  end
  if it[5] and tonumber(it[5]) <= now then return archive(id, it) end
  local at, key
  if it[8] then at, key = admit(it[8]) end
  if at then return wait(id, it, at, key) end
  claim(id, it, key)
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
