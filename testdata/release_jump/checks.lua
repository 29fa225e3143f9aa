-- What the notes and bug lists of Lua 5.4's releases say was mended, and what must not change with it. Each check gives a line of text; none
-- keeps anything. `cargo xtask release-jump` compares the answers of two releases, and of the old one while it is patched.
--
--     lua_host checks.lua SECONDS STOP_FILE
--
-- Prints `check NAME: ANSWER` for each, then `round N`, again and again, until the time is over or the file is there.

local function outcome(f, ...)
    local results = table.pack(pcall(f, ...))
    for i = 1, results.n do
        results[i] = tostring(results[i])
    end
    return table.concat(results, " ", 1, results.n)
end

local function loaded(text)
    local f, message = load(text, "=text")
    return f and outcome(f) or "refused " .. message
end

-- A message without what differs from run to run.
local function plain(text)
    return (text:gsub("0x%x+", "address"):gsub("%s+", " "))
end

local checks = {}
local function check(name, f)
    checks[#checks + 1] = { name, f }
end

check("name of a local _ENV's field", function()
    return loaded "local _ENV = {}; return a.b"
end)
check("name of an upvalue _ENV's field", function()
    return loaded "local _ENV <const> = {}; return (function() return a.b end)()"
end)
check("name of a field of what is called _ENV", function()
    return loaded "local t = {}; return t.a.b"
end)
check("name with a string in a local", function()
    return loaded "local _ENV = { x = 1 }; local s = 'q'; return x[s].r"
end)
check("comparison as an index", function()
    return loaded "local x, t = 10, { [true] = 'yes', [false] = 'no' }; return t[x == 10], t[x ~= 10], t[x > 10 and x < 5]"
end)
check("comparison as an index of a constant", function()
    return loaded "local t <const> = { [true] = 'yes' }; local function f(a, b) return t[a == b], t[not a] end; return f(1, 1)"
end)
check("comparison that is indexed", function()
    return loaded "return ('x'):rep(3) == 'xxx' and ('y')[1 == 1]"
end)
check("error in a message handler", function()
    return plain(tostring(select(2, xpcall(error, function(m) error(m) end, "inner"))))
end)
check("error object in a message handler", function()
    local object = setmetatable({}, { __tostring = function() return "the object" end })
    return tostring(select(2, xpcall(error, function() error(object) end, "inner")))
end)
check("recursion without end", function()
    local function f() return 1 + f() end
    return plain((select(2, pcall(f)):gsub("\n.*", "")))
end)
check("recursion without end in a handler", function()
    local function f(m) return f(m) .. "" end
    return plain(tostring(select(2, xpcall(error, f, "inner")))):sub(1, 60)
end)
check("recursion of C without end", function()
    local function f() return (string.gsub("a", "a", f)) end
    return plain(select(2, pcall(f))):sub(1, 60)
end)
check("pattern too complex, twice", function()
    local next_match = string.gmatch(("a"):rep(300), ("a?"):rep(210))
    return outcome(next_match):sub(1, 40) .. " | " .. outcome(next_match):sub(1, 40)
end)
check("pattern too complex in one of several", function()
    local next_match = string.gmatch(("a"):rep(250), ("(a?)"):rep(4) .. ("a?"):rep(200))
    return outcome(next_match):sub(1, 80) .. " | " .. outcome(next_match):sub(1, 80)
end)
check("bytes that are no UTF-8", function()
    local answers = {}
    for _, text in ipairs { "\xFE\x80\x80\x80\x80\x80\x80", "\xFF\x80\x80\x80\x80\x80\x80\x80", "\xFD\xBF\xBF\xBF\xBF\xBF", "\xC0\x80" } do
        answers[#answers + 1] = outcome(utf8.len, text, 1, -1, true) .. " " .. outcome(utf8.codepoint, text, 1, 1, true)
    end
    return table.concat(answers, " | ")
end)
check("the codes of bytes that are no UTF-8", function()
    return outcome(function()
        local sum = 0
        for _, code in utf8.codes("a\xFE\x80\x80\x80\x80\x80\x80", true) do sum = sum + code end
        return sum
    end)
end)
check("closing a coroutine with an error", function()
    local function thread()
        local guard <close> = setmetatable({}, { __close = function() error("closing", 0) end })
        coroutine.yield()
    end
    local co = coroutine.create(thread)
    coroutine.resume(co)
    return outcome(coroutine.close, co) .. " " .. coroutine.status(co) .. " " .. outcome(coroutine.close, co)
end)
check("a coroutine that failed", function()
    local co = coroutine.create(function() local t; return t.x end)
    return outcome(coroutine.resume, co) .. " | " .. outcome(coroutine.resume, co)
end)
check("coroutines in coroutines without end", function()
    local function f() return coroutine.wrap(f)() end
    return plain(select(2, pcall(f))):sub(1, 60)
end)
check("too many local variables", function()
    local names = {}
    for i = 1, 201 do names[i] = "v" .. i end
    return loaded("local " .. table.concat(names, ","))
end)
check("a chain of __call", function()
    local f = function(...) return select("#", ...) end
    for _ = 1, 20 do f = setmetatable({}, { __call = f }) end
    return outcome(f)
end)
check("a long chain of __call", function()
    local f = function(...) return select("#", ...) end
    for _ = 1, 300 do f = setmetatable({}, { __call = f }) end
    return outcome(f)
end)
check("__newindex that is a table", function()
    local store = {}
    local t = setmetatable({}, { __newindex = setmetatable({}, { __newindex = store }) })
    for i = 1, 50 do t[i] = { i } end
    collectgarbage("step")
    return #store .. " " .. store[50][1]
end)
check("garbage in generations", function()
    collectgarbage("generational")
    local kept = {}
    for i = 1, 2000 do kept[i % 50] = setmetatable({ ("x"):rep(i % 20) }, { __mode = "k" }) end
    collectgarbage("incremental")
    collectgarbage()
    return #kept .. " " .. #kept[49][1]
end)
check("a broken precompiled chunk", function()
    local chunk = string.dump(function(a) return a + 1, "text" end, true)
    local refused = 0
    for cut = 1, #chunk - 1 do refused = refused + (load(chunk:sub(1, cut), "=x", "b") and 0 or 1) end
    return refused == #chunk - 1 and "all refused" or "some loaded"
end)
check("the name in a chunk's message", function()
    return outcome(load, function() error("reader", 0) end) .. " | " .. outcome(load("\27Lua", "=x") or function() return "none" end)
end)
check("work", function()
    local sum, words = 0, {}
    for i = 1, 300 do words[i] = string.format("%05d-%s", (i * 7919) % 10007, ("ab"):rep(i % 5)) end
    table.sort(words)
    for i, word in ipairs(words) do sum = (sum * 31 + #word * i + word:byte(1)) % 1000003 end
    local co = coroutine.wrap(function() for i = 1, 20 do coroutine.yield(i * i) end end)
    for _ = 1, 20 do sum = sum + co() end
    return sum .. " " .. select(2, string.gsub(table.concat(words), "%d+", "%0")) .. " " .. tostring(math.ult(1, -1))
end)

local seconds, stop_file = tonumber(arg[1]), arg[2]
local start, round = host.ticks(), 0
local function is_over()
    local stop = stop_file and io.open(stop_file)
    if stop then stop:close() end
    return stop ~= nil or host.ticks() - start > seconds * 1000
end
repeat
    for _, case in ipairs(checks) do
        local done, answer = pcall(case[2])
        print("check " .. case[1] .. ": " .. plain((done and "" or "FAILED ") .. tostring(answer)))
        host.sleep(1)
    end
    round = round + 1
    print("round " .. round)
until is_over()
