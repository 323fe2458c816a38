/* Kernels of the C ABI for device tests; WHICH names the one that a build holds. */
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

#define KERNEL(name)                                                                                      \
  int32_t name(const uint64_t *args, const uint32_t grid[3], uint64_t begin, uint64_t end,                \
               const torch_rvv_context *context)

#if WHICH == 0
/* out[i] = a[i] + b[i] over blocks of 64; args: a, b, out, n */
KERNEL(kernel) {
  const float *a = (const float *)args[0], *b = (const float *)args[1];
  float *out = (float *)args[2];
  uint64_t n = args[3];
  for (uint64_t p = begin; p < end; p++)
    for (uint64_t i = p * 64; i < p * 64 + 64 && i < n; i++) out[i] = a[i] + b[i];
  return 0;
}
#define ARGS 4
#elif WHICH == 1
KERNEL(kernel) { *(volatile int *)16 = 1; return 0; }
#define ARGS 0
#elif WHICH == 2
KERNEL(kernel) { __asm__ volatile(".word 0xffffffff"); return 0; }
#define ARGS 0
#elif WHICH == 3
KERNEL(kernel) { for (;;) __asm__ volatile(""); }
#define ARGS 0
#elif WHICH == 4
/* Status 5 from program 77, and the program ids of a 3-D grid counted in args[0]. */
KERNEL(kernel) {
  for (uint64_t p = begin; p < end; p++) {
    uint64_t x = p % grid[0], y = p / grid[0] % grid[1], z = p / ((uint64_t)grid[0] * grid[1]);
    ((int32_t *)args[0])[p] = (int32_t)(x + 100 * y + 10000 * z);
    if (p == args[1]) return 5;
  }
  return 0;
}
#define ARGS 2
#elif WHICH == 5
/* Uses all of its scratch. */
KERNEL(kernel) {
  uint8_t *s = context->scratch;
  for (uint64_t i = 0; i < 1000000; i++) s[i] = (uint8_t)i;
  return ((uint64_t)s & 63) || s[999999] != (uint8_t)999999;
}
#define ARGS 0
#define SCRATCH 1000000
#endif

#ifndef SCRATCH
#define SCRATCH 0
#endif
const torch_rvv_kernel_descriptor torch_rvv_descriptor = {ABI, ARGS, MIN_VLEN, 0, SCRATCH, "kernel", "", ISA};
