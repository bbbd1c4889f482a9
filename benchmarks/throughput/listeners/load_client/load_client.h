/* What the two parts of the load client share: requests, connections, options, and ways to end. */
#ifndef LOAD_CLIENT_H
#define LOAD_CLIENT_H
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { RING = 4096 }; /* more calls than a connection may have in flight */

struct request { const uint8_t *head, *body; uint32_t head_bytes, body_bytes; };
struct slot { uint64_t due; uint32_t stream; bool has_data; };
struct connection {
    int fd;
    uint8_t *in, *out;
    size_t in_bytes, out_bytes, out_room;
    const struct request *requests;
    size_t n_requests, cursor;
    uint32_t next_stream, in_flight, most_streams;
    int64_t window, stream_window; /* bytes that the server still takes */
    size_t unacknowledged;
    uint64_t sent, answered; /* messages of a stream */
    uint32_t message_left;   /* bytes of the answer that is coming in on a stream */
    uint8_t prefix[6];       /* its gRPC prefix of five bytes, and its first byte */
    size_t prefix_bytes;
    struct slot slots[RING];
    void *tls; /* its session, if it is encrypted */
};

struct options {
    int n_connections; /* -c: connections */
    int in_flight;     /* -m: calls in flight on each, in a closed loop */
    int pid;           /* -p: the server, whose CPU time is measured */
    double warm_up;    /* -w: seconds of calls before the clock runs */
    double seconds;    /* -s: seconds measured */
    double rate;       /* -r: calls a second by schedule, whatever is in flight; 0: a closed loop */
    bool is_once;      /* -1: each request is sent once; the clock stops when they are used up */
    bool is_stream;    /* -b: one bidirectional stream on each connection */
    bool is_tls;       /* -t: TLS, without checking the certificate */
};

extern struct options options;
extern struct connection *connections;
extern bool is_exhausted; /* a slice that is walked once has come to its end */
extern bool is_over;      /* nothing more is sent */

/* main.c */
_Noreturn void die(const char *format, ...);
void *grown(void *old, size_t n_bytes);
uint64_t now_ns(void);
uint32_t number(const uint8_t *at);
void count_answer(struct connection *c, uint64_t due, bool is_good, uint64_t now);

/* http2.c */
void open_connection(struct connection *c, const struct sockaddr_in *address);
bool may_send(struct connection *c, uint32_t most);
void send_request(struct connection *c, uint64_t due);
void on_ready(struct connection *c);
void flush(struct connection *c);

#endif
