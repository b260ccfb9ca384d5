-- Says who holds unique keys. Number, keys. Returns the time and an id for each, false for nobody.
local held = {}
for index = 1, tonumber(take()) do held[index] = holder(base .. 'unique:' .. take()) end
return { text(now), held }
