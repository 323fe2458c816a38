/* What the machine under this process is. */
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static sigjmp_buf no_vector;

static void on_illegal(int number) { siglongjmp(no_vector, number); }

/* VLEN in bits, 0 without the vector extension. Register 0xc22 is vlenb; asking is the test that works on every
 * kernel and emulator. */
uint32_t machine_vlen(void) {
  struct sigaction action = {.sa_handler = on_illegal}, before;
  volatile uint64_t bytes = 0;
  sigaction(SIGILL, &action, &before);
  if (!sigsetjmp(no_vector, 1)) {
    uint64_t value;
    __asm__ volatile("csrr %0, 0xc22" : "=r"(value));
    bytes = value;
  }
  sigaction(SIGILL, &before, NULL);
  return (uint32_t)(bytes * 8);
}

/* The ISA string of /proc/cpuinfo ("rv64imafdcv_zba_..."), "" where there is none. */
const char *machine_isa(void) {
  static char line[4096];
  FILE *file = fopen("/proc/cpuinfo", "r");
  char *isa = NULL;
  while (file && !isa && fgets(line, sizeof line, file))
    if (!strncmp(line, "isa", 3)) isa = strstr(line, "rv64");
  if (file) fclose(file);
  if (!isa) return "";
  isa[strcspn(isa, " \t\n")] = 0;
  return isa;
}
