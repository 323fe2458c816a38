/* A TCP port; every connection is served by a process of its own, which a fault or a hang cannot outlive. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int bound(const char *where) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  const char *colon = strrchr(where, ':');
  char host[64];
  if (colon) {
    snprintf(host, sizeof host, "%.*s", (int)(colon - where), where);
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1) {
      errno = EINVAL;
      return -1;
    }
  }
  address.sin_port = htons((uint16_t)atoi(colon ? colon + 1 : where));
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;
  socklen_t size = sizeof address;
  if (fd < 0) return -1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 16) ||
      getsockname(fd, (struct sockaddr *)&address, &size))
    return -1;
  printf("listening on %s:%u\n", inet_ntop(AF_INET, &address.sin_addr, host, sizeof host), ntohs(address.sin_port));
  fflush(stdout);
  return fd;
}

/* Returns in each child, with its connection; in the listener only with -1 and errno. */
int listen_on(const char *where) {
  int listener = bound(where), yes = 1;
  if (listener < 0) return -1;
  signal(SIGCHLD, SIG_IGN); /* children need no wait */
  for (;;) {
    int connection = accept(listener, NULL, NULL);
    if (connection < 0 && (errno == EINTR || errno == ECONNABORTED)) continue;
    if (connection < 0) return -1;
    pid_t child = fork();
    if (child == 0) {
      close(listener);
      setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
      setsockopt(connection, SOL_SOCKET, SO_KEEPALIVE, &yes, sizeof yes); /* a host that lost its power */
      return connection;
    }
    close(connection);
  }
}
