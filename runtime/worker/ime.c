/* SpacemiT's smt.vmadot, for an emulator that does not know it: run where the instruction is illegal.
 *
 * At VLEN 256, vs1 holds a 4 x 8 matrix A of bytes and vs2 a 4 x 8 matrix B; the pair vd, vd + 1 holds a 4 x 4 matrix
 * of 32-bit integers, to which A * transposed(B) is added. funct3 says which of A and B have signs. Whole-register
 * loads and stores depend on neither vl nor vtype; this file and the C library have no vector code of their own, so
 * the registers are the kernel's. */
#include <stdint.h>
#include <string.h>

enum { VLEN_BYTES = 32, REGISTERS = 32 };
static int emulated;

void ime_emulate(void) {
  unsigned long bytes;
  __asm__(".option push\n.option arch, +v\ncsrr %0, vlenb\n.option pop" : "=r"(bytes));
  emulated = bytes == VLEN_BYTES;
}

static int32_t element(const uint8_t *matrix, int row, int k, int has_sign) {
  uint8_t byte = matrix[row * 8 + k];
  return has_sign ? (int8_t)byte : byte;
}

/* Whether a word was one of these instructions; then it is done. */
int ime_run(uint32_t word) {
  if (!emulated || (word & 0x7f) != 0x2b || word >> 25 != 0x71 || (word >> 12 & 7) > 3 || word >> 7 & 1) return 0;
  _Alignas(64) uint8_t file[REGISTERS][VLEN_BYTES];
  __asm__ volatile(
      ".option push\n.option arch, +v\n"
      "vs8r.v v0, (%0)\nvs8r.v v8, (%1)\nvs8r.v v16, (%2)\nvs8r.v v24, (%3)\n.option pop" ::"r"(file[0]),
      "r"(file[8]), "r"(file[16]), "r"(file[24])
      : "memory");
  /* 0: both unsigned, 1: A unsigned, 2: B unsigned, 3: both signed */
  int kind = word >> 12 & 3, a_sign = kind >= 2, b_sign = kind & 1;
  const uint8_t *a = file[word >> 15 & 31], *b = file[word >> 20 & 31];
  int32_t c[4][4];
  memcpy(c, file[word >> 7 & 31], sizeof c);
  for (int i = 0; i < 4; i++)
    for (int j = 0; j < 4; j++)
      for (int k = 0; k < 8; k++)
        c[i][j] = (int32_t)((uint32_t)c[i][j] + (uint32_t)(element(a, i, k, a_sign) * element(b, j, k, b_sign)));
  memcpy(file[word >> 7 & 31], c, sizeof c);
  __asm__ volatile(
      ".option push\n.option arch, +v\n"
      "vl8re8.v v0, (%0)\nvl8re8.v v8, (%1)\nvl8re8.v v16, (%2)\nvl8re8.v v24, (%3)\n.option pop" ::"r"(file[0]),
      "r"(file[8]), "r"(file[16]), "r"(file[24])
      : "memory");
  return 1;
}
