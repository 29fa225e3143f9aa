/* sqlite_host: a long-running program with a database inside, for hpgen to patch.
 *
 *     sqlite_host SECONDS [STOP_FILE]
 *
 * It ends after SECONDS, or as soon as STOP_FILE exists, with exit code 0 (1 for a failure, 2 for wrong usage).
 * About every 20 ms it does a step: it inserts into an in-memory database and prints one line:
 *
 *     seq N rows R sum S quarter Q char C
 *
 *   N  1, 2, 3, ... without a gap; read from a cursor that stays open for the whole run
 *   R  the rows of item joined to tag: 2 * N
 *   S  a checksum over these rows, read anew in every step: s = 0, and for each item i = 1..N, once for each of its two tags,
 *      s = (s * 31 + (i * 7919) mod 10007 + length of the tag) mod 2^32. The tags of i are "number", and "even" or "odd", in this order.
 *      No patched function is used for it.
 *   Q  strftime('%q', 2026-01-15 and N months):  -   (NULL);  with the fix: Q1, Q2, Q3 or Q4, which is 'Q' (N mod 12) div 3 + 1
 *   C  hex(char(1114111 + N)):                   EFBFBD;      with the fix: 3F
 *
 * The last line is `done N R S`. Statements, a cursor and (but for a moment in every 64th step) a transaction stay open throughout.
 */
#include <stdio.h>
#include <stdlib.h>
#include <windows.h>

#include "sqlite3.h"

typedef struct {
    sqlite3_int64 rows;
    unsigned int sum;
} State;

static sqlite3 *db;

static void fail(const char *what) {
    fprintf(stderr, "sqlite_host: %s: %s\n", what, db ? sqlite3_errmsg(db) : "no database");
    exit(1);
}

static void execute(const char *sql) {
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK) {
        fail(sql);
    }
}

static sqlite3_stmt *prepare(const char *sql) {
    sqlite3_stmt *statement;
    if (sqlite3_prepare_v2(db, sql, -1, &statement, NULL) != SQLITE_OK) {
        fail(sql);
    }
    return statement;
}

/* Runs a statement that returns no row, and makes it ready for its next run. */
static void run(sqlite3_stmt *statement) {
    if (sqlite3_step(statement) != SQLITE_DONE) {
        fail(sqlite3_sql(statement));
    }
    sqlite3_reset(statement);
}

static void insert_item(sqlite3_stmt *item, sqlite3_stmt *tag, int n) {
    sqlite3_bind_int(item, 1, n);
    sqlite3_bind_int(item, 2, (int)((sqlite3_int64)n * 7919 % 10007));
    run(item);
    const char *names[] = {"number", n % 2 == 0 ? "even" : "odd"};
    for (int i = 0; i < 2; i++) {
        sqlite3_bind_int(tag, 1, n);
        sqlite3_bind_text(tag, 2, names[i], -1, SQLITE_STATIC);
        run(tag);
    }
}

/* Inserts a row that must not stay. */
static void insert_and_undo(sqlite3_stmt *item) {
    execute("SAVEPOINT undone");
    sqlite3_bind_int(item, 1, -1);
    sqlite3_bind_int(item, 2, -1);
    run(item);
    execute("ROLLBACK TO undone; RELEASE undone");
}

static State read_state(sqlite3_stmt *join) {
    State state = {0, 0};
    int result;
    while ((result = sqlite3_step(join)) == SQLITE_ROW) {
        state.rows++;
        state.sum = state.sum * 31 + (unsigned)sqlite3_column_int(join, 0) + (unsigned)sqlite3_column_int(join, 1);
    }
    if (result != SQLITE_DONE) {
        fail("join");
    }
    sqlite3_reset(join);
    return state;
}

static int stopped(const char *stop_file) {
    return stop_file != NULL && GetFileAttributesA(stop_file) != INVALID_FILE_ATTRIBUTES;
}

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: sqlite_host SECONDS [STOP_FILE]\n");
        return 2;
    }
    const DWORD run_time = (DWORD)(atof(argv[1]) * 1000);
    const char *stop_file = argc > 2 ? argv[2] : NULL;
    setvbuf(stdout, NULL, _IONBF, 0);

    if (sqlite3_open(":memory:", &db) != SQLITE_OK) {
        fail("open");
    }
    execute("CREATE TABLE item (id INTEGER PRIMARY KEY, value INTEGER NOT NULL);"
            "CREATE TABLE tag (item INTEGER NOT NULL REFERENCES item (id), name TEXT NOT NULL);"
            "CREATE INDEX tag_of_item ON tag (item);"
            "BEGIN");
    sqlite3_stmt *item = prepare("INSERT INTO item (id, value) VALUES (?, ?)");
    sqlite3_stmt *tag = prepare("INSERT INTO tag (item, name) VALUES (?, ?)");
    sqlite3_stmt *join = prepare("SELECT item.value, length(tag.name) FROM item JOIN tag ON tag.item = item.id "
                                 "ORDER BY item.id, tag.rowid");
    sqlite3_stmt *cursor = prepare("WITH RECURSIVE step (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM step) "
                                   "SELECT n, strftime('%q', '2026-01-15', '+' || n || ' months'), "
                                   "hex(char(1114111 + n)) FROM step");

    const DWORD started = GetTickCount();
    int sequence;
    State state;
    do {
        const DWORD line_end = GetTickCount() + 15;
        if (sqlite3_step(cursor) != SQLITE_ROW) {
            fail("cursor");
        }
        sequence = sqlite3_column_int(cursor, 0);
        const char *quarter = (const char *)sqlite3_column_text(cursor, 1);
        insert_item(item, tag, sequence);
        insert_and_undo(item);
        state = read_state(join);
        printf("seq %d rows %lld sum %u quarter %s char %s\n", sequence, state.rows, state.sum, quarter ? quarter : "-",
               sqlite3_column_text(cursor, 2));
        if (sequence % 64 == 0) {
            execute("COMMIT; BEGIN");
        }
        /* Work, not sleep, for most of the time until the next line. */
        do {
            const State again = read_state(join);
            if (again.rows != state.rows || again.sum != state.sum) {
                fail("state changed");
            }
        } while ((int)(GetTickCount() - line_end) < 0);
        Sleep(5);
    } while (!stopped(stop_file) && GetTickCount() - started < run_time);

    printf("done %d %lld %u\n", sequence, state.rows, state.sum);
    sqlite3_finalize(cursor);
    sqlite3_finalize(join);
    sqlite3_finalize(tag);
    sqlite3_finalize(item);
    execute("COMMIT");
    sqlite3_close(db);
    return 0;
}
