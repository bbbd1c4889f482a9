/* Just enough of HTTP/2 to send prepared calls and to count their answers. */
#include "load_client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#ifdef WITH_TLS
#include <openssl/ssl.h>
#endif

enum { DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE };
enum { ACK = 1, END_STREAM = 1, END_HEADERS = 4 };
enum { HEAD_BYTES = 9, LARGEST_PAYLOAD = 16384, IN_BYTES = 1 << 17, UPDATE_BYTES = 1 << 20 };
enum { ANSWER_FIELD = 0x0a }; /* the first byte of a streamed message that is no error: field 1, with a length */

/* Output. */

static void put(struct connection *c, int kind, int flags, uint32_t stream, const void *payload, size_t n_bytes) {
    while (c->out_room < c->out_bytes + HEAD_BYTES + n_bytes)
        c->out = grown(c->out, c->out_room = 2 * c->out_room + 65536);
    uint8_t *to = c->out + c->out_bytes;
    const uint8_t head[HEAD_BYTES] = {
        (uint8_t)(n_bytes >> 16), (uint8_t)(n_bytes >> 8), (uint8_t)n_bytes, (uint8_t)kind, (uint8_t)flags,
        (uint8_t)(stream >> 24), (uint8_t)(stream >> 16), (uint8_t)(stream >> 8), (uint8_t)stream};
    memcpy(to, head, HEAD_BYTES);
    if (n_bytes) memcpy(to + HEAD_BYTES, payload, n_bytes);
    c->out_bytes += HEAD_BYTES + n_bytes;
}

static void put_body(struct connection *c, uint32_t stream, const struct request *request, int last_flags) {
    uint32_t done = 0;
    while (request->body_bytes - done > LARGEST_PAYLOAD) {
        put(c, DATA, 0, stream, request->body + done, LARGEST_PAYLOAD);
        done += LARGEST_PAYLOAD;
    }
    put(c, DATA, last_flags, stream, request->body + done, request->body_bytes - done);
    c->window -= request->body_bytes;
}

static ssize_t write_some(struct connection *c, const uint8_t *from, size_t n_bytes) {
#ifdef WITH_TLS
    if (c->tls) {
        int n = SSL_write(c->tls, from, (int)n_bytes);
        if (n > 0) return n;
        if (SSL_get_error(c->tls, n) == SSL_ERROR_WANT_WRITE) return 0;
        die("the TLS connection failed while writing");
    }
#endif
    ssize_t n = send(c->fd, from, n_bytes, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN) die("the server closed a connection: %s", strerror(errno));
    return n < 0 ? 0 : n;
}

void flush(struct connection *c) {
    size_t done = 0;
    while (done < c->out_bytes) {
        ssize_t n = write_some(c, c->out + done, c->out_bytes - done);
        if (!n) break;
        done += (size_t)n;
    }
    if (done) memmove(c->out, c->out + done, c->out_bytes -= done);
}

static struct slot *slot_of(struct connection *c, uint32_t stream) { return &c->slots[(stream >> 1) % RING]; }

bool may_send(struct connection *c, uint32_t most) {
    if (options.is_once && c->cursor == c->n_requests) is_exhausted = true;
    if (is_exhausted || c->in_flight >= most) return false;
    if (c->cursor == c->n_requests) c->cursor = 0;
    int64_t n_bytes = c->requests[c->cursor].body_bytes;
    if (options.is_stream) return c->window >= n_bytes && c->stream_window >= n_bytes;
    return c->window >= n_bytes && !slot_of(c, c->next_stream)->stream;
}

void send_request(struct connection *c, uint64_t due) {
    const struct request *request = &c->requests[c->cursor++];
    c->in_flight++;
    if (options.is_stream) {
        if (!c->sent) put(c, HEADERS, END_HEADERS, 1, request->head, request->head_bytes);
        c->slots[c->sent++ % RING].due = due;
        c->stream_window -= request->body_bytes;
        put_body(c, 1, request, 0);
        return;
    }
    *slot_of(c, c->next_stream) = (struct slot){due, c->next_stream, false};
    put(c, HEADERS, END_HEADERS, c->next_stream, request->head, request->head_bytes);
    put_body(c, c->next_stream, request, END_STREAM);
    c->next_stream += 2;
}

/* Input. */

/* Count the messages in a piece of a stream; a message may lie in several pieces. */
static void on_streamed(struct connection *c, const uint8_t *payload, size_t n_bytes, uint64_t now) {
    while (n_bytes) {
        if (c->prefix_bytes < sizeof c->prefix) { /* an answer has at least one byte beside its prefix */
            c->prefix[c->prefix_bytes++] = *payload++;
            n_bytes--;
            if (c->prefix_bytes < sizeof c->prefix) continue;
            c->message_left = number(c->prefix + 1) - 1;
        }
        size_t n = n_bytes < c->message_left ? n_bytes : c->message_left;
        payload += n;
        n_bytes -= n;
        if (c->message_left -= (uint32_t)n) continue;
        c->prefix_bytes = 0;
        count_answer(c, c->slots[c->answered++ % RING].due, c->prefix[5] == ANSWER_FIELD, now);
    }
}

static void on_data(struct connection *c, uint32_t stream, const uint8_t *payload, size_t n_bytes, uint64_t now) {
    if (options.is_stream) on_streamed(c, payload, n_bytes, now);
    else slot_of(c, stream)->has_data = true;
    c->unacknowledged += n_bytes;
    if (c->unacknowledged < UPDATE_BYTES) return;
    uint32_t size = htonl((uint32_t)c->unacknowledged);
    put(c, WINDOW_UPDATE, 0, 0, &size, sizeof size);
    if (options.is_stream) put(c, WINDOW_UPDATE, 0, 1, &size, sizeof size);
    c->unacknowledged = 0;
}

/* A call that failed has no data: its first and only headers are its trailers. */
static void on_end(struct connection *c, uint32_t stream, bool is_reset, uint64_t now) {
    if (options.is_stream) die("the stream ended");
    struct slot *slot = slot_of(c, stream);
    if (slot->stream != stream) die("an answer to stream %u, which is not open", stream);
    slot->stream = 0;
    count_answer(c, slot->due, !is_reset && slot->has_data, now);
}

static void on_settings(struct connection *c, const uint8_t *payload, size_t n_bytes) {
    for (const uint8_t *from = payload; from + 6 <= payload + n_bytes; from += 6) {
        if (from[1] == 3) c->most_streams = number(from + 2);
        if (from[1] == 4) c->stream_window += (int64_t)number(from + 2) - 65535;
    }
    put(c, SETTINGS, ACK, 0, NULL, 0);
}

static void on_frame(struct connection *c, const uint8_t *head, size_t n_bytes, uint64_t now) {
    const uint8_t *payload = head + HEAD_BYTES;
    int flags = head[4];
    uint32_t stream = number(head + 5);
    switch (head[3]) {
    case DATA: on_data(c, stream, payload, n_bytes, now); break;
    case HEADERS:
        if (!(flags & END_HEADERS)) die("headers in several frames");
        if (flags & END_STREAM) on_end(c, stream, false, now);
        break;
    case RST_STREAM: /* after an answer it only says that the rest of the request is unwanted */
        if (options.is_stream || slot_of(c, stream)->stream == stream) on_end(c, stream, true, now);
        break;
    case SETTINGS: if (!(flags & ACK)) on_settings(c, payload, n_bytes); break;
    case PING: if (!(flags & ACK)) put(c, PING, ACK, 0, payload, n_bytes); break;
    case GOAWAY: die("the server ends a connection: error %u", number(payload + 4));
    case WINDOW_UPDATE: *(stream ? &c->stream_window : &c->window) += number(payload); break;
    }
}

static ssize_t read_some(struct connection *c) {
#ifdef WITH_TLS
    if (c->tls) {
        int n = SSL_read(c->tls, c->in + c->in_bytes, (int)(IN_BYTES - c->in_bytes));
        if (n > 0) return n;
        if (SSL_get_error(c->tls, n) == SSL_ERROR_WANT_READ) return 0;
        die("the TLS connection failed while reading");
    }
#endif
    ssize_t n = recv(c->fd, c->in + c->in_bytes, IN_BYTES - c->in_bytes, 0);
    if (!n || (n < 0 && errno != EAGAIN)) die("the server closed a connection");
    return n < 0 ? 0 : n;
}

void on_ready(struct connection *c) {
    ssize_t n;
    while ((n = read_some(c)) > 0) {
        uint64_t now = now_ns();
        size_t done = 0;
        c->in_bytes += (size_t)n;
        while (c->in_bytes - done >= HEAD_BYTES) {
            const uint8_t *head = c->in + done;
            size_t n_bytes = (size_t)head[0] << 16 | (size_t)head[1] << 8 | head[2];
            if (n_bytes > LARGEST_PAYLOAD) die("a frame of %zu bytes", n_bytes);
            if (c->in_bytes - done < HEAD_BYTES + n_bytes) break;
            on_frame(c, head, n_bytes, now);
            done += HEAD_BYTES + n_bytes;
        }
        memmove(c->in, c->in + done, c->in_bytes -= done);
        if (is_over || options.rate > 0) continue;
        while (may_send(c, (uint32_t)options.in_flight)) send_request(c, now);
    }
}

/* Connections. */

static void start_tls(struct connection *c) {
#ifdef WITH_TLS
    static SSL_CTX *context;
    if (!context && !(context = SSL_CTX_new(TLS_client_method()))) die("TLS is not available");
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_alpn_protos(context, (const unsigned char *)"\2h2", 3);
    c->tls = SSL_new(context);
    SSL_set_fd(c->tls, c->fd);
    if (SSL_connect(c->tls) != 1) die("the TLS handshake failed");
#else
    (void)c;
    die("built without TLS");
#endif
}

void open_connection(struct connection *c, const struct sockaddr_in *address) {
    static const uint8_t preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    static const uint8_t settings[] = {0, 4, 0x7f, 0xff, 0xff, 0xff}; /* streams have the largest window */
    const uint32_t more = htonl(INT32_MAX - 65535);
    const int yes = 1;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(c->fd, (const struct sockaddr *)address, sizeof *address)) die("no connection: %s", strerror(errno));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (options.is_tls) start_tls(c);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    c->in = grown(NULL, IN_BYTES);
    c->next_stream = 1;
    c->most_streams = 100;
    c->window = c->stream_window = 65535;
    c->out = grown(NULL, c->out_room = 65536);
    memcpy(c->out, preface, c->out_bytes = sizeof preface - 1);
    put(c, SETTINGS, 0, 0, settings, sizeof settings);
    put(c, WINDOW_UPDATE, 0, 0, &more, sizeof more);
    flush(c);
}
