-- Reads tasks that have run out of time. 'leases' or 'ended', limit, how long archived ones are kept, how many ended ones are.
-- Returns the time and pairs of why ('time' or 'room') and the task.
local what, left, archived_for, most = take(), tonumber(take()), tonumber(take()), tonumber(take())
local found = {}

local function add(queue, zset, why, ids)
  for _, id in ipairs(ids) do
    local task = stored(queue, id)
    if task then
      found[#found + 1] = { why, task }
      left = left - 1
    else
      -- Removed by hand.
      call('ZREM', of(queue) .. zset, id)
      if zset == 'lease' then call('LREM', of(queue) .. 'active', -1, id) end
    end
  end
end

local function until_now(queue, zset, last)
  if left <= 0 then return 0 end
  local ids = call('ZRANGEBYSCORE', of(queue) .. zset, '-inf', score(last), 'LIMIT', 0, left)
  add(queue, zset, 'time', ids)
  return #ids
end

for _, queue in ipairs(queues()) do
  if what == 'leases' then
    until_now(queue, 'lease', now)
  else
    for zset, last in pairs({ completed = now, archived = now - archived_for }) do
      local n_gone = until_now(queue, zset, last)
      local n_over = math.min(call('ZCARD', of(queue) .. zset) - n_gone - most, left)
      if n_over > 0 then add(queue, zset, 'room', call('ZRANGE', of(queue) .. zset, n_gone, n_gone + n_over - 1)) end
    end
  end
end
return { text(now), found }
