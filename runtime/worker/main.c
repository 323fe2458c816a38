/* The board-side process: takes requests from one host, loads kernels and runs them.
 *
 *   worker --shared FD [--ime]                         requests on fd 0, replies on fd 1, memory is a mapping of FD;
 *                                                      --ime: run smt.vmadot where it is illegal
 *   worker --listen [ADDRESS:]PORT [--memory BYTES] [--isa STRING]
 *                                                      serves each TCP connection in a process of its own
 *
 * --listen runs whatever code a client sends: it binds to 127.0.0.1 unless told otherwise. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "torch_rvv.h"
#include "torch_rvv_worker.h"

/* fault.c */
void faults_report(void (*send)(int32_t status, const void *head, uint64_t head_bytes, const void *data, uint64_t bytes));
/* grid.c */
const char *grid_run(const struct run *r, torch_rvv_kernel function, const torch_rvv_context *common,
                     uint64_t scratch_bytes, const uint64_t *args, int32_t *status);
/* ime.c */
void ime_emulate(void);
/* memory.c */
int64_t memory_bias(void);
void memory_lend(int on);
void memory_return(void);
/* listen.c */
int listen_on(const char *where);
/* machine.c */
uint32_t machine_vlen(void);
const char *machine_isa(void);
/* kernels.c */
const char *kernel_load(const void *binary, uint64_t bytes, uint32_t *number);
const torch_rvv_kernel_descriptor *kernel_get(uint32_t number, torch_rvv_kernel *function);

enum { PAGE = 4096 };
static int in_fd, out_fd;
static uint8_t *memory;
static uint64_t memory_bytes;

static void put(const void *data, uint64_t bytes) {
  const uint8_t *p = data;
  while (bytes) {
    ssize_t n = write(out_fd, p, bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) _exit(3);
    p += n;
    bytes -= (uint64_t)n;
  }
}

static int get(void *data, uint64_t bytes) {
  uint8_t *p = data;
  while (bytes) {
    ssize_t n = read(in_fd, p, bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return 0;
    p += n;
    bytes -= (uint64_t)n;
  }
  return 1;
}

/* Threads print while others do, or fault. */
static pthread_mutex_t speaking = PTHREAD_MUTEX_INITIALIZER;

static void reply(int32_t status, const void *head, uint64_t head_bytes, const void *data, uint64_t bytes) {
  struct reply r = {status, 0, head_bytes + bytes};
  pthread_mutex_lock(&speaking);
  put(&r, sizeof r);
  put(head, head_bytes);
  put(data, bytes);
  pthread_mutex_unlock(&speaking);
}

static void print(const torch_rvv_context *context, uint32_t number, uint32_t x, uint32_t y, uint32_t z,
                  const void *data, uint64_t bytes) {
  struct printed head = {number, {x, y, z}};
  (void)context;
  reply(STATUS_PRINTED, &head, sizeof head, data, bytes);
}

/* Nobody else reads requests while a kernel runs. */
int page_from_host(uint64_t address, uint8_t *into) {
  struct request r;
  reply(STATUS_PAGE, &address, sizeof address, NULL, 0);
  if (!get(&r, sizeof r) || r.op != OP_PAGE) _exit(3);
  return r.bytes == PAGE && get(into, PAGE);
}

void page_to_host(uint64_t address, const uint8_t *held, const uint8_t *now) {
  uint8_t both[2 * PAGE];
  memcpy(both, held, PAGE);
  memcpy(both + PAGE, now, PAGE);
  reply(STATUS_CHANGED, &address, sizeof address, both, sizeof both);
}

static void reply_error(const char *text) { reply(STATUS_ERROR, NULL, 0, text, strlen(text)); }

static int inside(uint64_t offset, uint64_t bytes) { return offset <= memory_bytes && bytes <= memory_bytes - offset; }

static void do_load(const uint8_t *payload, uint64_t bytes) {
  uint32_t number;
  torch_rvv_kernel function;
  const char *error = kernel_load(payload, bytes, &number);
  if (error) return reply_error(error);
  const torch_rvv_kernel_descriptor *d = kernel_get(number, &function);
  struct loaded head = {number, d->num_args, d->min_vlen, 0};
  size_t name = strlen(d->name) + 1, signature = strlen(d->signature) + 1, isa = strlen(d->isa) + 1;
  char *text = malloc(name + signature + isa);
  if (!text) return reply_error("out of memory");
  memcpy(text, d->name, name);
  memcpy(text + name, d->signature, signature);
  memcpy(text + name + signature, d->isa, isa);
  reply(0, &head, sizeof head, text, name + signature + isa);
  free(text);
}

static void do_run(const uint8_t *payload, uint64_t bytes) {
  struct run r;
  if (bytes < sizeof r) return reply_error("a short request");
  memcpy(&r, payload, sizeof r);
  torch_rvv_kernel function;
  const torch_rvv_kernel_descriptor *d = kernel_get(r.kernel, &function);
  if (!d || bytes != sizeof r + 9ull * r.num_args) return reply_error("a bad request");
  uint64_t *args = malloc(8ull * r.num_args + 8);
  if (!args) return reply_error("out of memory");
  memcpy(args, payload + sizeof r, 8ull * r.num_args);
  const uint8_t *is_pointer = payload + sizeof r + 8ull * r.num_args;
  for (uint32_t i = 0; i < r.num_args; i++)
    if (is_pointer[i]) args[i] += (uint64_t)memory;
  int32_t status = 0;
  memory_lend(r.borrow != 0);
  for (uint32_t i = 0; r.borrow && i < r.num_args; i++)
    if (is_pointer[i]) args[i] += (uint64_t)memory_bias() - (uint64_t)memory; /* those are the host's */
  torch_rvv_context common = {.print = print, .address_bias = memory_bias()};
  const char *error = grid_run(&r, function, &common, d->scratch_bytes, args, &status);
  memory_return();
  memory_lend(0);
  free(args);
  if (error) return reply_error(error);
  reply(status, NULL, 0, NULL, 0);
}

static void do_read(const uint8_t *payload, uint64_t bytes) {
  uint64_t range[2];
  if (bytes != sizeof range) return reply_error("a bad request");
  memcpy(range, payload, sizeof range);
  if (!inside(range[0], range[1])) return reply_error("a read outside of the memory");
  reply(0, NULL, 0, memory + range[0], range[1]);
}

static void do_protect(const uint8_t *payload, uint64_t bytes) {
  struct protect p;
  for (uint64_t at = 0; at + sizeof p <= bytes; at += sizeof p) {
    memcpy(&p, payload + at, sizeof p);
    if (!inside(p.offset, p.bytes)) return reply_error("a range outside of the memory");
    if (mprotect(memory + p.offset, p.bytes, (int)p.prot)) return reply_error(strerror(errno));
  }
  reply(0, NULL, 0, NULL, 0);
}

/* Straight into the memory, without a buffer in between. Nothing answers, so a bad one ends the session. */
static int do_write(uint64_t bytes) {
  uint64_t offset;
  if (bytes < sizeof offset || !get(&offset, sizeof offset)) return 0;
  return inside(offset, bytes - sizeof offset) && get(memory + offset, bytes - sizeof offset);
}

static void (*const operations[])(const uint8_t *, uint64_t) = {
    [OP_LOAD] = do_load, [OP_RUN] = do_run, [OP_READ] = do_read, [OP_PROTECT] = do_protect};

/* Ends the process when the host is gone, even while a kernel runs for ever. (PR_SET_PDEATHSIG would not do: it
 * fires when the thread that started this process ends.) */
static void *watch(void *parent) {
  struct pollfd watched = {.fd = in_fd, .events = POLLRDHUP};
  for (;;) {
    if (poll(&watched, 1, 500) > 0 && watched.revents & (POLLHUP | POLLRDHUP | POLLERR | POLLNVAL)) _exit(0);
    if ((pid_t)(intptr_t)parent != getppid()) _exit(0);
  }
  return NULL;
}

static int serve(const char *isa) {
  pthread_t watcher;
  faults_report(reply);
  if (pthread_create(&watcher, NULL, watch, (void *)(intptr_t)getppid())) return 2;
  long threads = sysconf(_SC_NPROCESSORS_ONLN);
  struct hello h = {TORCH_RVV_PROTOCOL, TORCH_RVV_ABI_VERSION, machine_vlen(), threads < 1 ? 1 : (uint32_t)threads,
                    (uint32_t)sysconf(_SC_PAGESIZE), 0, memory_bytes, (uint64_t)memory};
  reply(0, &h, sizeof h, isa, strlen(isa));
  struct request r;
  while (get(&r, sizeof r)) {
    if (r.op == OP_WRITE) {
      if (!do_write(r.bytes)) break;
      continue;
    }
    uint8_t *payload = malloc(r.bytes + 1);
    if (!payload || !get(payload, r.bytes)) break;
    if (r.op < sizeof operations / sizeof *operations && operations[r.op]) operations[r.op](payload, r.bytes);
    else reply_error("an unknown request");
    free(payload);
  }
  return 0;
}

static int fail(const char *what) {
  fprintf(stderr, "worker: %s: %s\n", what, strerror(errno));
  return 2;
}

static int shared(const char *fd) {
  struct stat status;
  int memory_fd = atoi(fd);
  signal(SIGINT, SIG_IGN); /* Ctrl-C is for the host; its worker ends with it. */
  if (fstat(memory_fd, &status)) return fail("the shared memory");
  memory_bytes = (uint64_t)status.st_size;
  memory = mmap(NULL, memory_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory_fd, 0);
  if (memory == MAP_FAILED) return fail("the shared memory");
  close(memory_fd);
  in_fd = 0;
  out_fd = dup(1);
  dup2(2, 1); /* what a kernel prints must not get between replies */
  return serve(machine_isa());
}

static int connected(const char *where, const char *isa) {
  in_fd = out_fd = listen_on(where);
  if (in_fd < 0) return fail("--listen");
  prctl(PR_SET_PDEATHSIG, SIGKILL); /* the parent is the listener, which has one thread */
  memory = mmap(NULL, memory_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return fail("--memory");
  return serve(isa ? isa : machine_isa());
}

int main(int argc, char **argv) {
  const char *where = NULL, *isa = NULL;
  long pages = sysconf(_SC_PHYS_PAGES);
  memory_bytes = (uint64_t)(pages < 1 ? 1 : pages) * (uint64_t)sysconf(_SC_PAGESIZE) / 2;
  if (argc == 4 && !strcmp(argv[3], "--ime")) ime_emulate(), argc--;
  if (argc == 3 && !strcmp(argv[1], "--shared")) return shared(argv[2]);
  for (int i = 1; i + 1 < argc; i += 2) {
    if (!strcmp(argv[i], "--listen")) where = argv[i + 1];
    else if (!strcmp(argv[i], "--isa")) isa = argv[i + 1];
    else if (!strcmp(argv[i], "--memory")) memory_bytes = strtoull(argv[i + 1], NULL, 0);
    else where = NULL, i = argc;
  }
  if (where && argc % 2 && memory_bytes) return connected(where, isa);
  fprintf(stderr, "usage: %s --shared FD | --listen [ADDRESS:]PORT [--memory BYTES] [--isa STRING]\n", argv[0]);
  return 2;
}
