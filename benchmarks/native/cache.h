/* Two levels of cache, least recently used, write-back and write-allocate: how many lines move, not when. */
#ifndef TORCH_RVV_CACHE_H
#define TORCH_RVV_CACHE_H
#include <stdint.h>

enum { LINE_SHIFT = 6, MAX_WAYS = 16, MAX_SETS = 1024 };

struct cache {
  uint32_t sets, ways;
  uint64_t misses, writebacks;
  struct { uint64_t line; uint8_t valid, dirty; } way[MAX_SETS][MAX_WAYS]; /* most recent first */
  struct cache *next;
};

/* An access to a line of a cache. A miss asks the next level for it, and gives that one the dirty line it drops. */
static void cache_access(struct cache *c, uint64_t line, int store, int counting) {
  __typeof__(&c->way[0][0]) way = c->way[line % c->sets];
  uint32_t at = 0;
  while (at < c->ways && !(way[at].valid && way[at].line == line)) at++;
  int hit = at < c->ways, dirty = hit && way[at].dirty;
  if (!hit) {
    at = c->ways - 1;
    if (c->next) cache_access(c->next, line, 0, counting);
    c->misses += (uint64_t)counting;
    if (way[at].valid && way[at].dirty) {
      if (c->next) cache_access(c->next, way[at].line, 1, counting);
      c->writebacks += (uint64_t)counting;
    }
  }
  for (; at > 0; at--) way[at] = way[at - 1];
  way[0].line = line;
  way[0].valid = 1;
  way[0].dirty = (uint8_t)(dirty || store);
}
#endif
