/* Instructions that do nothing (slti x0, x0, N: a hint), by which a program tells profile.c what to count. */
#ifndef TORCH_RVV_MARKERS_H
#define TORCH_RVV_MARKERS_H

enum { MARK_START = 0x7e0, MARK_STOP = 0x7e1, MARK_STACK = 0x7e2 };

/* Count from here; from here no more. Each such pair has counts of its own. */
#define COUNT_START() __asm__ volatile("slti x0, x0, 0x7e0" ::: "memory")
#define COUNT_STOP() __asm__ volatile("slti x0, x0, 0x7e1" ::: "memory")
/* The store behind the marker is to the top of the stack: what lies below is the stack of what is called next. */
#define COUNT_STACK() __asm__ volatile("slti x0, x0, 0x7e2\n\tsd x0, -8(sp)" ::: "memory")
#endif
