/* The C ABI between a compiled kernel (.so) and whoever runs it.
 *
 * A .so holds one kernel and one descriptor. The caller splits the programs of a grid over threads:
 * each thread calls the kernel with its own [begin, end) range and its own context. */
#ifndef TORCH_RVV_H
#define TORCH_RVV_H
#include <stdint.h>

#define TORCH_RVV_ABI_VERSION 1u

/* What a thread brings to a kernel. scratch is aligned to 64 bytes and holds at least the
 * descriptor's scratch_bytes; it belongs to the thread and its contents mean nothing between calls. */
typedef struct torch_rvv_context {
  void *scratch;
  uint64_t scratch_bytes;
  uint32_t thread;      /* index of this thread, 0 .. num_threads-1 */
  uint32_t num_threads;
  /* device_print: what row `number` of the kernel's list of prints says, of program (x, y, z). */
  void (*print)(const struct torch_rvv_context *context, uint32_t number, uint32_t x, uint32_t y, uint32_t z,
                const void *data, uint64_t bytes);
  /* A pointer is the integer that the program knows it by plus this: not 0 where tensors of another process are
   * reached (memory.c). Kernels add it where integers become pointers, and subtract it where pointers become
   * integers. */
  int64_t address_bias;
} torch_rvv_context;

/* Run the programs begin .. end-1 of a grid. Program p has ids
 *   x = p % grid[0],  y = p / grid[0] % grid[1],  z = p / (grid[0] * grid[1]).
 * args: one 64-bit slot an argument: a pointer, or a scalar's exact bits in the low part
 * (f16 and bf16: 16 bits, f32: 32 bits, i1: 0 or 1, narrower integers sign-extended).
 * Returns 0, or k > 0 when the kernel's k-th assertion (numbered from 1) failed. */
typedef int32_t (*torch_rvv_kernel)(const uint64_t *args, const uint32_t grid[3],
                                    uint64_t begin, uint64_t end,
                                    const torch_rvv_context *context);

/* Exported as the symbol "torch_rvv_descriptor". Strings are NUL-terminated and live in the .so. */
typedef struct {
  uint32_t abi_version;   /* TORCH_RVV_ABI_VERSION */
  uint32_t num_args;
  uint32_t min_vlen;      /* bits; the code is right at every VLEN >= this */
  uint32_t reserved;
  uint64_t scratch_bytes; /* per thread */
  const char *name;       /* symbol of the kernel */
  const char *signature;  /* comma-separated argument types: "*fp32,*i64,i32" */
  const char *isa;        /* "rv64imafdcv_zba_..." : every extension the code may use */
} torch_rvv_kernel_descriptor;

#endif
