-- Adds tasks that come after no others. Step of a schedule; number; of each: queue, id, msg, x, when, retention, and nothing
-- or '1', priority, limit, deadline, group, unique. Returns pairs of the position of a duplicate and who is there.
local enqueued = text(now)

local function due_at(when)
  local sign, number = string.sub(when, 1, 1), string.sub(when, 2)
  if sign == '+' then return text(math.min(now + number, 9007199254740991)) end
  return number
end

-- Those that are pending at once, by queue and priority.
local lanes = {}
local function line_up(queue, priority, id)
  local lane = queue .. ' ' .. priority
  lanes[lane] = lanes[lane] or { queue = queue, priority = tonumber(priority), ids = {} }
  table.insert(lanes[lane].ids, id)
end

local function add_plain(queue, id, msg, x, retention)
  call('HSET', task_key(queue, id), 'state', 'pending', 'msg', msg, 'x', x, 'xe', enqueued, 'xr', retention,
    'pending_since', enqueued .. '000')
  line_up(queue, '0', id)
end

local function add(queue, id, task, when, group, key, span)
  local due = when == '' and enqueued or due_at(when)
  if due ~= enqueued then task.xd = due end
  if group ~= '' then
    local grace, delay, size, name = string.match(group, '^(%d+) (%d+) (%d+) (.*)$')
    task.state, task.xw, task.group = 'aggregating', 'group', name
    gather(queue, name, grace, delay, size)
  elseif tonumber(due) > now then
    task.state = 'scheduled'
  else
    task.state, task.pending_since = 'pending', enqueued .. '000'
    line_up(queue, task.xp or '0', id)
  end
  if key then
    task.unique_key, task.xu = key, text(math.min(now + span, 9007199254740991))
    hold(key, id, task.xu)
  end
  write(queue, id, task)
  if task.state ~= 'pending' then link(queue, id, task, task.state == 'scheduled' and due or enqueued) end
end

if not step() then return false end
local duplicates = {}
for index = 1, tonumber(take()) do
  local queue, id, msg, x, when, retention = take(), take(), take(), take(), take(), take()
  local has_more = take() ~= ''
  local priority, limit, deadline, group, unique = '0', '', '', '', ''
  if has_more then priority, limit, deadline, group, unique = take(), take(), take(), take(), take() end
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
    register(queue)
    if when == '' and not has_more then
      add_plain(queue, id, msg, x, retention)
    else
      add(queue, id, { msg = msg, x = x, xe = enqueued, xr = retention, xl = limit ~= '' and limit,
        xn = deadline ~= '' and deadline, xp = priority ~= '0' and priority }, when, group, key, span)
    end
  end
end
for _, lane in pairs(lanes) do push(lane.queue, lane_of(lane.priority), lane.priority, lane.ids, false) end
return duplicates
