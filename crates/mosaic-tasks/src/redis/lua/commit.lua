-- Carries out what the rules decided, if nothing has changed meanwhile, and takes reports of plain successes.
-- Step of a schedule; number; changes; number; of each report: queue, id, fence, result.
-- Returns 0 if something has changed; 2 and the positions of reports that need the rules; 1 and who was taken; 3 if the
-- schedule's step is not to be taken.
local CHANGED = { 'queue', 'id', 'expect', 'state', 'msg', 'x', 'xf', 'xe', 'xd', 'xp', 'xl', 'xr', 'xn', 'xw', 'xc',
  'time', 'is_next', 'group', 'unique_key', 'xu' }
local ARGUMENTS = {
  K = CHANGED,
  N = CHANGED,
  G = { 'queue', 'id', 'expect' },
  A = { 'queue', 'id', 'expect', 'after' },
  E = { 'queue', 'id', 'earlier', 'value' },
  R = { 'queue', 'id', 'result' },
  C = { 'queue', 'n_processed', 'n_failed' },
  H = { 'queue', 'name', 'grace', 'delay', 'size' },
  X = { 'id' },
}

local step_at = position
local is_stepping = ARGV[position + 1] ~= ''
position = position + (is_stepping and 4 or 1)

local changes = {}
for _ = 1, tonumber(take()) do
  local what = take()
  local change = { what = what }
  for _, name in ipairs(ARGUMENTS[what]) do change[name] = take() end
  changes[#changes + 1] = change
end

local function is_as_expected(change)
  if change.what == 'N' then
    local key = change.unique_key
    return call('EXISTS', task_key(change.queue, change.id)) == 0 and (key == '' or not holder(base .. 'unique:' .. key))
  end
  if not change.expect or change.expect == '*' then return true end
  return version(change.queue, change.id) == change.expect
end

for _, change in ipairs(changes) do
  if not is_as_expected(change) then return { 0 } end
end

local reports, need_rules = {}, {}
local reported = {}
local NOTHING = {}
for index = 1, tonumber(take()) do
  local queue, id, fence, result = take(), take(), take(), take()
  local it = call('HMGET', task_key(queue, id), 'state', 'xf', 'xr', 'xm')
  local is_held = it[1] == 'active' and it[2] == fence and not reported[queue .. ' ' .. id]
  if is_held then
    reported[queue .. ' ' .. id] = true
    local more = it[4] and read(queue, id) or NOTHING
    reports[index] = { queue = queue, id = id, result = result, retention = it[3], more = more }
    if not it[3] or more.xa then need_rules[#need_rules + 1] = index end
  else
    reports[index] = false
  end
end
if #need_rules > 0 then return { 2, need_rules } end

position, step_at = step_at, position
if not step() then return { 3 } end

local function save(change)
  local queue, id = change.queue, change.id
  local before = change.what == 'K' and read(queue, id) or {}
  local after = {}
  for _, name in ipairs(CHANGED) do
    if change[name] ~= '' then after[name] = change[name] end
  end
  if after.xp == '0' then after.xp = nil end
  if after.xd == after.xe then after.xd = nil end
  if after.unique_key and change.what == 'N' then after.unique_key = base .. 'unique:' .. after.unique_key end
  local stays = before.state == after.state
  if before.state and not stays then unlink(queue, id, before) end
  if before.unique_key and not after.unique_key then let_go(before.unique_key, id) end
  if before.state then
    call('HDEL', task_key(queue, id), 'xp', 'xd', 'xl', 'xn', 'xw', 'xc', 'xu', 'group', 'unique_key')
    if after.state ~= 'pending' then call('HDEL', task_key(queue, id), 'pending_since') end
  end
  if before.unique_key and after.unique_key then after.unique_key = before.unique_key end
  register(queue)
  write(queue, id, {
    state = after.state, msg = after.msg, x = after.x, xv = (before.xv or 0) + 1, xf = after.xf, xe = after.xe,
    xd = after.xd, xp = after.xp, xl = after.xl, xr = after.xr, xn = after.xn, xw = after.xw, xc = after.xc,
    xu = after.xu, group = after.group, unique_key = after.unique_key,
  })
  if change.what == 'N' and after.unique_key then hold(after.unique_key, id, after.xu) end
  if stays and after.state == 'active' then
    call('ZADD', of(queue) .. 'lease', score(after.time), id)
  elseif not stays or after.state ~= 'pending' then
    link(queue, id, after, after.time, after.is_next ~= nil)
  end
end

local CARRY_OUT = {
  K = save,
  N = save,
  G = function(change) remove(change.queue, change.id, read(change.queue, change.id)) end,
  A = function(change)
    local key = task_key(change.queue, change.id)
    call('HSET', key, 'xa', 1, 'xm', 1, 'xv', (call('HGET', key, 'xv') or 0) + 1)
    call('RPUSH', of(change.queue) .. 'x:after:' .. change.id, change.after)
  end,
  E = function(change)
    local key = task_key(change.queue, change.id)
    if call('EXISTS', key) == 0 then return end
    call('HSET', key, 'xb', 1, 'xm', 1)
    call('HSET', of(change.queue) .. 'x:earlier:' .. change.id, change.earlier, change.value)
  end,
  R = function(change)
    local key = task_key(change.queue, change.id)
    if call('EXISTS', key) == 1 then call('HSET', key, 'result', change.result) end
  end,
  C = function(change) count(change.queue, tonumber(change.n_processed), tonumber(change.n_failed)) end,
  H = function(change) gather(change.queue, change.name, change.grace, change.delay, change.size) end,
  X = function(change) call('PUBLISH', base .. 'cancel', change.id) end,
}
for _, change in ipairs(changes) do CARRY_OUT[change.what](change) end

-- Plain successes: nobody waits for them, and how long they are kept is known.
local ended, taken = {}, {}
for index, report in ipairs(reports) do
  taken[index] = report and '1' or '0'
  if report then
    local queue, id, more = report.queue, report.id, report.more
    local q = of(queue)
    local some = ended[queue] or { ids = {}, keys = {} }
    ended[queue] = some
    some.ids[#some.ids + 1] = id
    call('LREM', q .. 'active', -1, id)
    if more.xl then free_turn(queue, id, more.xl) end
    if more.unique_key then let_go(more.unique_key, id) end
    if report.retention == '0' then
      some.keys[#some.keys + 1] = q .. 't:' .. id
      if more.xb then some.keys[#some.keys + 1] = q .. 'x:earlier:' .. id end
      forget_name(queue, id)
    else
      local msg = call('HGET', q .. 't:' .. id, 'msg') .. 'h' .. varint(math.floor(now / 1000000))
      call('HSET', q .. 't:' .. id, 'state', 'completed', 'msg', msg, 'result', report.result, 'xv', (more.xv or 0) + 1)
      if more ~= NOTHING then call('HDEL', q .. 't:' .. id, 'unique_key', 'xu', 'xc') end
      call('ZADD', q .. 'completed', score(now + report.retention), id)
    end
  end
end
for queue, some in pairs(ended) do
  in_pieces(some.ids, function(...) call('ZREM', of(queue) .. 'lease', ...) end)
  in_pieces(some.keys, function(...) call('DEL', ...) end)
  count(queue, #some.ids, 0)
end
return { 1, table.concat(taken) }
