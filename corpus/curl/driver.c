/* libcurl, kept busy with a server of the driver's own; see ../driver.h. */
#include <winsock2.h>

#include "../driver.h"

#include <curl/curl.h>

/* What the server says, by what it is asked for. */
static const struct {
    const char *path, *answer;
} answers[] = {
    {"/plain", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nSet-Cookie: a=1; path=/\r\nSet-Cookie: b=2; path=/x; HttpOnly\r\n\r\nhello"},
    {"/chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Long: folded\r\n line\r\n\r\n4\r\nwiki\r\n6;ext=1\r\npedia!\r\n0\r\nT: 1\r\n\r\n"},
    {"/moved", "HTTP/1.1 302 Found\r\nLocation: /plain?again=1\r\nContent-Length: 0\r\n\r\n"},
    {"/secret", "HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 2\r\n\r\nno"},
    {"/missing", "HTTP/1.1 404 Gone\r\nContent-Length: 4\r\nConnection: close\r\n\r\ngone"},
    {"/garbage", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort"},
    {"/", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"},
};

static unsigned short port;
static char asked[4000];

/* An answer with more headers than anybody needs: six lines of 60,000 bytes. */
static void answer_with_headers(SOCKET peer) {
    static char line[60002];
    static const char start[] = "HTTP/1.1 200 OK\r\n", end[] = "Content-Length: 2\r\nConnection: close\r\n\r\nok";
    memset(line, 'x', sizeof line - 2);
    memcpy(line, "X-A: ", 5);
    memcpy(line + sizeof line - 2, "\r\n", 2);
    send(peer, start, sizeof start - 1, 0);
    for (int i = 0; i < 6; i++) {
        send(peer, line, sizeof line, 0);
    }
    send(peer, end, sizeof end - 1, 0);
}

static void answer(SOCKET peer) {
    char request[8000];
    int size = 0;
    for (;;) {
        int count = recv(peer, request + size, (int)sizeof request - 1 - size, 0);
        if (count <= 0) {
            return;
        }
        size += count;
        request[size] = 0;
        char *end = strstr(request, "\r\n\r\n"), *length = strstr(request, "Content-Length: ");
        if (end == NULL || (length != NULL && size < end - request + 4 + atoi(length + 16))) {
            continue;
        }
        strncpy(asked, request, sizeof asked - 1);
        const char *path = strchr(request, ' ') + 1;
        if (strncmp(path, "/headers", 8) == 0) {
            answer_with_headers(peer);
            return;
        }
        for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
            if (strncmp(path, answers[i].path, strlen(answers[i].path)) == 0) {
                send(peer, answers[i].answer, (int)strlen(answers[i].answer), 0);
                break;
            }
        }
        size = 0;
        if (strncmp(path, "/garbage", 8) == 0 || strncmp(path, "/missing", 8) == 0) {
            return;
        }
    }
}

static DWORD WINAPI serve_peer(void *peer) {
    answer((SOCKET)peer);
    closesocket((SOCKET)peer);
    return 0;
}

/* A handle keeps its connection while another one opens its own: each has a thread. */
static DWORD WINAPI serve(void *listening) {
    for (;;) {
        SOCKET peer = accept((SOCKET)listening, NULL, NULL);
        if (peer != INVALID_SOCKET) {
            CloseHandle(CreateThread(NULL, 0, serve_peer, (void *)peer, 0, NULL));
        }
    }
}

static void start_server(void) {
    curl_global_init(CURL_GLOBAL_ALL);
    SOCKET listening = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {0};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int size = sizeof address;
    bind(listening, (struct sockaddr *)&address, size);
    listen(listening, 5);
    getsockname(listening, (struct sockaddr *)&address, &size);
    port = ntohs(address.sin_port);
    CreateThread(NULL, 0, serve, (void *)listening, 0, NULL);
}

static size_t on_body(char *bytes, size_t size, size_t count, void *unused) {
    (void)unused;
    note(bytes, size * count);
    return size * count;
}

/* Ports differ from run to run, and take no part. */
static void note_asked(void) {
    char *host = strstr(asked, "Host: ");
    if (host != NULL) {
        note(asked, (size_t)(host - asked));
        host = strstr(host, "\r\n");
        note_text(host);
    }
}

static void fetch(CURL *curl, const char *path) {
    char url[300];
    snprintf(url, sizeof url, "http://127.0.0.1:%u%s", port, path);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_body);
    note_number(curl_easy_perform(curl));
    long code = 0, redirects = 0;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &code);
    curl_easy_getinfo(curl, CURLINFO_REDIRECT_COUNT, &redirects);
    note_number(code * 100 + redirects);
    note_asked();
}

static void note_url(const char *text, unsigned flags) {
    CURLU *url = curl_url();
    note_number(curl_url_set(url, CURLUPART_URL, text, flags));
    for (int part = CURLUPART_URL; part <= CURLUPART_FRAGMENT; part++) {
        char *value = NULL;
        note_number(curl_url_get(url, (CURLUPart)part, &value, CURLU_DEFAULT_PORT | CURLU_URLDECODE));
        note_text(value);
        curl_free(value);
    }
    curl_url_cleanup(url);
}

static void requests(void) {
    CURL *curl = curl_easy_init();
    curl_easy_setopt(curl, CURLOPT_COOKIEFILE, "");
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L);
    fetch(curl, "/plain");
    fetch(curl, "/chunked?a=b%20c");
    fetch(curl, "/moved");
    curl_easy_setopt(curl, CURLOPT_USERPWD, "user:pass word");
    fetch(curl, "/secret");
    curl_easy_setopt(curl, CURLOPT_USERPWD, NULL);
    fetch(curl, "/missing");
    fetch(curl, "/garbage");
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, "field=value&other=1");
    fetch(curl, "/form");
    curl_easy_setopt(curl, CURLOPT_HTTPGET, 1L);
    curl_easy_setopt(curl, CURLOPT_RANGE, "5-9");
    struct curl_slist *headers = curl_slist_append(curl_slist_append(NULL, "X-Mine: 1"), "Accept:");
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    fetch(curl, "/range");
    curl_easy_setopt(curl, CURLOPT_COOKIELIST, "Set-Cookie: c=3; domain=example.org; path=/p; secure");
    struct curl_slist *cookies = NULL;
    curl_easy_getinfo(curl, CURLINFO_COOKIELIST, &cookies);
    for (struct curl_slist *cookie = cookies; cookie != NULL; cookie = cookie->next) {
        note_text(cookie->data);
    }
    curl_slist_free_all(cookies);
    CURL *copy = curl_easy_duphandle(curl);
    fetch(copy, "/copy");
    curl_easy_cleanup(copy);
    curl_slist_free_all(headers);
    curl_easy_setopt(curl, CURLOPT_URL, "nothing://x");
    note_number(curl_easy_perform(curl));
    curl_easy_setopt(curl, CURLOPT_URL, "file:///C:/none-such");
    note_number(curl_easy_perform(curl));
    curl_easy_cleanup(curl);
}

static void regression(void) {
    if (port == 0) {
        start_server();
    }
    static const char *const urls[] = {"https://user:p%40ss@example.org:8080/a/../b/./c?q=1&r#frag", "http://[::1%25eth0]:99/", "ftp://x",
                                       "http://1.2.3", "http://a b/", "file:///C:/x", "mailto:x", "//h/p", "http://h:99999/", "http://%zz"};
    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
        note_url(urls[i], CURLU_GUESS_SCHEME);
        note_url(urls[i], CURLU_NON_SUPPORT_SCHEME | CURLU_PATH_AS_IS);
    }
    CURL *curl = curl_easy_init();
    char *escaped = curl_easy_escape(curl, "a b/\xc3\xbc?&=", 0);
    int size = 0;
    char *back = curl_easy_unescape(curl, escaped, 0, &size);
    note_text(escaped);
    note(back, (size_t)size);
    curl_free(escaped);
    curl_free(back);
    curl_easy_cleanup(curl);
    note_number(curl_getdate("Sun, 06 Nov 1994 08:49:37 GMT", NULL));
    note_number(curl_getdate("nonsense", NULL));
    requests();
}

_Bool Curl_cert_hostcheck(const char *match, size_t match_size, const char *name, size_t name_size);

static const char *probe(const char *name) {
    if (strcmp(name, "wildcard") == 0) {
        /* A wildcard in the middle of a label must not match a name that stands for other letters. */
        static const char match[] = "x*.example.org", host[] = "xn--l8j.example.org";
        return Curl_cert_hostcheck(match, sizeof match - 1, host, sizeof host - 1) ? "accepted" : "refused";
    }
    if (strcmp(name, "no-protocol") == 0) {
        /* An empty list of protocols is an error, and must not leave all of them allowed. */
        char url[100];
        snprintf(url, sizeof url, "http://127.0.0.1:%u/plain", port);
        CURL *curl = curl_easy_init();
        curl_easy_setopt(curl, CURLOPT_URL, url);
        curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
        curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "");
        CURLcode result = curl_easy_perform(curl);
        curl_easy_cleanup(curl);
        return result == CURLE_OK ? "accepted" : "refused";
    }
    if (strcmp(name, "header-flood") == 0) {
        char url[100];
        snprintf(url, sizeof url, "http://127.0.0.1:%u/headers", port);
        CURL *curl = curl_easy_init();
        curl_easy_setopt(curl, CURLOPT_URL, url);
        curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
        CURLcode result = curl_easy_perform(curl);
        curl_easy_cleanup(curl);
        return result == CURLE_OK ? "accepted" : numbered("error", result);
    }
    return "unknown";
}
