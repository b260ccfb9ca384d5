-- Finds the ids of a state that come after one, the lowest first, in one window of where they are kept. Queue, state, after,
-- limit, window, length of a window. Returns pairs of the name and the id, and whether there are further windows.
local queue, state, after, limit, window, length =
  take(), take(), take(), tonumber(take()), tonumber(take()), tonumber(take())
local q = of(queue)
local KEPT = { scheduled = 'scheduled', retry = 'retry', completed = 'completed', archived = 'archived', waiting = 'x:waiting' }
local skip, left, has_more = window * length, length, false
local found = {}

local function take_from(ids)
  for _, id in ipairs(ids) do
    local name = name_of(queue, id)
    if name > after then found[#found + 1] = { name, id } end
  end
end

local function look_in(key, size, range)
  local n = call(size, key)
  if skip >= n then
    skip = skip - n
    return
  end
  local until_rank = math.min(skip + left, n)
  for first = skip, until_rank - 1, 1000 do
    take_from(call(range, key, first, math.min(first + 999, until_rank - 1)))
  end
  left = left - (until_rank - skip)
  skip = 0
  if until_rank < n then has_more = true end
end

if state == 'pending' then
  local keys = { q .. 'pending' }
  for _, lane in ipairs(call('ZRANGE', q .. 'x:lanes', 0, -1)) do keys[#keys + 1] = lane_key(queue, lane) end
  for _, key in ipairs(keys) do
    if left > 0 then look_in(key, 'LLEN', 'LRANGE') else has_more = has_more or call('EXISTS', key) == 1 end
  end
elseif state == 'active' then
  look_in(q .. 'active', 'LLEN', 'LRANGE')
else
  look_in(q .. KEPT[state], 'ZCARD', 'ZRANGE')
end
table.sort(found, function(a, b) return a[1] < b[1] end)
for index = #found, limit + 1, -1 do found[index] = nil end
return { found, has_more and 1 or 0 }
