-- Says how queues stand. Name of one, or nothing for all that have tasks, had some in the last days, or are paused.
-- Returns of each: name, paused, counts (pending, scheduled, active, retry, completed, archived, waiting), microseconds that
-- its oldest pending task waits, attempts and failures of today.
local one = take()
local found = {}

local function waited(queue, key)
  local id = call('LINDEX', key, -1)
  local it = id and call('HMGET', task_key(queue, id), 'xd', 'xe', 'pending_since')
  if not it then return 0 end
  local due = it[1] or it[2] or (it[3] and string.sub(it[3], 1, -4)) or now
  return math.max(now - tonumber(due), 0)
end

for _, queue in ipairs(one ~= '' and { one } or queues()) do
  local q = of(queue)
  local n_pending, oldest = call('LLEN', q .. 'pending'), waited(queue, q .. 'pending')
  for _, lane in ipairs(call('ZRANGE', q .. 'x:lanes', 0, -1)) do
    local key = lane_key(queue, lane)
    n_pending, oldest = n_pending + call('LLEN', key), math.max(oldest, waited(queue, key))
  end
  local counts = { n_pending, call('ZCARD', q .. 'scheduled'), call('LLEN', q .. 'active'), call('ZCARD', q .. 'retry'),
    call('ZCARD', q .. 'completed'), call('ZCARD', q .. 'archived'), call('ZCARD', q .. 'x:waiting') }
  local n_tasks = 0
  for _, n in ipairs(counts) do n_tasks = n_tasks + n end
  local is_paused = call('EXISTS', q .. 'paused')
  if n_tasks > 0 or is_paused == 1 or call('EXISTS', q .. 'x:seen') == 1 then
    local day = today()
    found[#found + 1] = { queue, is_paused, counts, text(oldest), tonumber(call('GET', q .. 'processed:' .. day) or 0),
      tonumber(call('GET', q .. 'failed:' .. day) or 0) }
  end
end
return found
