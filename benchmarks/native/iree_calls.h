/* Calls of functions in a static library of IREE, as its own runtime makes them: the structures of version 6 of its executable
 * library interface, as far as they are used here. One workgroup after another. */
#ifndef TORCH_RVV_IREE_CALLS_H
#define TORCH_RVV_IREE_CALLS_H
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

enum { IREE_LIBRARY_VERSION = 6, IREE_LOCAL_BYTES = 1 << 20 };

struct dispatch_state {
  uint32_t workgroup_size_x, workgroup_size_y;
  uint16_t workgroup_size_z, constant_count;
  uint32_t workgroup_count_x, workgroup_count_y;
  uint16_t workgroup_count_z;
  uint8_t max_concurrency, binding_count;
  const uint32_t *constants;
  void *const *binding_ptrs;
  const size_t *binding_lengths;
};

struct workgroup_state {
  uint32_t x, y;
  uint16_t z, reserved;
  uint32_t processor;
  void *local_memory;
  uint32_t local_memory_size;
};

struct library {
  const void *header;
  uint32_t import_count;
  const char *const *imports;
  uint32_t export_count;
  int (*const *exports)(const void *environment, const struct dispatch_state *, const struct workgroup_state *);
};

static void call(const struct library **query(uint32_t, const void *), unsigned ordinal, uint32_t x, uint32_t y, uint32_t z,
                 const uint32_t *constants, unsigned constant_count, void *const *pointers, const size_t *sizes,
                 unsigned binding_count) {
  static uint64_t environment[128], local[IREE_LOCAL_BYTES / 8];
  const struct library *library = (const struct library *)query(IREE_LIBRARY_VERSION, environment);
  if (!library || ordinal >= library->export_count) abort();
  struct dispatch_state state = {1, 1, 1, (uint16_t)constant_count, x, y, (uint16_t)z, 1, (uint8_t)binding_count,
                                 constants, pointers, sizes};
  for (uint32_t k = 0; k < z; k++)
    for (uint32_t j = 0; j < y; j++)
      for (uint32_t i = 0; i < x; i++) {
        struct workgroup_state group = {i, j, (uint16_t)k, 0, 0, local, sizeof local};
        if (library->exports[ordinal](environment, &state, &group)) abort();
      }
}
#endif
