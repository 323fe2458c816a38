/* What a host and a worker (runtime/worker) say to each other, over two pipes or one TCP connection.
 *
 * Every message is a header and a payload, little-endian. The worker speaks first, with a `hello`. Tensors live
 * in the worker's memory, one range of bytes, and are named by their offset in it: the host decides what
 * stands where. With --shared that memory is a mapping of the host's own; with --listen it is filled by WRITE.
 *
 *   op       payload                                        reply
 *   LOAD     the bytes of a kernel's .so                    `loaded`, then name, signature and isa
 *   RUN      `run`, u64 args[], u8 is_pointer[]             status: the kernel's own, 0 or more; no payload
 *   WRITE    u64 offset, bytes                              none
 *   READ     u64 offset, u64 count                          the bytes
 *   PROTECT  `protect` []                                   no payload
 *
 * status ERROR brings a text. status FAULT brings a `fault` and a text, and is the worker's last message. Before the
 * reply to a RUN there may be others: PRINTED brings a `printed` and its bytes. With `borrow`, PAGE asks for a page
 * of the host's memory (its u64 address), and the host sends a PAGE request: the bytes, or nothing if there is no
 * such page; CHANGED brings the u64 address of a page, what it held, and what it holds now. */
#ifndef TORCH_RVV_WORKER_H
#define TORCH_RVV_WORKER_H
#include <stdint.h>

#define TORCH_RVV_PROTOCOL 3u

enum { OP_LOAD = 1, OP_RUN, OP_WRITE, OP_READ, OP_PROTECT, OP_PAGE };
enum { STATUS_ERROR = -1, STATUS_FAULT = -2, STATUS_PRINTED = -3, STATUS_PAGE = -4, STATUS_CHANGED = -5 };

struct request { uint32_t op, reserved; uint64_t bytes; };
struct reply { int32_t status; uint32_t reserved; uint64_t bytes; };

struct hello {             /* then the ISA string, empty where the system does not tell it */
  uint32_t protocol, abi_version;
  uint32_t vlen;           /* bits */
  uint32_t threads;        /* hardware threads */
  uint32_t page, reserved; /* bytes of a page of memory */
  uint64_t memory_bytes;
  uint64_t memory_address; /* to make sense of the address in a `fault` */
};
struct loaded { uint32_t kernel, num_args, min_vlen, reserved; };
struct run { uint32_t kernel, threads, grid[3], num_args, borrow, reserved; };
struct printed { uint32_t number, program[3]; };
struct protect { uint64_t offset, bytes; uint32_t prot, reserved; }; /* prot: of mmap, 0 for no access */
struct fault { uint32_t signal, reserved; uint64_t address, pc; };   /* then "symbol+0xoffset" */

#endif
