-- Reads the first of a group that has come to its time. Queue, name, most bytes. Returns the time and the tasks; a group
-- without members is forgotten.
local queue, name, most = take(), take(), tonumber(take())
local q = of(queue)
local flush = call('ZSCORE', q .. 'x:groups', name)
if not flush or micros(flush) > now then return { text(now), {} } end
local members, n_bytes, from = {}, 0, 0
while n_bytes <= most do
  local ids = call('ZRANGE', q .. 'g:' .. name, from, from + 499)
  if #ids == 0 then break end
  from = from + #ids
  for _, id in ipairs(ids) do
    local task = n_bytes <= most and stored(queue, id)
    if task then
      members[#members + 1] = task
      n_bytes = n_bytes + #task[5]
    end
  end
end
if #members == 0 then
  call('ZREM', q .. 'x:groups', name)
  call('DEL', q .. 'x:g:' .. name, q .. 'g:' .. name)
  call('SREM', q .. 'groups', name)
end
return { text(now), members }
