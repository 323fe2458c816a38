/* A grid over threads: chunks of programs, taken from one counter, so that uneven programs even out. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

#include "torch_rvv.h"
#include "torch_rvv_worker.h"

enum { MAX_THREADS = 64, STACK_BYTES = 8 << 20, CHUNKS_PER_THREAD = 8 };
int fault_stack(void);

static struct {
  torch_rvv_kernel function;
  torch_rvv_context common;
  const uint64_t *args;
  const uint32_t *grid;
  uint64_t total, chunk;
  atomic_uint_fast64_t next;
  atomic_int status; /* the first that is not 0 */
  uint32_t threads;
} job;
static struct { void *memory; uint64_t bytes; } scratch[MAX_THREADS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t start = PTHREAD_COND_INITIALIZER, finish = PTHREAD_COND_INITIALIZER;
static uint64_t number;                   /* of the job */
static uint32_t running, num_threads = 1; /* this thread is number 0 */

static void work(uint32_t thread) {
  torch_rvv_context context = job.common;
  context.scratch = scratch[thread].memory;
  context.scratch_bytes = scratch[thread].bytes;
  context.thread = thread;
  context.num_threads = job.threads;
  while (!atomic_load(&job.status)) {
    uint64_t begin = atomic_fetch_add(&job.next, job.chunk);
    if (begin >= job.total) return;
    uint64_t end = job.total - begin > job.chunk ? begin + job.chunk : job.total;
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
    while (number == seen || thread >= job.threads) {
      seen = number;
      pthread_cond_wait(&start, &lock);
    }
    seen = number;
    pthread_mutex_unlock(&lock);
    work(thread);
    pthread_mutex_lock(&lock);
    if (--running == 0) pthread_cond_signal(&finish);
  }
  return NULL;
}

/* Scratch memory of a thread; the spare bytes keep `memory` a pointer when a kernel wants none. */
static int grow_scratch(uint32_t thread, uint64_t bytes) {
  bytes = (bytes + 64 + 63) / 64 * 64;
  if (scratch[thread].bytes >= bytes) return 1;
  free(scratch[thread].memory);
  scratch[thread].memory = aligned_alloc(64, bytes);
  scratch[thread].bytes = scratch[thread].memory ? bytes : 0;
  return scratch[thread].memory != NULL;
}

static int grow_threads(uint32_t threads) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, STACK_BYTES);
  int ok = 1;
  for (; ok && num_threads < threads; num_threads += (uint32_t)ok) {
    pthread_t thread;
    ok = !pthread_create(&thread, &attributes, thread_main, (void *)(uintptr_t)num_threads);
  }
  pthread_attr_destroy(&attributes);
  return ok;
}

/* common: what all threads' contexts share. Returns NULL and the kernel's status, or what went wrong before it ran. */
const char *grid_run(const struct run *r, torch_rvv_kernel function, const torch_rvv_context *common,
                     uint64_t scratch_bytes, const uint64_t *args, int32_t *status) {
  uint64_t plane, total;
  if (__builtin_mul_overflow((uint64_t)r->grid[0], r->grid[1], &plane) ||
      __builtin_mul_overflow(plane, r->grid[2], &total) || total >> 62)
    return "the grid is too large";
  uint32_t threads = r->threads < 1 ? 1 : r->threads > MAX_THREADS ? MAX_THREADS : r->threads;
  if (threads > total) threads = total ? (uint32_t)total : 1;
  for (uint32_t t = 0; t < threads; t++)
    if (!grow_scratch(t, scratch_bytes)) return "out of memory for a kernel's scratch buffers";
  if (!grow_threads(threads)) return "cannot start a thread";
  pthread_mutex_lock(&lock);
  job.function = function;
  job.common = *common;
  job.args = args;
  job.grid = r->grid;
  job.total = total;
  job.chunk = total / ((uint64_t)threads * CHUNKS_PER_THREAD);
  if (job.chunk < 1) job.chunk = 1;
  atomic_store(&job.next, 0);
  atomic_store(&job.status, 0);
  job.threads = threads;
  running = threads - 1;
  number++;
  if (running) pthread_cond_broadcast(&start);
  pthread_mutex_unlock(&lock);
  work(0);
  pthread_mutex_lock(&lock);
  while (running) pthread_cond_wait(&finish, &lock);
  pthread_mutex_unlock(&lock);
  *status = atomic_load(&job.status);
  return NULL;
}
