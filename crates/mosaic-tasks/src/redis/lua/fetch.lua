-- Reads tasks. 'after' for those that come after them, 'all' for results and what came before, or nothing; number; of each:
-- queue (empty for "look for it") and id. Returns the time and the tasks.
local want, n = take(), tonumber(take())

local function resolve(queue, name)
  if call('EXISTS', task_key(queue, name)) == 1 then return name end
  if #name == 32 then
    local long = string.gsub(name, '^(%x%x%x%x%x%x%x%x)(%x%x%x%x)(%x%x%x%x)(%x%x%x%x)(%x+)$', '%1-%2-%3-%4-%5')
    if call('EXISTS', task_key(queue, long)) == 1 then return long end
  end
  return call('HGET', of(queue) .. 'x:ids', name)
end

local all
local function find(name)
  all = all or queues()
  for _, queue in ipairs(all) do
    local id = resolve(queue, name)
    if id and call('EXISTS', task_key(queue, id)) == 1 then return queue, id end
  end
end

-- Those that come after a task and do not know yet that it has succeeded.
local function successors(queue, id)
  local found = {}
  local name = name_of(queue, id)
  for _, later in ipairs(call('LRANGE', of(queue) .. 'x:after:' .. id, 0, -1)) do
    local later_queue, later_id = string.match(later, '^(%S+) (.*)$')
    if call('HGET', of(later_queue) .. 'x:earlier:' .. later_id, name) == '-' then
      found[#found + 1] = stored(later_queue, later_id) or nil
    end
  end
  return found
end

local function rest(queue, id)
  if want == 'after' then return successors(queue, id) end
  if want == 'all' then
    return { call('HGET', task_key(queue, id), 'result'), call('HGETALL', of(queue) .. 'x:earlier:' .. id) }
  end
end

local found = {}
for index = 1, n do
  local queue, id = take(), take()
  if queue == '' then queue, id = find(id) end
  found[index] = queue and id and stored(queue, id, rest(queue, id)) or false
end
return { text(now), found }
