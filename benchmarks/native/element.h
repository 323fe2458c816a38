/* T: the element type of compiled C, arithmetic in float. bfloat16 is done with integers: compilers' own type calls a
 * function for each conversion. */
#ifndef TORCH_RVV_ELEMENT_H
#define TORCH_RVV_ELEMENT_H
#include <stdint.h>

#ifdef BFLOAT16
#define T uint16_t
static inline float widen(T x) {
  union { uint32_t bits; float value; } u = {(uint32_t)x << 16};
  return u.value;
}
static inline T narrow(float x) {
  union { float value; uint32_t bits; } u = {x};
  uint32_t rounded = (u.bits + 0x7fff + (u.bits >> 16 & 1)) >> 16;
  return (T)(x != x ? 0x7fc0 : rounded);
}
#else
#ifndef T
#define T float
#endif
#define widen(x) ((float)(x))
#define narrow(x) ((T)(x))
#endif
typedef int64_t index_t;
#define R restrict
#endif
