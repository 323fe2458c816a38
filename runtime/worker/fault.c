/* A fault in a kernel: tell the host what and where, then end. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#include "torch_rvv_worker.h"

/* memory.c */
int memory_fault(uint64_t address);
/* ime.c */
int ime_run(uint32_t word);

enum { STACK_BYTES = 64 << 10 };
static void (*report)(int32_t, const void *, uint64_t, const void *, uint64_t);

/* Threads often fault together, over the same bug: the first one reports, the others wait for the end. */
static void on_fault(int number, siginfo_t *info, void *context) {
  unsigned long *pc = &((ucontext_t *)context)->uc_mcontext.__gregs[0];
  if (number == SIGILL && !(*pc & 1)) {
    uint32_t word; /* an instruction may stand on any even address */
    memcpy(&word, (void *)*pc, sizeof word);
    if (ime_run(word)) {
      *pc += sizeof word;
      return;
    }
  }
  if (number == SIGSEGV && memory_fault((uint64_t)info->si_addr)) return;
  static atomic_flag taken = ATOMIC_FLAG_INIT;
  if (atomic_flag_test_and_set(&taken))
    for (;;) pause();
  struct fault f = {(uint32_t)number, 0, (uint64_t)info->si_addr, ((ucontext_t *)context)->uc_mcontext.__gregs[0]};
  Dl_info where;
  char text[256] = "?";
  int n = 1;
  if (dladdr((void *)f.pc, &where) && where.dli_sname)
    n = snprintf(text, sizeof text, "%s+0x%llx", where.dli_sname, (unsigned long long)(f.pc - (uint64_t)where.dli_saddr));
  report(STATUS_FAULT, &f, sizeof f, text, n < (int)sizeof text ? (uint64_t)n : sizeof text - 1);
  _exit(128 + number);
}

/* A thread's own stack for the handler: a kernel may have run out of the thread's. */
int fault_stack(void) {
  stack_t stack = {.ss_sp = malloc(STACK_BYTES), .ss_size = STACK_BYTES};
  return stack.ss_sp && !sigaltstack(&stack, NULL);
}

void faults_report(void (*send)(int32_t, const void *, uint64_t, const void *, uint64_t)) {
  report = send;
  fault_stack();
  struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
  const int signals[] = {SIGSEGV, SIGILL, SIGBUS, SIGFPE, SIGABRT, SIGTRAP};
  for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) sigaction(signals[i], &action, NULL);
}
