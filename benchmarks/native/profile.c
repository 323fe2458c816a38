/* An emulator plug-in (qemu-user, riscv64): which pieces of straight-line code a program executes between its markers, how
 * often, and under which vtype; what they load and store; how much of that is the stack; and how many cache lines move.
 *
 *   qemu-riscv64 -plugin profile.so,out=FILE program
 *
 * For each pair of a start and a stop marker, one line a fact:
 *   block ADDRESS VTYPE COUNT CODE   code executed COUNT times, in hex; VTYPE on entry: SEW (log2 of bytes) * 8 + LMUL
 *                                    (vlmul of the RVV specification), or 64 if a vsetvl took it from a register
 *   spill KIND COUNT                 instructions that touched the stack of what is counted: vector or scalar
 *   memory WHAT COUNT                bytes and accesses (of elements); lines by level of cache
 *   end                              of what belongs to this pair
 *
 * Nothing is sampled: two runs of a program that does the same give the same lines. Programs of one thread only. What kind of
 * instructions these are is for the reader of the file to say (benchmarks/instructions.py). */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache.h"
#include "markers.h"
#include "qemu_plugin.h"

QEMU_EXPORT int qemu_plugin_version = QEMU_INTERFACE;

enum { VTYPES = 65, UNKNOWN_VTYPE = 64, STACK_BYTES = 8 << 20 };

/* A piece of a translated block: all of its instructions execute, or none. */
struct piece {
  uint64_t address, counts[VTYPES];
  uint32_t bytes;
  uint8_t *code;
  struct piece *next;
};

static struct piece *pieces;
static unsigned vtype = UNKNOWN_VTYPE;
static int counting, expect_stack, fresh_vector;
static uint64_t stack_top, spills[2]; /* vector, scalar */
static uint64_t bytes[2], accesses[2];         /* loads, stores */
static struct cache l1, l2;
static FILE *out;

static void enter(unsigned cpu, void *user) {
  struct piece *p = user;
  (void)cpu;
  p->counts[vtype] += (uint64_t)counting;
}

/* Write what was counted, and start again from nothing. */
static void finish_region(void) {
  for (struct piece *p = pieces; p; p = p->next)
    for (unsigned v = 0; v < VTYPES; v++) {
      if (!p->counts[v]) continue;
      fprintf(out, "block %" PRIx64 " %u %" PRIu64 " ", p->address, v, p->counts[v]);
      for (uint32_t i = 0; i < p->bytes; i++) fprintf(out, "%02x", p->code[i]);
      fputc('\n', out);
      p->counts[v] = 0;
    }
  struct { const char *name; uint64_t *count; } facts[] = {
      {"spill vector", &spills[0]}, {"spill scalar", &spills[1]},
      {"memory load_bytes", &bytes[0]}, {"memory store_bytes", &bytes[1]},
      {"memory loads", &accesses[0]}, {"memory stores", &accesses[1]},
      {"memory l1_misses", &l1.misses}, {"memory l1_writebacks", &l1.writebacks},
      {"memory l2_misses", &l2.misses}, {"memory l2_writebacks", &l2.writebacks},
  };
  for (unsigned i = 0; i < sizeof facts / sizeof *facts; i++) {
    fprintf(out, "%s %" PRIu64 "\n", facts[i].name, *facts[i].count);
    *facts[i].count = 0;
  }
  fprintf(out, "end\n");
}

static void set_vtype(unsigned cpu, void *user) {
  (void)cpu;
  vtype = (unsigned)(uintptr_t)user;
}

static void mark(unsigned cpu, void *user) {
  (void)cpu;
  switch ((uintptr_t)user) {
    case MARK_START: counting = 1; break;
    case MARK_STOP:
      if (counting) finish_region();
      counting = 0;
      break;
    case MARK_STACK: expect_stack = 1; break;
  }
}

static void before_vector_memory(unsigned cpu, void *user) {
  (void)cpu, (void)user;
  fresh_vector = 1;
}

/* Once an element for vector instructions; user: NULL for those, else for scalar ones. */
static void on_access(unsigned cpu, qemu_plugin_meminfo_t info, uint64_t address, void *user) {
  (void)cpu;
  unsigned size = 1u << qemu_plugin_mem_size_shift(info);
  int store = qemu_plugin_mem_is_store(info);
  if (expect_stack) {
    stack_top = address;
    expect_stack = 0;
  }
  uint64_t first = address >> LINE_SHIFT, last = (address + size - 1) >> LINE_SHIFT;
  for (uint64_t line = first; line <= last; line++) cache_access(&l1, line, store, counting);
  if (!counting) return;
  bytes[store] += size;
  accesses[store]++;
  if (user || fresh_vector) spills[user ? 1 : 0] += stack_top - address < STACK_BYTES;
  fresh_vector = 0;
}

static int is_vector_memory(uint32_t word, size_t size) {
  unsigned opcode = word & 0x7f, width = word >> 12 & 7;
  return size == 4 && (opcode == 0x07 || opcode == 0x27) && (width == 0 || width >= 5);
}

/* The vtype that a vsetvli or vsetivli asks for, UNKNOWN_VTYPE for vsetvl, -1 for another instruction. */
static int vtype_of(uint32_t word, size_t size) {
  if (size != 4 || (word & 0x7f) != 0x57 || (word >> 12 & 7) != 7) return -1;
  if (!(word >> 31) || word >> 30 == 3) return (int)(word >> 20 & 0x3f);
  return UNKNOWN_VTYPE;
}

static int marker_of(uint32_t word, size_t size) {
  int number = (int)(word >> 20);
  int hint = size == 4 && (word & 0xfffff) == 0x02013;
  return hint && number >= MARK_START && number <= MARK_STACK ? number : 0;
}

static struct piece *new_piece(uint64_t address, size_t room) {
  struct piece *p = calloc(1, sizeof *p);
  if (!p || !(p->code = malloc(room))) abort();
  p->address = address;
  p->next = pieces;
  return pieces = p;
}

static void translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb) {
  (void)id;
  size_t n = qemu_plugin_tb_n_insns(tb);
  struct piece *piece = NULL;
  for (size_t i = 0; i < n; i++) {
    struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(tb, i);
    size_t size = qemu_plugin_insn_size(instruction);
    uint32_t word = 0;
    memcpy(&word, qemu_plugin_insn_data(instruction), size > 4 ? 4 : size);
    int marker = marker_of(word, size), asked = vtype_of(word, size);
    if (marker) { /* counts as nothing, and what follows is a piece of its own */
      qemu_plugin_register_vcpu_insn_exec_cb(instruction, mark, QEMU_PLUGIN_CB_NO_REGS, (void *)(uintptr_t)marker);
      piece = NULL;
      continue;
    }
    if (!piece) {
      piece = new_piece(qemu_plugin_insn_vaddr(instruction), (n - i) * 4);
      qemu_plugin_register_vcpu_insn_exec_cb(instruction, enter, QEMU_PLUGIN_CB_NO_REGS, piece);
    }
    memcpy(piece->code + piece->bytes, &word, size);
    piece->bytes += (uint32_t)size;
    if (asked >= 0)
      qemu_plugin_register_vcpu_insn_exec_cb(instruction, set_vtype, QEMU_PLUGIN_CB_NO_REGS, (void *)(uintptr_t)asked);
    int vector = is_vector_memory(word, size);
    if (vector)
      qemu_plugin_register_vcpu_insn_exec_cb(instruction, before_vector_memory, QEMU_PLUGIN_CB_NO_REGS, NULL);
    qemu_plugin_register_vcpu_mem_cb(instruction, on_access, QEMU_PLUGIN_CB_NO_REGS, QEMU_PLUGIN_MEM_RW,
                                     vector ? NULL : (void *)1);
  }
}

static void finish(qemu_plugin_id_t id, void *user) {
  (void)id, (void)user;
  fclose(out);
}

QEMU_EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv) {
  (void)info;
  for (int i = 0; i < argc; i++)
    if (!strncmp(argv[i], "out=", 4)) out = fopen(argv[i] + 4, "w");
  l1.sets = 64, l1.ways = 8, l1.next = &l2; /* 32 KiB */
  l2.sets = 512, l2.ways = 16;              /* 512 KiB */
  if (!out) {
    fprintf(stderr, "profile: give a file that can be written, as out=FILE\n");
    return -1;
  }
  qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
  qemu_plugin_register_atexit_cb(id, finish, NULL);
  return 0;
}
