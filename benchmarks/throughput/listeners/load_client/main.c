/* Load of gRPC calls over HTTP/2 from prepared bytes, at a few microseconds a call.
 *
 *   load_client [options] HOST PORT REQUESTS
 *
 * REQUESTS is a file of slices; connection n walks slice n from its start, again and again unless -1 is given.
 * Numbers are 32 bits, big-endian: the count of slices; of each slice, the count of requests; of each request,
 * the length of its header block, the block, the length of its body, the body. Only stream numbers are added.
 *
 * Options stand in load_client.h. The result is one JSON object. Latencies count from the moment a request was
 * due: in a closed loop, the answer before it; with -r, its place in the schedule, so that a slow server delays no
 * request but lengthens its latency.
 */
#define _GNU_SOURCE
#include "load_client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct options options = {.n_connections = 1, .in_flight = 1, .warm_up = 0.2, .seconds = 1};
struct connection *connections;
bool is_exhausted, is_over;
static const uint64_t SECOND = 1000000000, DRAIN = 30 * 1000000000ull;
static uint64_t began, ended; /* when the clock ran; 0: it has not begun, or not ended */
static uint64_t n_answers, n_acknowledged, n_failed, *latencies;
static size_t n_latencies, latencies_room;

_Noreturn void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

void *grown(void *old, size_t n_bytes) {
    void *made = realloc(old, n_bytes);
    if (!made) die("out of memory");
    return made;
}

static uint64_t clock_ns(clockid_t clock) {
    struct timespec now;
    if (clock_gettime(clock, &now)) die("process %d has ended", options.pid);
    return (uint64_t)now.tv_sec * SECOND + (uint64_t)now.tv_nsec;
}

uint64_t now_ns(void) { return clock_ns(CLOCK_MONOTONIC); }

/* CPU time of all threads of the server, in steps of a nanosecond. */
static uint64_t server_cpu_ns(void) {
    clockid_t clock;
    if (!options.pid) return 0;
    if (clock_getcpuclockid(options.pid, &clock)) die("there is no process %d", options.pid);
    return clock_ns(clock);
}

uint32_t number(const uint8_t *at) {
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

/* Requests. */

static const uint8_t *at, *end_of_file;

static uint32_t next_number(void) {
    if (end_of_file - at < 4) die("the file of requests ends too soon");
    at += 4;
    return number(at - 4);
}

static const uint8_t *next_bytes(uint32_t n_bytes) {
    if (end_of_file - at < n_bytes) die("the file of requests ends too soon");
    at += n_bytes;
    return at - n_bytes;
}

static void read_requests(const char *path) {
    struct stat status;
    FILE *file = fopen(path, "rb");
    if (!file || fstat(fileno(file), &status)) die("%s: %s", path, strerror(errno));
    uint8_t *bytes = grown(NULL, (size_t)status.st_size + 1);
    if (fread(bytes, 1, (size_t)status.st_size, file) != (size_t)status.st_size) die("%s: cannot be read", path);
    fclose(file);
    at = bytes;
    end_of_file = bytes + status.st_size;
    if (next_number() != (uint32_t)options.n_connections) die("there must be one slice for each connection");
    for (int i = 0; i < options.n_connections; i++) {
        size_t n = connections[i].n_requests = next_number();
        struct request *requests = grown(NULL, (n + 1) * sizeof *requests);
        for (size_t j = 0; j < n; j++) {
            requests[j].head_bytes = next_number();
            requests[j].head = next_bytes(requests[j].head_bytes);
            requests[j].body_bytes = next_number();
            requests[j].body = next_bytes(requests[j].body_bytes);
        }
        connections[i].requests = requests;
    }
}

/* The run. */

void count_answer(struct connection *c, uint64_t due, bool is_good, uint64_t now) {
    c->in_flight--;
    n_failed += !is_good;
    n_acknowledged += is_good;
    n_answers += began && !ended;
    if (!began || due < began || (ended && due >= ended)) return;
    if (n_latencies == latencies_room)
        latencies = grown(latencies, (latencies_room = 2 * latencies_room + 65536) * sizeof *latencies);
    latencies[n_latencies++] = now - due;
}

static int open_connections(const char *host, const char *port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1) die("%s is no address", host);
    int poll = epoll_create1(0);
    for (int i = 0; i < options.n_connections; i++) {
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = &connections[i]};
        open_connection(&connections[i], &address);
        if (epoll_ctl(poll, EPOLL_CTL_ADD, connections[i].fd, &event)) die("epoll: %s", strerror(errno));
    }
    return poll;
}

/* Send what is due by now; return when the next request is. Connections take turns; a full one is passed over. */
static uint64_t send_due(uint64_t now, uint64_t first) {
    static uint64_t n_sent;
    static int turn;
    uint64_t due;
    while ((due = first + (uint64_t)((double)n_sent * 1e9 / options.rate)) <= now) {
        int tried = 0;
        struct connection *c;
        do {
            c = &connections[turn];
            turn = (turn + 1) % options.n_connections;
        } while (!may_send(c, c->most_streams) && ++tried < options.n_connections);
        if (tried == options.n_connections) return now + SECOND / 1000;
        send_request(c, due);
        n_sent++;
    }
    return due;
}

static uint32_t all_in_flight(void) {
    uint32_t n = 0;
    for (int i = 0; i < options.n_connections; i++) n += connections[i].in_flight;
    return n;
}

static void flush_all(void) {
    for (int i = 0; i < options.n_connections; i++)
        if (connections[i].out_bytes) flush(&connections[i]);
}

/* Send what is prepared; wait until something can be read, but not past an instant. */
static void serve_events(int poll, uint64_t now, uint64_t until) {
    struct epoll_event events[256];
    flush_all();
    uint64_t left = until > now ? until - now : 0;
    struct timespec timeout = {(time_t)(left / SECOND), (long)(left % SECOND)};
    int n = epoll_pwait2(poll, events, 256, &timeout, NULL);
    if (n < 0 && errno != EINTR) die("epoll: %s", strerror(errno));
    for (int i = 0; i < n; i++) on_ready(events[i].data.ptr);
    flush_all();
}

static int by_size(const void *one, const void *other) {
    const uint64_t a = *(const uint64_t *)one, b = *(const uint64_t *)other;
    return (a > b) - (a < b);
}

static double percentile_us(double share) {
    if (!n_latencies) return 0;
    return (double)latencies[(size_t)(share * (double)(n_latencies - 1))] / 1e3;
}

static void run(int poll) {
    uint64_t first = now_ns(), now = first, server_cpu = 0, client_cpu = 0;
    const uint64_t starts = first + (uint64_t)(options.warm_up * 1e9);
    const uint64_t ends = starts + (uint64_t)(options.seconds * 1e9);
    for (;; now = now_ns()) {
        if (!began && now >= starts) {
            began = now;
            server_cpu = server_cpu_ns();
            client_cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
        }
        if (!ended && (now >= ends || is_exhausted)) {
            if (!began) die("the requests were used up before the clock ran");
            ended = now;
            is_over = true;
            server_cpu = server_cpu_ns() - server_cpu;
            client_cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - client_cpu;
        }
        if (ended && !all_in_flight()) break;
        if (ended && now > ended + DRAIN) die("%u calls were never answered", all_in_flight());
        uint64_t until = now + SECOND / 100;
        if (options.rate > 0 && !ended) {
            uint64_t due = send_due(now, first);
            if (due < until) until = due;
        }
        serve_events(poll, now, until);
    }
    qsort(latencies, n_latencies, sizeof *latencies, by_size);
    printf("{\"n_answers\": %llu, \"n_acknowledged\": %llu, \"n_failed\": %llu, \"seconds\": %.9f, "
           "\"server_cpu_seconds\": %.9f, \"client_cpu_seconds\": %.9f, "
           "\"p50_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f}\n",
           (unsigned long long)n_answers, (unsigned long long)n_acknowledged, (unsigned long long)n_failed,
           (double)(ended - began) / 1e9, (double)server_cpu / 1e9, (double)client_cpu / 1e9, percentile_us(0.5),
           percentile_us(0.99), percentile_us(0.999));
}

int main(int n_arguments, char **arguments) {
    int option;
    while ((option = getopt(n_arguments, arguments, "c:m:w:s:r:p:1bt")) != -1) switch (option) {
        case 'c': options.n_connections = atoi(optarg); break;
        case 'm': options.in_flight = atoi(optarg); break;
        case 'p': options.pid = atoi(optarg); break;
        case 'w': options.warm_up = atof(optarg); break;
        case 's': options.seconds = atof(optarg); break;
        case 'r': options.rate = atof(optarg); break;
        case '1': options.is_once = true; break;
        case 'b': options.is_stream = true; break;
        case 't': options.is_tls = true; break;
        default: die("unknown option");
        }
    if (n_arguments - optind != 3) die("usage: load_client [options] HOST PORT REQUESTS");
    connections = calloc((size_t)options.n_connections, sizeof *connections);
    if (!connections) die("out of memory");
    signal(SIGPIPE, SIG_IGN);
    read_requests(arguments[optind + 2]);
    run(open_connections(arguments[optind], arguments[optind + 1]));
    return 0;
}
