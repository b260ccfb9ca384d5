-- Adds tasks that come after no others. Step of a schedule; number; of each: queue, id, msg, x, when, priority, limit,
-- retention, deadline, group, unique. Returns pairs of the position of a duplicate and who is there.
local function due_at(when)
  local sign, number = string.sub(when, 1, 1), string.sub(when, 2)
  if sign == '+' then return text(math.min(now + number, 9007199254740991)) end
  if sign == '@' then return number end
  return text(now)
end

local lanes = {}
local function add(queue, id, msg, x, when, priority, limit, retention, deadline, group)
  local due, enqueued = due_at(when), text(now)
  local task = { state = 'pending', msg = msg, x = x, xv = 1, xe = enqueued, xr = retention, xl = limit, xn = deadline }
  if due ~= enqueued then task.xd = due end
  if priority ~= '0' then task.xp = priority end
  register(queue)
  if group ~= '' then
    local grace, delay, size, name = string.match(group, '^(%d+) (%d+) (%d+) (.*)$')
    task.state, task.xw, task.group = 'aggregating', 'group', name
    gather(queue, name, grace, delay, size)
  elseif tonumber(due) > now then
    task.state = 'scheduled'
  else
    task.pending_since = enqueued .. '000'
    local lane = queue .. ' ' .. priority
    lanes[lane] = lanes[lane] or { queue = queue, priority = tonumber(priority), ids = {} }
    table.insert(lanes[lane].ids, id)
  end
  return task, due
end

if not step() then return false end
local duplicates = {}
for index = 1, tonumber(take()) do
  local queue, id, msg, x, when = take(), take(), take(), take(), take()
  local priority, limit, retention, deadline, group, unique = take(), take(), take(), take(), take(), take()
  local span, key, there
  if unique ~= '' then
    span, key = string.match(unique, '^(%d+) (.*)$')
    key = base .. 'unique:' .. key
    there = holder(key)
  end
  if there and there ~= id then
    duplicates[#duplicates + 1] = index
    duplicates[#duplicates + 1] = there
  elseif call('EXISTS', task_key(queue, id)) == 0 then
    local task, due = add(queue, id, msg, x, when, priority, limit, retention, deadline, group)
    if key then
      task.unique_key, task.xu = key, text(math.min(now + span, 9007199254740991))
      hold(key, id, task.xu)
    end
    write(queue, id, task)
    if task.state ~= 'pending' then link(queue, id, task, task.state == 'scheduled' and due or task.xe) end
  end
end
for _, lane in pairs(lanes) do push(lane.queue, lane_of(lane.priority), lane.priority, lane.ids, false) end
return duplicates
