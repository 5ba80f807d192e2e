/* A model server that costs next to nothing: OpenAI's chat completions on 127.0.0.1, in one thread.
 *
 * Prints its port. Every answer is the same text; a request with "stream": true gets it in pieces.
 * GET /set?pieces=60&gap=20 says how many pieces a stream has and how many milliseconds lie between them.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define TEXT "lorem ipsum dolor "
#define FRAME "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion%s\",\"created\":1700000000,\"model\":\"mock\","
#define USAGE "\"usage\":{\"prompt_tokens\":120,\"completion_tokens\":%d,\"total_tokens\":%d}}"
#define FINISH "\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}"
#define DELTA "\"choices\":[{\"index\":0,\"delta\":{\"content\":\"" TEXT "\"},\"finish_reason\":null}]}"
#define ROLE "\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}"
#define MESSAGE                                                                                      \
  "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"" TEXT "\"},"         \
  "\"logprobs\":null,\"finish_reason\":\"stop\"}],"

typedef struct {
  char *data;
  size_t size, room;
} Buffer;

typedef struct Connection {
  int socket;
  Buffer in, out;
  size_t sent;
  int left; /* pieces of the stream still to come; -1 = no stream */
  bool wants_usage, waits_for_room;
  int64_t due;
  struct Connection *before, *after; /* among those that stream */
} Connection;

static int poller, pieces = 16;
static int64_t gap;
static Connection *streams;

static int64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void append(Buffer *to, const char *data, size_t size) {
  if (to->size + size > to->room) {
    to->room = 2 * (to->size + size);
    to->data = realloc(to->data, to->room);
  }
  memcpy(to->data + to->size, data, size);
  to->size += size;
}

static void event(Connection *c, const char *payload, int size) {
  char head[16];
  append(&c->out, head, sprintf(head, "%x\r\n", size + 8));
  append(&c->out, "data: ", 6);
  append(&c->out, payload, size);
  append(&c->out, "\n\n\r\n", 4);
}

static void whole(Connection *c, const char *status, const char *body, int size) {
  char head[160];
  int length = sprintf(
      head, "HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n", status, size);
  append(&c->out, head, length);
  append(&c->out, body, size);
}

static void unlink_stream(Connection *c) {
  if (c->left < 0) return;
  if (c->before) c->before->after = c->after;
  else streams = c->after;
  if (c->after) c->after->before = c->before;
  c->left = -1;
}

static void end(Connection *c) {
  unlink_stream(c);
  close(c->socket);
  free(c->in.data);
  free(c->out.data);
  free(c);
}

static void flush(Connection *c) {
  while (c->sent < c->out.size) {
    ssize_t n = send(c->socket, c->out.data + c->sent, c->out.size - c->sent, MSG_NOSIGNAL);
    if (n < 0) break;
    c->sent += n;
  }
  if (c->sent == c->out.size) c->sent = c->out.size = 0;
  bool full = c->out.size > 0;
  if (full != c->waits_for_room) {
    struct epoll_event wanted = {EPOLLIN | (full ? EPOLLOUT : 0), {.ptr = c}};
    epoll_ctl(poller, EPOLL_CTL_MOD, c->socket, &wanted);
    c->waits_for_room = full;
  }
}

static void stream_on(Connection *c) { /* the pieces that are due, and the ending after the last */
  char text[600];
  for (int64_t moment = now(); c->left > 0 && c->due <= moment; c->left--) {
    event(c, text, sprintf(text, FRAME DELTA, ".chunk"));
    c->due += gap;
  }
  if (c->left == 0) {
    event(c, text, sprintf(text, FRAME FINISH, ".chunk"));
    if (c->wants_usage)
      event(c, text, sprintf(text, FRAME "\"choices\":[]," USAGE, ".chunk", pieces, pieces + 120));
    event(c, "[DONE]", 6);
    append(&c->out, "0\r\n\r\n", 5);
    unlink_stream(c);
  }
  flush(c);
}

static void begin_stream(Connection *c) {
  static const char head[] =
      "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
  char text[600];
  append(&c->out, head, sizeof head - 1);
  event(c, text, sprintf(text, FRAME ROLE, ".chunk"));
  c->left = pieces;
  c->due = now();
  c->before = NULL;
  if ((c->after = streams)) streams->before = c;
  streams = c;
  stream_on(c);
}

static void answer(Connection *c, const char *head, const char *body, size_t size) {
  char text[800];
  const char *found;
  if (!strncmp(head, "GET /set?", 9)) {
    if ((found = strstr(head, "pieces="))) pieces = atoi(found + 7);
    if ((found = strstr(head, "gap="))) gap = atoi(found + 4) * 1000000LL;
    whole(c, "200 OK", "{}", 2);
  } else if (!strncmp(head, "GET ", 4)) {
    int length = sprintf(text, "{\"object\":\"list\",\"data\":[{\"id\":\"mock\",\"object\":\"model\"}]}");
    whole(c, "200 OK", text, length);
  } else if (memmem(body, size, "\"stream\":true", 13) || memmem(body, size, "\"stream\": true", 14)) {
    c->wants_usage = memmem(body, size, "include_usage", 13);
    begin_stream(c);
    return;
  } else {
    whole(c, "200 OK", text, sprintf(text, FRAME MESSAGE USAGE, "", 8, 128));
  }
  flush(c);
}

static void take_requests(Connection *c) {
  while (c->left < 0 && c->in.size) {
    append(&c->in, "", 1); /* a terminator for the string functions, not counted */
    c->in.size--;
    char *blank = memmem(c->in.data, c->in.size, "\r\n\r\n", 4);
    if (!blank) return;
    char *body = blank + 4, *length = strcasestr(c->in.data, "\ncontent-length:");
    size_t size = length && length < body ? strtoul(length + 16, NULL, 10) : 0;
    char *coding = strcasestr(c->in.data, "\ntransfer-encoding: chunked");
    if (coding && coding < body) {
      char *last = memmem(body, c->in.data + c->in.size - body, "0\r\n\r\n", 5);
      if (!last) return;
      size = last + 5 - body;
    }
    size_t taken = body - c->in.data + size;
    if (c->in.size < taken) return;
    answer(c, c->in.data, body, size);
    memmove(c->in.data, c->in.data + taken, c->in.size - taken);
    c->in.size -= taken;
  }
}

static void greet(int listener) {
  int s, one = 1;
  while ((s = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
    setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    Connection *c = calloc(1, sizeof *c);
    c->socket = s;
    c->left = -1;
    struct epoll_event wanted = {EPOLLIN, {.ptr = c}};
    epoll_ctl(poller, EPOLL_CTL_ADD, s, &wanted);
  }
}

static void attend(Connection *c, uint32_t events) {
  static char data[1 << 16];
  if (events & EPOLLOUT) flush(c);
  if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR))) return;
  ssize_t n = recv(c->socket, data, sizeof data, 0);
  if (n <= 0) {
    end(c);
    return;
  }
  append(&c->in, data, n);
  take_requests(c);
}

static int patience(void) { /* milliseconds until a piece is due */
  int64_t next = INT64_MAX, moment = now();
  for (Connection *c = streams; c; c = c->after)
    if (c->due < next) next = c->due;
  return next == INT64_MAX ? -1 : next <= moment ? 0 : (int)((next - moment + 999999) / 1000000);
}

int main(void) {
  signal(SIGPIPE, SIG_IGN);
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof address;
  if (bind(listener, (void *)&address, size) || listen(listener, 1024)) return 1;
  getsockname(listener, (void *)&address, &size);
  printf("%d\n", ntohs(address.sin_port));
  fflush(stdout);
  poller = epoll_create1(0);
  struct epoll_event wanted = {EPOLLIN, {.ptr = NULL}}, found[256];
  epoll_ctl(poller, EPOLL_CTL_ADD, listener, &wanted);
  for (;;) {
    int count = epoll_wait(poller, found, 256, patience());
    for (int i = 0; i < count; i++) {
      if (found[i].data.ptr) attend(found[i].data.ptr, found[i].events);
      else greet(listener);
    }
    int64_t moment = now();
    for (Connection *c = streams, *after; c; c = after) {
      after = c->after;
      if (c->due <= moment) {
        stream_on(c);
        if (c->left < 0) take_requests(c);
      }
    }
  }
}
