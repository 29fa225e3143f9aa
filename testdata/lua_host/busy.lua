-- A program that never rests and can prove that it lost nothing.
--
--     lua_host busy.lua SECONDS [STOP_FILE]
--
-- It ends after SECONDS, or as soon as STOP_FILE exists, with exit code 0. About every 20 ms it prints one line:
--
--     seq N sum S ult B reverse R note T
--
--   N  1, 2, 3, ... without a gap
--   S  a checksum over all steps up to N: S(0) = 0, S(n) = (S(n-1) * 31 + item(n)) mod 2^32, where
--      item(n) = (h + n) mod 2^32, h = 0 and then h = (h * 31 + byte) mod 2^32 over the bytes of the text that has the
--      numbers (n * 7 + i * i * 13) mod 1009 for i = 1..24, sorted, with a comma between two. No patched function is used for it.
--   B  math.ult(3, 3):           false;       with the fix: true
--   R  string.reverse("hpgen"):  negph;       with the fix: negph
--   T  its second result:        - (none);    with the fix: fixed:<calls counted since the fix, from 1>:<process id>
--
-- The last line is `done N S`.

local seconds = tonumber(arg[1]) or 5
local stop_file = arg[2]
local MASK = 0xffffffff

-- One coroutine lives as long as the program and holds a part of its state.
local counter = coroutine.wrap(function()
  local n = 0
  while true do
    n = n + 1
    coroutine.yield(n)
  end
end)

local function numbers(n)
  return coroutine.wrap(function()
    for i = 1, 24 do
      coroutine.yield((n * 7 + i * i * 13) % 1009)
    end
  end)
end

local function hash(text)
  local h = 0
  for i = 1, #text do
    h = (h * 31 + text:byte(i)) & MASK
  end
  return h
end

local function item(n)
  local values = {}
  for value in numbers(n) do
    values[#values + 1] = value
  end
  local comparisons = 0
  table.sort(values, function(a, b)
    comparisons = comparisons + 1
    return a < b
  end)
  assert(comparisons > 0)
  local ok, failure = pcall(error, { code = n })
  assert(not ok and failure.code == n)
  return (hash(table.concat(values, ",")) + n) & MASK
end

local function stopped()
  local file = stop_file and io.open(stop_file, "rb")
  if file then file:close() end
  return file ~= nil
end

local started = host.ticks()
local sequence, sum = 0, 0
repeat
  sequence = counter()
  local this = item(sequence)
  sum = (sum * 31 + this) & MASK
  local reversed, note = string.reverse("hpgen")
  print(("seq %d sum %d ult %s reverse %s note %s"):format(sequence, sum, math.ult(3, 3), reversed, note or "-"))

  -- Work, not sleep, for most of the time until the next line.
  local line_end = host.ticks() + 15
  repeat
    assert(item(sequence) == this)
    string.reverse("keeps the patched functions busy")
    math.ult(sequence, this)
  until host.ticks() >= line_end
  host.sleep(5)
until stopped() or host.ticks() - started >= seconds * 1000

print(("done %d %d"):format(sequence, sum))
