-- 'pause' or 'resume' with a queue; 'declare' with owner, number, and of each schedule name, rule, tick; 'schedules'.
-- A schedule is stored as tick, owner and rule, a line each.
local what = take()
local key = base .. 'x:schedules'
if what == 'pause' then
  local queue = take()
  call('SADD', base .. 'queues', queue)
  call('SET', of(queue) .. 'paused', text(math.floor(now / 1000000)))
elseif what == 'resume' then
  local queue = take()
  call('DEL', of(queue) .. 'paused')
  ring(queue)
elseif what == 'declare' then
  local owner = take()
  local declared = {}
  for _ = 1, tonumber(take()) do
    local name = take()
    declared[name] = { take(), take() }
  end
  local stored = call('HGETALL', key)
  for index = 1, #stored, 2 do
    local name = stored[index]
    local tick, of_owner, rule = string.match(stored[index + 1], '^([^\n]*)\n([^\n]*)\n(.*)$')
    local ours = declared[name]
    if ours and rule == ours[1] then ours[2] = tick end
    if not ours and of_owner == owner then call('HDEL', key, name) end
  end
  for name, it in pairs(declared) do call('HSET', key, name, it[2] .. '\n' .. owner .. '\n' .. it[1]) end
end
return { text(now), call('HGETALL', key) }
