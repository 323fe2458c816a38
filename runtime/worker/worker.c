/* The board-side process: loads kernels, runs their grids on a thread pool, reports faults.
 *
 * Requests come on fd 0, replies go out on a copy of fd 1 (prints of anything else go to stderr). Both
 * are a header and a payload, in the machine's byte order:
 *   request  { u32 op, u32 bytes }   reply  { i32 status, u32 bytes }
 * LOAD  payload: path of a .so                  reply: descriptor fields, then its three strings
 * RUN   payload: struct run, args, pointer flags  reply: the kernel's status
 * status: 0 or more is the kernel's own; ERROR and FAULT bring a text. After a FAULT the process ends.
 * Tensor memory is one shared mapping, given as a file descriptor; pointers travel as offsets into it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <ucontext.h>
#include <unistd.h>

#include "torch_rvv.h"

enum { LOAD = 1, RUN = 2 };
enum { ERROR = -1, FAULT = -2 };
enum { MAX_KERNELS = 65536, MAX_THREADS = 64, STACK_BYTES = 8 << 20, CHUNKS_PER_THREAD = 8 };

struct header { uint32_t op, bytes; };
struct reply { int32_t status; uint32_t bytes; };
struct run { uint32_t kernel, threads, grid[3], num_args; };

static struct { torch_rvv_kernel function; uint64_t scratch_bytes; } kernels[MAX_KERNELS];
static uint32_t num_kernels;
static uint8_t *pool;
static int out_fd;

static void send_all(const void *data, size_t bytes) {
  const uint8_t *p = data;
  while (bytes) {
    ssize_t n = write(out_fd, p, bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) _exit(3);
    p += n;
    bytes -= (size_t)n;
  }
}

static void reply(int32_t status, const void *data, uint32_t bytes) {
  struct reply r = {status, bytes};
  send_all(&r, sizeof r);
  send_all(data, bytes);
}

static void reply_error(const char *text) { reply(ERROR, text, (uint32_t)strlen(text)); }

static int receive(void *data, size_t bytes) {
  uint8_t *p = data;
  while (bytes) {
    ssize_t n = read(0, p, bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return 0;
    p += n;
    bytes -= (size_t)n;
  }
  return 1;
}

/* A fault in a kernel: say what and where, then end. Runs on its own stack. */
static void on_fault(int number, siginfo_t *info, void *context) {
  uint64_t pc = ((ucontext_t *)context)->uc_mcontext.__gregs[0];
  Dl_info where;
  char text[256];
  const char *symbol = "?";
  uint64_t offset = 0;
  if (dladdr((void *)pc, &where) && where.dli_sname) {
    symbol = where.dli_sname;
    offset = pc - (uint64_t)where.dli_saddr;
  }
  int n = snprintf(text, sizeof text, "%d %llx %llx %s+0x%llx", number, (unsigned long long)info->si_addr,
                   (unsigned long long)pc, symbol, (unsigned long long)offset);
  reply(FAULT, text, n < (int)sizeof text ? (uint32_t)n : (uint32_t)sizeof text - 1);
  _exit(128 + number);
}

static void fault_stack(void) {
  stack_t stack = {.ss_sp = malloc(65536), .ss_size = 65536};
  sigaltstack(&stack, NULL);
}

/* ---- the grid over threads ---- */

static struct {
  torch_rvv_kernel function;
  const uint64_t *args;
  uint32_t grid[3];
  uint64_t total, chunk;
  atomic_uint_fast64_t next;
  atomic_int status;
  uint64_t scratch_bytes;
  uint32_t num_threads;
} job;
static struct { void *scratch; uint64_t bytes; } scratches[MAX_THREADS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t start = PTHREAD_COND_INITIALIZER, finish = PTHREAD_COND_INITIALIZER;
static uint64_t generation;
static uint32_t running, pool_threads = 1;

static int reserve(uint32_t thread, uint64_t bytes) {
  if (scratches[thread].bytes >= bytes) return 1;
  free(scratches[thread].scratch);
  bytes = (bytes + 63) / 64 * 64;
  scratches[thread].scratch = aligned_alloc(64, bytes);
  scratches[thread].bytes = scratches[thread].scratch ? bytes : 0;
  return scratches[thread].scratch != NULL;
}

static void work(uint32_t thread) {
  torch_rvv_context context = {scratches[thread].scratch, scratches[thread].bytes, thread, job.num_threads};
  while (!atomic_load(&job.status)) {
    uint64_t begin = atomic_fetch_add(&job.next, job.chunk);
    if (begin >= job.total) return;
    uint64_t end = begin + job.chunk < job.total ? begin + job.chunk : job.total;
    int32_t status = job.function(job.args, job.grid, begin, end, &context);
    int none = 0;
    if (status) atomic_compare_exchange_strong(&job.status, &none, status);
  }
}

static void *thread_main(void *argument) {
  uint32_t thread = (uint32_t)(uintptr_t)argument;
  uint64_t seen = 0;
  fault_stack();
  pthread_mutex_lock(&lock);
  for (;;) {
    while (generation == seen || thread >= job.num_threads) {
      seen = generation;
      pthread_cond_wait(&start, &lock);
    }
    seen = generation;
    pthread_mutex_unlock(&lock);
    work(thread);
    pthread_mutex_lock(&lock);
    if (--running == 0) pthread_cond_signal(&finish);
  }
  return NULL;
}

static int grow_pool(uint32_t threads) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, STACK_BYTES);
  for (; pool_threads < threads; pool_threads++) {
    pthread_t thread;
    if (pthread_create(&thread, &attributes, thread_main, (void *)(uintptr_t)pool_threads)) return 0;
  }
  return 1;
}

static void run(const uint8_t *payload, uint32_t bytes) {
  struct run r;
  if (bytes < sizeof r) return reply_error("a short request");
  memcpy(&r, payload, sizeof r);
  if (r.kernel >= num_kernels || bytes != sizeof r + 9ull * r.num_args) return reply_error("a bad request");
  uint64_t *args = malloc(8ull * r.num_args + 8);
  memcpy(args, payload + sizeof r, 8ull * r.num_args);
  const uint8_t *pointer = payload + sizeof r + 8ull * r.num_args;
  for (uint32_t i = 0; i < r.num_args; i++)
    if (pointer[i]) args[i] += (uint64_t)pool;
  job.function = kernels[r.kernel].function;
  job.args = args;
  memcpy(job.grid, r.grid, sizeof job.grid);
  job.total = (uint64_t)r.grid[0] * r.grid[1] * r.grid[2];
  uint32_t threads = r.threads < 1 ? 1 : r.threads > MAX_THREADS ? MAX_THREADS : r.threads;
  if (threads > job.total) threads = job.total ? (uint32_t)job.total : 1;
  for (uint32_t t = 0; t < threads; t++)
    if (!reserve(t, kernels[r.kernel].scratch_bytes + 64)) {
      free(args);
      return reply_error("out of memory for a kernel's scratch buffers");
    }
  if (!grow_pool(threads)) {
    free(args);
    return reply_error("cannot start a thread");
  }
  job.chunk = job.total / ((uint64_t)threads * CHUNKS_PER_THREAD);
  if (job.chunk < 1) job.chunk = 1;
  atomic_store(&job.next, 0);
  atomic_store(&job.status, 0);
  pthread_mutex_lock(&lock);
  job.num_threads = threads;
  running = threads - 1;
  generation++;
  if (running) pthread_cond_broadcast(&start);
  pthread_mutex_unlock(&lock);
  work(0);
  pthread_mutex_lock(&lock);
  while (running) pthread_cond_wait(&finish, &lock);
  pthread_mutex_unlock(&lock);
  free(args);
  reply(atomic_load(&job.status), NULL, 0);
}

static void load(const uint8_t *payload, uint32_t bytes) {
  char path[4096];
  if (bytes >= sizeof path || num_kernels == MAX_KERNELS) return reply_error("too many kernels, or too long a path");
  memcpy(path, payload, bytes);
  path[bytes] = 0;
  void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!handle) return reply_error(dlerror());
  const torch_rvv_kernel_descriptor *d = dlsym(handle, "torch_rvv_descriptor");
  if (!d) return reply_error("no torch_rvv_descriptor in the file");
  if (d->abi_version != TORCH_RVV_ABI_VERSION) {
    char text[96];
    snprintf(text, sizeof text, "ABI version %u, this worker speaks %u", d->abi_version, TORCH_RVV_ABI_VERSION);
    return reply_error(text);
  }
  kernels[num_kernels].function = (torch_rvv_kernel)dlsym(handle, d->name);
  if (!kernels[num_kernels].function) return reply_error("the descriptor names a kernel that is not in the file");
  kernels[num_kernels].scratch_bytes = d->scratch_bytes;
  size_t name = strlen(d->name) + 1, signature = strlen(d->signature) + 1, isa = strlen(d->isa) + 1;
  uint32_t fields[4] = {num_kernels, d->num_args, d->min_vlen, 0};
  uint32_t total = (uint32_t)(sizeof fields + name + signature + isa);
  uint8_t *out = malloc(total);
  memcpy(out, fields, sizeof fields);
  memcpy(out + sizeof fields, d->name, name);
  memcpy(out + sizeof fields + name, d->signature, signature);
  memcpy(out + sizeof fields + name + signature, d->isa, isa);
  num_kernels++;
  reply(0, out, total);
  free(out);
}

int main(int argc, char **argv) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (argc != 2) return 2;
  int pool_fd = atoi(argv[1]);
  struct stat status;
  if (fstat(pool_fd, &status)) return 2;
  pool = mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, pool_fd, 0);
  if (pool == MAP_FAILED) return 2;
  out_fd = dup(1);
  dup2(2, 1);
  fault_stack();
  struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
  int signals[] = {SIGSEGV, SIGILL, SIGBUS, SIGFPE, SIGABRT, SIGTRAP};
  for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) sigaction(signals[i], &action, NULL);
  reply(0, NULL, 0);
  struct header h;
  while (receive(&h, sizeof h)) {
    uint8_t *payload = malloc(h.bytes + 1);
    if (!payload || !receive(payload, h.bytes)) break;
    if (h.op == LOAD) load(payload, h.bytes);
    else if (h.op == RUN) run(payload, h.bytes);
    else reply_error("an unknown request");
    free(payload);
  }
  return 0;
}
