/* Pages of the host's memory, lent for the time of a run: for kernels that get addresses as integers.
 *
 * The host's address A is at A + BIAS here, where neither this process nor the emulator under it has anything. A
 * page is asked for when it is first touched, and what the kernel changed in it goes back at the end. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "torch_rvv_worker.h"

/* User addresses lie below 2^47, most near 0x55... and 0x7f...: these come to lie near 0x25... and 0x4f... */
enum { PAGE = 4096 };
static const int64_t BIAS = -0x300000000000ll;

struct page { uint64_t at; uint8_t held[PAGE]; struct page *next; };
static struct page *pages;
static int lending;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* main.c */
int page_from_host(uint64_t address, uint8_t *into);
void page_to_host(uint64_t address, const uint8_t *held, const uint8_t *now);

int64_t memory_bias(void) { return lending ? BIAS : 0; }

void memory_lend(int on) { lending = on; }

static int is_there(uint64_t at) {
  for (struct page *p = pages; p; p = p->next)
    if (p->at == at) return 1;
  return 0;
}

/* Called in a fault handler: whether the access at an address can be tried again. */
int memory_fault(uint64_t address) {
  uint64_t at = address / PAGE * PAGE;
  if (!lending) return 0;
  pthread_mutex_lock(&lock);
  int done = is_there(at);
  struct page *page = done ? NULL : malloc(sizeof *page);
  /* Filled elsewhere, then moved there in one step: other threads must not find a page that is not yet filled. */
  void *filled = page ? mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) : MAP_FAILED;
  if (filled != MAP_FAILED && page_from_host(at - (uint64_t)BIAS, page->held)) {
    memcpy(filled, page->held, PAGE);
    if (mremap(filled, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)at) == (void *)at) {
      page->at = at;
      page->next = pages;
      pages = page;
      done = 1;
    }
  }
  if (!done && filled != MAP_FAILED) munmap(filled, PAGE);
  if (!done) free(page);
  pthread_mutex_unlock(&lock);
  return done;
}

/* After a run: what has changed goes back, and all pages are given up. */
void memory_return(void) {
  while (pages) {
    struct page *page = pages;
    if (memcmp(page->held, (void *)page->at, PAGE)) page_to_host(page->at - (uint64_t)BIAS, page->held, (void *)page->at);
    munmap((void *)page->at, PAGE);
    pages = page->next;
    free(page);
  }
}
