/* Lua, kept busy; see ../driver.h. */
#include "../driver.h"

#include "lauxlib.h"
#include "lua.h"
#include "lualib.h"

static const char script[] =
    "local out = {}\n"
    "local function put(...) for _, v in ipairs{...} do out[#out + 1] = tostring(v) end end\n"
    "for i = 1, 30 do put(string.format('%5.2f %x %q', i / 7, i * 255, 'a\\n' .. i)) end\n"
    "local t = setmetatable({}, {__index = function(_, k) return k * 2 end, __concat = function(a, b) return 'cat' end})\n"
    "put(t[21], t .. 'x', select('#', table.unpack({1, 2, nil, 4}, 1, 4)), #'\\u{20AC}', 7 // 2, -7 % 3, 2^10, 3 | 8)\n"
    "local co = coroutine.wrap(function(a) for i = 1, 5 do a = coroutine.yield(a * i) end return 'end' end)\n"
    "for i = 1, 6 do put(co(i)) end\n"
    "for k, v in string.gmatch('a=1, b=2, c=3', '(%w+)=(%w+)') do put(k, v) end\n"
    "put(string.gsub('hello world', 'o', {o = '0'}), utf8.char(8364, 128512), string.pack('<i4z', -5, 'x'))\n"
    "put(pcall(error, {1}) and 'yes' or 'no', pcall(function() local x = nil; return x.y end))\n"
    "put(select(2, pcall(function() return 1 < 'x' end)), select(2, pcall(string.rep, 'x', -1)))\n"
    "local a <const>, b <close> = 5, setmetatable({}, {__close = function() put('closed') end})\n"
    "goto skip\n"
    "put('never')\n"
    "::skip::\n"
    "local list = {} for i = 1, 200 do list[i] = (i * 7919) % 211 end table.sort(list) put(table.concat(list, ','))\n"
    "put(load('return ...', 'chunk', 't', {})(9), load('x ='), math.tointeger(3.0), math.type(1), string.rep('ab', 3, '-'))\n"
    "put(tostring(1e15), 0x7fffffffffffffff + 1, 1 // 0.0, string.format('%a', 1.5), ('x'):byte(), #table.pack(next({})))\n"
    "return table.concat(out, '|') .. a\n";

/* Runs a text; what it returns, or the message, is on the top of the stack. */
static int run(lua_State *lua, const char *text) {
    int status = luaL_loadbuffer(lua, text, strlen(text), "=text");
    return status != LUA_OK ? status : lua_pcall(lua, 0, 1, 0);
}

static void regression(void) {
    static const char *const wrong[] = {"x =", "for", "return 'a", "goto nowhere", "local x <const> = 1; x = 2", "return 1 .. {}",
                                        "error('told')", "local function f() return f() + 1 end return f()", "break"};
    lua_State *lua = luaL_newstate();
    luaL_openlibs(lua);
    note_number(run(lua, script));
    note_text(lua_tostring(lua, -1));
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        note_number(run(lua, wrong[i]));
        note_text(lua_tostring(lua, -1));
        lua_settop(lua, 0);
    }
    lua_close(lua);
}

/* A global variable where the table of globals is a number known to the compiler. */
static const char *constant_environment(void) {
    lua_State *lua = luaL_newstate();
    int status = run(lua, "local _ENV <const> = 11; X = 'hi'");
    const char *message = lua_tostring(lua, -1);
    const char *text = status == LUA_OK                                      ? "accepted"
                       : message != NULL && strstr(message, "number") != NULL ? "index-a-number"
                                                                              : "other-error";
    lua_close(lua);
    return text;
}

/* An error in a function, whose handler looks at all that is on the stack for that function. What is left there with each error is
 * missing when errors come while others are handled. */
static const char *left_on_stack(void) {
    static const char text[] =
        "local found = 'leaves-nothing'\n"
        "local function look(message)\n"
        "  for i = 1, 100 do\n"
        "    local name, value = debug.getlocal(2, i)\n"
        "    if value == 'attempt to perform arithmetic on a nil value (local \\'none\\')' then found = 'leaves-message' end\n"
        "  end\n"
        "end\n"
        "xpcall(function() local none; return none + 1 end, look)\n"
        "return found\n";
    static char answer[40];
    lua_State *lua = luaL_newstate();
    luaL_openlibs(lua);
    int status = run(lua, text);
    snprintf(answer, sizeof answer, "%s", status == LUA_OK ? lua_tostring(lua, -1) : "error");
    lua_close(lua);
    return answer;
}

static const char *probe(const char *name) {
    if (strcmp(name, "left-on-stack") == 0) {
        return left_on_stack();
    }
    return strcmp(name, "constant-environment") == 0 ? constant_environment() : "unknown";
}
