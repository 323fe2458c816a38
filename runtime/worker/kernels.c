/* The kernels that were loaded, by number. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "torch_rvv.h"

static struct kernel { torch_rvv_kernel function; const torch_rvv_kernel_descriptor *descriptor; } *kernels;
static uint32_t num_kernels, room;

/* NULL for a number that was never given out. */
const torch_rvv_kernel_descriptor *kernel_get(uint32_t number, torch_rvv_kernel *function) {
  if (number >= num_kernels) return NULL;
  *function = kernels[number].function;
  return kernels[number].descriptor;
}

static int write_all(int fd, const uint8_t *p, uint64_t bytes) {
  while (bytes) {
    ssize_t n = write(fd, p, bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return 0;
    p += n;
    bytes -= (uint64_t)n;
  }
  return 1;
}

static void *open_library(const void *binary, uint64_t bytes, const char **error) {
  static char text[512];
  const char *folder = getenv("TMPDIR");
  char path[4096];
  snprintf(path, sizeof path, "%s/torch_rvv_XXXXXX", folder && *folder ? folder : "/tmp");
  int fd = mkstemp(path);
  if (fd < 0 || !write_all(fd, binary, bytes)) {
    snprintf(text, sizeof text, "cannot write the kernel to %.200s: %s", path, strerror(errno));
    *error = text;
    if (fd >= 0) close(fd), unlink(path);
    return NULL;
  }
  close(fd);
  void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!handle) *error = dlerror();
  unlink(path);
  return handle;
}

/* Returns NULL and the kernel's number, or what is wrong with it. */
const char *kernel_load(const void *binary, uint64_t bytes, uint32_t *number) {
  static char text[96];
  const char *error = NULL;
  if (num_kernels == room) {
    struct kernel *grown = realloc(kernels, (room * 2 + 64) * sizeof *grown);
    if (!grown) return "out of memory";
    kernels = grown;
    room = room * 2 + 64;
  }
  void *handle = open_library(binary, bytes, &error);
  if (!handle) return error;
  const torch_rvv_kernel_descriptor *d = dlsym(handle, "torch_rvv_descriptor");
  torch_rvv_kernel function = NULL;
  if (!d) error = "no torch_rvv_descriptor in the file";
  else if (d->abi_version != TORCH_RVV_ABI_VERSION) {
    snprintf(text, sizeof text, "ABI version %u, this worker speaks %u", d->abi_version, TORCH_RVV_ABI_VERSION);
    error = text;
  } else if (!(function = (torch_rvv_kernel)dlsym(handle, d->name)))
    error = "the descriptor names a kernel that is not in the file";
  if (error) {
    dlclose(handle);
    return error;
  }
  kernels[num_kernels] = (struct kernel){function, d};
  *number = num_kernels++;
  return NULL;
}
