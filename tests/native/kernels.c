/* Kernels of the C ABI for device tests; a build defines the name of the one that it holds. */
#include "torch_rvv.h"

#ifndef ABI
#define ABI TORCH_RVV_ABI_VERSION
#endif
#ifndef ISA
#define ISA "rv64imafdcv"
#endif
#ifndef MIN_VLEN
#define MIN_VLEN 128
#endif
#define SCRATCH 0
#define KERNEL                                                                                            \
  int32_t kernel(const uint64_t *args, const uint32_t grid[3], uint64_t begin, uint64_t end,              \
                 const torch_rvv_context *context)

#if defined(ADD)
/* out[i] = a[i] + b[i] over blocks of 64; args: a, b, out, n */
#define ARGS 4
KERNEL {
  const float *a = (const float *)args[0], *b = (const float *)args[1];
  float *out = (float *)args[2];
  uint64_t n = args[3];
  for (uint64_t p = begin; p < end; p++)
    for (uint64_t i = p * 64; i < p * 64 + 64 && i < n; i++) out[i] = a[i] + b[i];
  return 0;
}
#elif defined(SEGV)
#define ARGS 0
KERNEL { *(volatile int *)16 = 1; return 0; }
#elif defined(ILL)
#define ARGS 0
KERNEL { __asm__ volatile(".word 0xffffffff"); return 0; }
#elif defined(SPIN)
#define ARGS 0
KERNEL { for (;;) __asm__ volatile(""); }
#elif defined(STATUS)
/* The program ids of a 3-D grid in out; status 5 from program n. args: out, n */
#define ARGS 2
KERNEL {
  for (uint64_t p = begin; p < end; p++) {
    uint64_t x = p % grid[0], y = p / grid[0] % grid[1], z = p / ((uint64_t)grid[0] * grid[1]);
    ((int32_t *)args[0])[p] = (int32_t)(x + 100 * y + 10000 * z);
    if (p == args[1]) return 5;
  }
  return 0;
}
#elif defined(USES_SCRATCH)
/* Fills all of its scratch with the thread's number and reads it again. args: seen[num_threads] */
#undef SCRATCH
#define SCRATCH 1000000
#define ARGS 1
KERNEL {
  volatile uint8_t *s = context->scratch;
  uint8_t own = (uint8_t)(context->thread + 1);
  if ((uint64_t)s & 63 || context->scratch_bytes < SCRATCH || context->thread >= context->num_threads) return 1;
  for (uint64_t i = 0; i < SCRATCH; i++) s[i] = own;
  for (uint64_t i = 0; i < SCRATCH; i++)
    if (s[i] != own) return 2;
  ((int32_t *)args[0])[context->thread] = 1;
  return 0;
}
#elif defined(STACK)
/* Needs 4 MiB of stack. */
#define ARGS 0
KERNEL {
  volatile uint8_t big[4 << 20];
  for (uint64_t i = 0; i < sizeof big; i += 1024) big[i] = 1;
  return big[1024] != 1;
}
#elif defined(OVERFLOW)
/* Runs out of stack. */
#define ARGS 0
static int64_t deep(volatile int64_t n) { volatile int64_t room[512]; room[0] = n; return deep(n + 1) + room[0]; }
KERNEL { return (int32_t)deep(0); }
#elif defined(CHATTY)
#define ARGS 0
int puts(const char *text);
int fflush(void *file);
KERNEL { puts("this is not a reply"); fflush(0); return 0; }
#elif defined(SLOTS)
/* out[i] = the slot of argument i + 1. args: out, ... */
#define ARGS 6
KERNEL {
  for (int i = 1; i < ARGS; i++) ((uint64_t *)args[0])[i - 1] = args[i];
  return 0;
}
#elif defined(STRAY)
/* Reads (how = 0) or writes (1) the byte at data + at. args: data, at, how */
#define ARGS 3
KERNEL {
  volatile uint8_t *p = (volatile uint8_t *)(args[0] + args[1]);
  if (args[2]) *p = 1; else (void)*p;
  return 0;
}
#elif defined(ALIGNMENT)
/* The arguments' addresses modulo 64 in out. args: a, b, out */
#define ARGS 3
KERNEL {
  ((int32_t *)args[2])[0] = (int32_t)(args[0] % 64);
  ((int32_t *)args[2])[1] = (int32_t)(args[1] % 64);
  return 0;
}
#elif defined(NOWHERE)
#define ARGS 0
#define NAME "elsewhere"
KERNEL { return 0; }
#endif

#ifndef NAME
#define NAME "kernel"
#endif
const torch_rvv_kernel_descriptor torch_rvv_descriptor = {ABI, ARGS, MIN_VLEN, 0, SCRATCH, NAME, "", ISA};
