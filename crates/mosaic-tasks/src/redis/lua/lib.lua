-- What all scripts share; in front of each of them.
-- KEYS[1]: prefix of all keys. ARGV[1]: the time in microseconds, empty for that of the server.
local call = redis.call
local base = KEYS[1]
local now = tonumber(ARGV[1])
local is_held_still = now ~= nil
if not now then
  local time = call('TIME')
  now = time[1] * 1000000 + time[2]
end

local position = 1
local function take()
  position = position + 1
  return ARGV[position]
end

local prefixes = {}
local function of(queue)
  local prefix = prefixes[queue]
  if not prefix then
    prefix = base .. '{' .. queue .. '}:'
    prefixes[queue] = prefix
  end
  return prefix
end

local function text(number) return string.format('%.0f', number) end
-- Times are microseconds; scores are seconds, as asynq reads them, with a fraction.
local function score(micros) return string.format('%.17g', micros / 1000000) end
local function micros(score) return math.floor(score * 1000000 + 0.5) end
local function task_key(queue, id) return of(queue) .. 't:' .. id end
local function ring(queue) call('PUBLISH', base .. 'x:bell', queue) end

local seen = {}
local function register(queue)
  if not seen[queue] then
    seen[queue] = true
    call('SADD', base .. 'queues', queue)
  end
end

-- Lists in pieces that `unpack` can take.
local function in_pieces(list, work)
  for first = 1, #list, 500 do
    work(unpack(list, first, math.min(first + 499, #list)))
  end
end

local function varint(number)
  local bytes = ''
  while number >= 128 do
    bytes = bytes .. string.char(number % 128 + 128)
    number = math.floor(number / 128)
  end
  return bytes .. string.char(number)
end

-- The kind is the first field of a TaskMessage.
local function kind_of(msg)
  local tag, len, high = string.byte(msg, 1, 3)
  if tag ~= 10 then return '' end
  if len < 128 then return string.sub(msg, 3, 2 + len) end
  return string.sub(msg, 4, 3 + len - 128 + high * 128)
end

-- The id by which we know a task: its own if it has 128 bits, else a digest that is written down.
local function name_of(queue, id)
  if #id == 32 and not string.find(id, '[^0-9a-f]') then return id end
  local a, b, c, d, e = string.match(id, '^(%x+)%-(%x+)%-(%x+)%-(%x+)%-(%x+)$')
  if a and #a == 8 and #b == 4 and #c == 4 and #d == 4 and #e == 12 and not string.find(id, '[A-F]') then
    return a .. b .. c .. d .. e
  end
  local name = string.sub(redis.sha1hex(id), 1, 32)
  call('HSET', of(queue) .. 'x:ids', name, id)
  return name
end

local function forget_name(queue, id)
  if #id ~= 32 then call('HDEL', of(queue) .. 'x:ids', name_of(queue, id)) end
end

-- Who holds a unique key, false for nobody.
local function holder(key)
  local id = call('GET', key)
  if not id then return false end
  local till = call('GET', key .. ':until')
  if till and tonumber(till) <= now then return false end
  return id
end

local function hold(key, id, till)
  if is_held_still then
    call('SET', key, id)
    call('SET', key .. ':until', till)
  else
    local left = math.max(math.ceil((tonumber(till) - now) / 1000), 1)
    call('SET', key, id, 'PX', text(left))
    call('SET', key .. ':until', till, 'PX', text(left))
  end
end

local function let_go(key, id)
  if key and key ~= '' and call('GET', key) == id then call('DEL', key, key .. ':until') end
end

-- Limits are "most again interval lead key".
local function limit_of(limit)
  local most, again, interval, lead, key = string.match(limit, '^(%d+) (%d+) (%d+) (%d+) (.*)$')
  return tonumber(most), tonumber(again), tonumber(interval), tonumber(lead), key
end

local function limit_key(key) return base .. 'x:key:' .. key end

local function wait_for_turn(queue, id, limit, priority, due)
  local _, _, _, _, key = limit_of(limit)
  local place = (255 - priority) * 10000000000 + tonumber(due) / 1000000
  call('ZADD', limit_key(key) .. ':waiting', string.format('%.17g', place), queue .. ' ' .. id)
end

local function free_turn(queue, id, limit)
  local _, _, _, _, key = limit_of(limit)
  call('SREM', limit_key(key) .. ':active', queue .. ' ' .. id)
  if call('ZADD', base .. 'x:keys', 'XX', 'CH', 'LT', score(now), key) == 1 then ring(queue) end
end

local function lane_of(priority) return priority == 0 and '' or tostring(priority) end

local function lane_key(queue, lane)
  return lane == '' and of(queue) .. 'pending' or of(queue) .. 'x:lane:' .. lane
end

-- Puts ids, the first first, behind the others of a lane, or (is_next) in front of them.
local function push(queue, lane, priority, ids, is_next)
  if #ids == 0 then return end
  local key = lane_key(queue, lane)
  if lane ~= '' then call('ZADD', of(queue) .. 'x:lanes', priority, lane) end
  local was_empty = call('EXISTS', key) == 0
  if is_next then
    for position = #ids, 1, -1 do call('RPUSH', key, ids[position]) end
  else
    in_pieces(ids, function(...) call('LPUSH', key, ...) end)
  end
  if was_empty then ring(queue) end
end

-- Takes a task out of where it is. `task` has state, xp, xl, xw, group, msg.
local function unlink(queue, id, task)
  local q, state = of(queue), task.state
  if state == 'pending' then
    local priority = tonumber(task.xp or 0)
    if call('LREM', lane_key(queue, lane_of(priority)), -1, id) == 0 then
      call('LREM', lane_key(queue, priority .. ':' .. kind_of(task.msg)), -1, id)
    end
  elseif state == 'active' then
    call('LREM', q .. 'active', -1, id)
    call('ZREM', q .. 'lease', id)
    if task.xl then free_turn(queue, id, task.xl) end
  elseif state == 'waiting' or state == 'aggregating' then
    call('ZREM', q .. 'x:waiting', id)
    if task.xw == 'turn' and task.xl then
      local _, _, _, _, key = limit_of(task.xl)
      call('ZREM', limit_key(key) .. ':waiting', queue .. ' ' .. id)
    elseif task.group then
      call('ZREM', q .. 'g:' .. task.group, id)
      if call('EXISTS', q .. 'g:' .. task.group) == 0 then call('SREM', q .. 'groups', task.group) end
    end
  else
    call('ZREM', q .. state, id)
  end
end

-- Puts a task where its state belongs. `time` is that of the state; see `Record` in Rust.
local function link(queue, id, task, time, is_next)
  local q, state = of(queue), task.state
  if state == 'pending' then
    call('HSET', task_key(queue, id), 'pending_since', text(now) .. '000')
    local priority = tonumber(task.xp or 0)
    push(queue, lane_of(priority), priority, { id }, is_next)
  elseif state == 'active' then
    call('LPUSH', q .. 'active', id)
    call('ZADD', q .. 'lease', score(time), id)
    if task.xl then
      local _, _, _, _, key = limit_of(task.xl)
      call('SADD', limit_key(key) .. ':active', queue .. ' ' .. id)
    end
  elseif state == 'waiting' or state == 'aggregating' then
    call('ZADD', q .. 'x:waiting', score(time), id)
    if task.xw == 'turn' and task.xl then
      wait_for_turn(queue, id, task.xl, tonumber(task.xp or 0), task.xd or task.xe)
    elseif task.xw == 'group' and task.group then
      call('ZADD', q .. 'g:' .. task.group, score(time), id)
      call('SADD', q .. 'groups', task.group)
    end
  else
    call('ZADD', q .. state, score(time), id)
    if (state == 'scheduled' or state == 'retry') and call('ZRANK', q .. state, id) == 0 then ring(queue) end
  end
end

-- Writes the hash of a task; fields that are empty are left out. `xm`: there may be more than a plain task has.
local function write(queue, id, fields)
  local flat = { 'xm', 1 }
  for name, value in pairs(fields) do
    if value and value ~= '' then
      flat[#flat + 1] = name
      flat[#flat + 1] = value
    end
  end
  call('HSET', task_key(queue, id), unpack(flat))
end

local FIELDS = { 'state', 'msg', 'xv', 'xp', 'xl', 'xw', 'group', 'unique_key', 'xa', 'xb', 'xd', 'xe' }
-- What a task is expected to be by whoever changes it: version and claim, and the state, which asynq changes as well.
local function version(queue, id)
  local it = call('HMGET', task_key(queue, id), 'xv', 'xf', 'state')
  return (it[1] or '') .. '/' .. (it[2] or '') .. ':' .. (it[3] or '')
end

local function read(queue, id)
  local values = call('HMGET', task_key(queue, id), unpack(FIELDS))
  local task = {}
  for index, name in ipairs(FIELDS) do
    if values[index] and values[index] ~= '' then task[name] = values[index] end
  end
  return task
end

local function remove(queue, id, task)
  local q = of(queue)
  unlink(queue, id, task)
  let_go(task.unique_key, id)
  call('DEL', q .. 't:' .. id)
  if task.xa then call('DEL', q .. 'x:after:' .. id) end
  if task.xb then call('DEL', q .. 'x:earlier:' .. id) end
  forget_name(queue, id)
end

-- What Rust reads of a task; false if it is not there. `rest` goes with it.
local SCORED = { active = 'lease', scheduled = 'scheduled', retry = 'retry', completed = 'completed', archived = 'archived' }
local function stored(queue, id, rest)
  local it = call('HMGET', task_key(queue, id),
    'state', 'msg', 'x', 'xv', 'xf', 'xe', 'xd', 'xw', 'xc', 'xu', 'pending_since', 'xa')
  if not it[2] then return false end
  local zset = SCORED[it[1]]
  local time = zset and call('ZSCORE', of(queue) .. zset, id)
  return { queue, id, name_of(queue, id), it[1], it[2], it[3], it[4], it[5], it[6], it[7], it[8], it[9], it[10],
    it[11], it[12], time and text(micros(time)) or false, rest or false }
end

local function queues()
  return call('SMEMBERS', base .. 'queues')
end

-- The day as asynq writes it: civil date from days since the epoch.
local function today()
  local z = math.floor(now / 86400000000) + 719468
  local era = math.floor(z / 146097)
  local of_era = z - era * 146097
  local year = math.floor(
    (of_era - math.floor(of_era / 1460) + math.floor(of_era / 36524) - math.floor(of_era / 146096)) / 365)
  local of_year = of_era - (365 * year + math.floor(year / 4) - math.floor(year / 100))
  local month = math.floor((5 * of_year + 2) / 153)
  local day = of_year - math.floor((153 * month + 2) / 5) + 1
  local is_late = month >= 10
  return string.format('%04d-%02d-%02d', year + era * 400 + (is_late and 1 or 0), month + (is_late and -9 or 3), day)
end

local KEPT_SECONDS = 90 * 86400
local function count(queue, n_processed, n_failed)
  local q = of(queue)
  for name, n in pairs({ processed = n_processed, failed = n_failed }) do
    if n > 0 then
      local daily = q .. name .. ':' .. today()
      call('INCRBY', q .. name, n)
      if call('INCRBY', daily, n) == n then call('EXPIRE', daily, KEPT_SECONDS) end
      call('SET', q .. 'x:seen', 1, 'EX', KEPT_SECONDS)
    end
  end
end

-- Another task comes to a group.
local function gather(queue, name, grace, delay, size)
  local q = of(queue)
  local known = call('HMGET', q .. 'x:g:' .. name, 'n', 'first')
  local n, first = (known[1] or 0) + 1, tonumber(known[2] or now)
  local is_full = n >= tonumber(size)
  local flush = is_full and now or math.min(now + grace, first + delay)
  call('HSET', q .. 'x:g:' .. name, 'n', n, 'first', text(first))
  call('ZADD', q .. 'x:groups', score(flush), name)
  if n == 1 or is_full then ring(queue) end
end

-- Moves a schedule from one tick to the next; false if it is not as the caller knows it, or too early.
local function step()
  if take() == '' then return true end
  local name, from, to = take(), take(), take()
  if call('HGET', base .. 'x:schedules', name) ~= from then return false end
  if tonumber(string.match(from, '^%-?%d+')) > now then return false end
  call('HSET', base .. 'x:schedules', name, to)
  return true
end
