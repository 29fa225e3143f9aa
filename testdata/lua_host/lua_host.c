/* lua_host: a long-running program with an interpreter inside, for hpgen to patch.
 *
 *     lua_host SCRIPT ARGS...
 *
 * Runs SCRIPT with all of Lua's libraries open, its arguments in the global `arg`, and one library of ours:
 *     host.ticks()    milliseconds since Windows started
 *     host.sleep(ms)  sleeps
 * Standard output is unbuffered, so that who reads it sees each line when it is written.
 * Exit code: 0 when the script ended, 1 when it failed, 2 for wrong usage.
 */
#include <stdio.h>
#include <windows.h>

#include "lauxlib.h"
#include "lua.h"
#include "lualib.h"

static int host_ticks(lua_State *L) {
    lua_pushinteger(L, (lua_Integer)GetTickCount());
    return 1;
}

static int host_sleep(lua_State *L) {
    Sleep((DWORD)luaL_checkinteger(L, 1));
    return 0;
}

static const luaL_Reg host_library[] = {
    {"ticks", host_ticks},
    {"sleep", host_sleep},
    {NULL, NULL},
};

static void push_arguments(lua_State *L, int argc, char **argv) {
    lua_createtable(L, argc, 0);
    for (int i = 1; i < argc; i++) {
        lua_pushstring(L, argv[i]);
        lua_rawseti(L, -2, i - 1);
    }
    lua_setglobal(L, "arg");
}

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: lua_host SCRIPT ARGS...\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IONBF, 0);
    lua_State *L = luaL_newstate();
    if (L == NULL) {
        fprintf(stderr, "lua_host: out of memory\n");
        return 1;
    }
    luaL_openlibs(L);
    luaL_newlib(L, host_library);
    lua_setglobal(L, "host");
    push_arguments(L, argc, argv);
    int failed = luaL_dofile(L, argv[1]);
    if (failed) {
        fprintf(stderr, "lua_host: %s\n", lua_tostring(L, -1));
    }
    lua_close(L);
    return failed ? 1 : 0;
}
