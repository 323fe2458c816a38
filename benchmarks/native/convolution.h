/* What the convolutions of plain_products.c and openblas_convolution.c share: their arguments, and which part of an output
 * row a filter's element reaches. Sizes are numbers of elements; without a bias it is NULL. */
#ifndef TORCH_RVV_CONVOLUTION_H
#define TORCH_RVV_CONVOLUTION_H
#include "element.h"

#define CONVOLUTION                                                                                                    \
  float *R out, const float *R in, const float *R w, const float *R bias, index_t images, index_t channels,            \
      index_t height, index_t width, index_t filters, index_t kernel_height, index_t kernel_width, index_t stride_y,   \
      index_t stride_x, index_t padding_y, index_t padding_x, index_t groups

static inline index_t output_size(index_t size, index_t kernel, index_t stride, index_t padding) {
  return (size + 2 * padding - kernel) / stride + 1;
}

/* The outputs begin .. end - 1 whose input, position * stride + offset, is one of `size`. */
struct range { index_t begin, end; };
static inline struct range reach(index_t outputs, index_t size, index_t stride, index_t offset) {
  index_t begin = offset < 0 ? (-offset + stride - 1) / stride : 0;
  index_t end = size > offset ? (size - 1 - offset) / stride + 1 : 0;
  end = end < outputs ? end : outputs;
  return (struct range){begin < end ? begin : end, end};
}
#endif
