/* nghttp2, kept busy: a client and a server that talk in memory; see ../driver.h. */
#include "../driver.h"

#include <sys/types.h>

#include <nghttp2/nghttp2.h>

static const uint8_t body[] = "the body of an answer, in two pieces or so";

static ssize_t read_body(nghttp2_session *session, int32_t stream, uint8_t *out, size_t size, uint32_t *flags,
                         nghttp2_data_source *source, void *user) {
    size_t *done = (size_t *)source->ptr, left = sizeof body - 1 - *done, count = left < 20 ? left : 20;
    memcpy(out, body + *done, count);
    *done += count;
    if (*done == sizeof body - 1) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    }
    return (ssize_t)count;
}

#define HEADER(name, value) {(uint8_t *)name, (uint8_t *)value, sizeof name - 1, sizeof value - 1, NGHTTP2_NV_FLAG_NONE}

static size_t sent;

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user) {
    note_number(frame->hd.type * 1000 + frame->hd.flags);
    note_number(frame->hd.stream_id);
    note_number((long long)frame->hd.length);
    if (user != NULL && frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
        static const nghttp2_nv headers[] = {HEADER(":status", "200"), HEADER("content-type", "text/plain"), HEADER("x-one", "1")};
        nghttp2_data_provider provider;
        provider.source.ptr = &sent;
        provider.read_callback = read_body;
        sent = 0;
        note_number(nghttp2_submit_response(session, frame->hd.stream_id, headers, 3, &provider));
    }
    return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_size, const uint8_t *value,
                     size_t value_size, uint8_t flags, void *user) {
    note(name, name_size);
    note(value, value_size);
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream, const uint8_t *data, size_t size, void *user) {
    note(data, size);
    return 0;
}

static int on_close(nghttp2_session *session, int32_t stream, uint32_t code, void *user) {
    note_number(stream * 100 + code);
    return 0;
}

/* All that one has to say to the other; whether it was anything. */
static int talk(nghttp2_session *from, nghttp2_session *to, size_t step) {
    const uint8_t *bytes;
    ssize_t size = nghttp2_session_mem_send(from, &bytes);
    note_number(size);
    for (ssize_t done = 0; done < size; done += (ssize_t)step) {
        ssize_t part = size - done < (ssize_t)step ? size - done : (ssize_t)step;
        note_number(nghttp2_session_mem_recv(to, bytes + done, (size_t)part));
    }
    return size > 0;
}

static nghttp2_session *session(int server) {
    nghttp2_session_callbacks *callbacks;
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
    nghttp2_session *made;
    if (server) {
        nghttp2_session_server_new(&made, callbacks, (void *)1);
    } else {
        nghttp2_session_client_new(&made, callbacks, NULL);
    }
    nghttp2_session_callbacks_del(callbacks);
    return made;
}

static void conversation(size_t step) {
    nghttp2_session *client = session(0), *server = session(1);
    nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 10}, {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 30}};
    note_number(nghttp2_submit_settings(client, 0, settings, 2));
    note_number(nghttp2_submit_settings(server, 0, settings, 1));
    static const nghttp2_nv headers[] = {HEADER(":method", "GET"), HEADER(":scheme", "https"), HEADER(":authority", "example.org"),
                                         HEADER(":path", "/index.html?query"), HEADER("user-agent", "hpgen"), HEADER("cookie", "a=b")};
    for (int i = 0; i < 3; i++) {
        note_number(nghttp2_submit_request(client, NULL, headers, 6, NULL, NULL));
    }
    note_number(nghttp2_submit_ping(client, 0, (const uint8_t *)"12345678"));
    for (int i = 0; i < 30; i++) {
        int said = talk(client, server, step);
        said |= talk(server, client, step);
        if (i == 4) {
            nghttp2_submit_rst_stream(client, 0, 5, NGHTTP2_CANCEL);
            nghttp2_submit_goaway(server, 0, 5, NGHTTP2_NO_ERROR, (const uint8_t *)"bye", 3);
            said = 1;
        }
        if (!said && i > 5) {
            break;
        }
    }
    nghttp2_session_del(client);
    nghttp2_session_del(server);
}

static void regression(void) {
    conversation(10000);
    conversation(3);
    nghttp2_session *server = session(1), *other = session(0);
    note_number(nghttp2_session_mem_recv(server, (const uint8_t *)"GET / HTTP/1.1\r\n\r\n", 18));
    talk(server, other, 100);
    nghttp2_session_del(server);
    nghttp2_session_del(other);
}

/* What is given to a server, frame by frame. */
static uint8_t input[60000];
static size_t input_size;

static void put(const void *bytes, size_t size) {
    memcpy(input + input_size, bytes, size);
    input_size += size;
}

static void put_frame(int type, int flags, uint32_t stream, const char *payload, size_t size) {
    const uint8_t head[] = {0, (uint8_t)(size >> 8), (uint8_t)size, (uint8_t)type, (uint8_t)flags,
                            (uint8_t)(stream >> 24), (uint8_t)(stream >> 16), (uint8_t)(stream >> 8), (uint8_t)stream};
    put(head, sizeof head);
    put(payload, size);
}

static void put_preface(void) {
    input_size = 0;
    put("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
    put_frame(NGHTTP2_SETTINGS, 0, 0, "", 0);
}

/* GET http://a/ */
#define REQUEST "\x82\x86\x84\x41\x01\x61"

/* Headers that go on in more frames than anybody needs. */
static const char *continuations(void) {
    put_preface();
    put_frame(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_STREAM, 1, REQUEST, 6);
    for (int i = 0; i < 20; i++) {
        put_frame(NGHTTP2_CONTINUATION, 0, 1, "", 0);
    }
    put_frame(NGHTTP2_CONTINUATION, NGHTTP2_FLAG_END_HEADERS, 1, "", 0);
    nghttp2_session_callbacks *callbacks;
    nghttp2_session *server;
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_server_new(&server, callbacks, NULL);
    nghttp2_session_callbacks_del(callbacks);
    ssize_t taken = nghttp2_session_mem_recv(server, input, input_size);
    nghttp2_session_del(server);
    return taken == (ssize_t)input_size ? "accepted" : "refused";
}

/* Whether the server wants to end the connection. */
static int says_goaway(nghttp2_session *server) {
    const uint8_t *bytes;
    for (;;) {
        ssize_t size = nghttp2_session_mem_send(server, &bytes);
        if (size <= 0) {
            return 0;
        }
        for (ssize_t at = 0; at + 9 <= size; at += 9 + (bytes[at] << 16 | bytes[at + 1] << 8 | bytes[at + 2])) {
            if (bytes[at + 3] == NGHTTP2_GOAWAY) {
                return 1;
            }
        }
    }
}

/* More streams than anybody needs, each given up as soon as it is opened. */
static const char *resets(void) {
    put_preface();
    for (uint32_t i = 0; i < 1500; i++) {
        put_frame(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS | NGHTTP2_FLAG_END_STREAM, 2 * i + 1, REQUEST, 6);
        put_frame(NGHTTP2_RST_STREAM, 0, 2 * i + 1, "\0\0\0\x08", 4);
    }
    nghttp2_session_callbacks *callbacks;
    nghttp2_session *server;
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_server_new(&server, callbacks, NULL);
    nghttp2_session_callbacks_del(callbacks);
    ssize_t taken = nghttp2_session_mem_recv(server, input, input_size);
    const char *result = taken != (ssize_t)input_size ? "error" : says_goaway(server) ? "refused" : "accepted";
    nghttp2_session_del(server);
    return result;
}

static int frames;

/* Ends the connection with the first request. */
static int on_request(nghttp2_session *session, const nghttp2_frame *frame, void *user) {
    if (frame->hd.type == NGHTTP2_SETTINGS) {
        return 0;
    }
    if (frames++ == 0) {
        nghttp2_session_terminate_session(session, NGHTTP2_NO_ERROR);
    }
    return 0;
}

/* What comes after the program has ended the connection, in the same piece of input, is for nobody any more. */
static const char *after_the_end(void) {
    put_preface();
    put_frame(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS | NGHTTP2_FLAG_END_STREAM, 1, REQUEST, 6);
    put_frame(NGHTTP2_PING, 0, 0, "12345678", 8);
    nghttp2_session_callbacks *callbacks;
    nghttp2_session *server;
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_request);
    nghttp2_session_server_new(&server, callbacks, NULL);
    nghttp2_session_callbacks_del(callbacks);
    frames = 0;
    ssize_t taken = nghttp2_session_mem_recv(server, input, input_size);
    nghttp2_session_del(server);
    return taken != (ssize_t)input_size ? "error" : frames == 1 ? "ignored" : "taken";
}

static const char *probe(const char *name) {
    if (strcmp(name, "after-the-end") == 0) {
        return after_the_end();
    }
    if (strcmp(name, "continuations") == 0) {
        return continuations();
    }
    if (strcmp(name, "resets") == 0) {
        return resets();
    }
    return "unknown";
}
