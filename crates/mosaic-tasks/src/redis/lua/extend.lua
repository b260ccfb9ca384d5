-- Keeps leases. Length, number; of each: queue, id, fence. Returns a letter for each: kept, cancelled, lost.
local lease, answers = now + take(), {}
for index = 1, tonumber(take()) do
  local queue, id, fence = take(), take(), take()
  local it = call('HMGET', task_key(queue, id), 'state', 'xf', 'xc', 'xv')
  if it[1] == 'active' and it[2] == fence then
    call('HSET', task_key(queue, id), 'xv', (it[4] or 0) + 1)
    call('ZADD', of(queue) .. 'lease', score(lease), id)
    answers[index] = it[3] and 'c' or 'k'
  else
    answers[index] = 'l'
  end
end
return table.concat(answers)
