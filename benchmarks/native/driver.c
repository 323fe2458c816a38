/* Runs the steps that a job file lists, one thread, once to warm up and once with its calls between markers (markers.h).
 *
 *   driver JOB
 *
 * A job's lines; offsets and sizes in bytes, in the job's one piece of memory:
 *   memory SIZE                            first
 *   fill OFFSET SIZE FILE                  a step that is not counted
 *   kernel FILE X Y Z COUNT ARGUMENT...    a .so of torch_rvv.h's C ABI, over its whole grid
 *   call FILE SYMBOL COUNT ARGUMENT...     a C function of at most 16 pointers and integers
 *   save OFFSET SIZE FILE                  at the end
 * An argument is "@OFFSET", a pointer into the memory, or a number in hexadecimal. The memory stands at the same address each
 * time, so that what depends on alignment or on caches does not change from run to run. */
#include <dlfcn.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "markers.h"
#include "torch_rvv.h"

enum { MAX_STEPS = 8192, MAX_FILES = 4096, MAX_ARGUMENTS = 64, MAX_CALL = 16, PATH = 1024 };
static const uintptr_t MEMORY_ADDRESS = 0x4000000000u;
typedef void (*function)(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                         uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);

struct file { uint64_t offset, size; char path[PATH]; };
static struct step {
  struct file *fill;       /* one of these three */
  torch_rvv_kernel kernel;
  function call;
  uint32_t grid[3];
  uint64_t args[MAX_ARGUMENTS];
  torch_rvv_context context;
} steps[MAX_STEPS];
static struct file fills[MAX_FILES], saves[MAX_FILES];
static unsigned num_steps, num_fills, num_saves;
static char *memory;

static void fail(const char *what, const char *which) {
  fprintf(stderr, "driver: %s: %s\n", what, which);
  exit(2);
}

static void *symbol_of(const char *path, const char *name) {
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!library) fail("cannot load", dlerror());
  void *found = dlsym(library, name);
  if (!found) fail("no such symbol", name);
  return found;
}

static void read_arguments(FILE *job, struct step *step, unsigned most) {
  unsigned count;
  char text[64];
  if (fscanf(job, "%u", &count) != 1 || count > most) fail("a step's arguments", "too many");
  for (unsigned i = 0; i < count; i++) {
    if (fscanf(job, "%63s", text) != 1) fail("a step's arguments", "too few");
    step->args[i] = text[0] == '@' ? (uint64_t)(uintptr_t)memory + strtoull(text + 1, NULL, 10) : strtoull(text, NULL, 16);
  }
}

static void read_kernel(FILE *job) {
  struct step *s = &steps[num_steps++];
  char path[PATH];
  if (fscanf(job, "%1023s %u %u %u", path, &s->grid[0], &s->grid[1], &s->grid[2]) != 4) fail("a line of the job", "kernel");
  const torch_rvv_kernel_descriptor *d = symbol_of(path, "torch_rvv_descriptor");
  if (d->abi_version != TORCH_RVV_ABI_VERSION) fail("another ABI version", path);
  s->kernel = (torch_rvv_kernel)symbol_of(path, d->name);
  uint64_t bytes = (d->scratch_bytes + 64 + 63) / 64 * 64;
  s->context = (torch_rvv_context){aligned_alloc(64, bytes), bytes, 0, 1};
  if (!s->context.scratch) fail("out of memory", path);
  read_arguments(job, s, MAX_ARGUMENTS);
}

static void read_call(FILE *job) {
  struct step *s = &steps[num_steps++];
  char path[PATH], name[PATH];
  if (fscanf(job, "%1023s %1023s", path, name) != 2) fail("a line of the job", "call");
  s->call = (function)symbol_of(path, name);
  read_arguments(job, s, MAX_CALL);
}

static void read_file(FILE *job, struct file *f, const char *kind) {
  if (fscanf(job, "%" SCNu64 " %" SCNu64 " %1023s", &f->offset, &f->size, f->path) != 3) fail("a line of the job", kind);
}

static void read_job(const char *path) {
  FILE *job = fopen(path, "r");
  char kind[16];
  uint64_t size;
  if (!job) fail("cannot read", path);
  if (fscanf(job, " memory %" SCNu64, &size) != 1) fail("a job starts with its memory", path);
  memory = mmap((void *)MEMORY_ADDRESS, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  if (memory == MAP_FAILED) fail("out of memory", path);
  while (fscanf(job, "%15s", kind) == 1) {
    if (num_steps == MAX_STEPS || num_fills == MAX_FILES || num_saves == MAX_FILES) fail("too long", path);
    if (!strcmp(kind, "kernel")) read_kernel(job);
    else if (!strcmp(kind, "call")) read_call(job);
    else if (!strcmp(kind, "fill")) read_file(job, steps[num_steps++].fill = &fills[num_fills++], kind);
    else if (!strcmp(kind, "save")) read_file(job, &saves[num_saves++], kind);
    else fail("a line of the job", kind);
  }
  fclose(job);
}

static void transfer(const struct file *f, int save) {
  FILE *file = fopen(f->path, save ? "wb" : "rb");
  if (!file) fail("cannot open", f->path);
  uint64_t done = save ? fwrite(memory + f->offset, 1, f->size, file) : fread(memory + f->offset, 1, f->size, file);
  if (done != f->size || fclose(file)) fail("cannot read or write all of", f->path);
}

static int32_t run(struct step *s) {
  const uint64_t *a = s->args;
  if (s->kernel) return s->kernel(a, s->grid, 0, (uint64_t)s->grid[0] * s->grid[1] * s->grid[2], &s->context);
  s->call(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11], a[12], a[13], a[14], a[15]);
  return 0;
}

/* Not part of the caller, so that what is counted is the call and what it does. */
static int32_t __attribute__((noinline)) run_counted(struct step *s) {
  COUNT_STACK();
  COUNT_START();
  int32_t status = run(s);
  COUNT_STOP();
  return status;
}

int main(int argc, char **argv) {
  if (argc != 2) fail("usage", "driver JOB");
  read_job(argv[1]);
  for (int counted = 0; counted < 2; counted++)
    for (struct step *s = steps; s < steps + num_steps; s++) {
      if (s->fill) transfer(s->fill, 0);
      else if (counted ? run_counted(s) : run(s)) fail("an assertion failed in", "a kernel");
    }
  for (unsigned i = 0; i < num_saves; i++) transfer(&saves[i], 1);
  return 0;
}
