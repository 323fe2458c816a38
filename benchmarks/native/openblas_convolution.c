/* Convolutions by OpenBLAS: the values below each output side by side (im2col), then a product for each group. A filter of
 * one element and stride 1 has them there already. */
#include <stdlib.h>
#include <string.h>

#include "convolution.h"
#include "openblas.h"

static float *allocate(index_t count) {
  float *made = malloc((size_t)count * sizeof *made);
  if (!made) abort();
  return made;
}

/* A row of values `step` apart; zeros where the range ends. */
static inline void copy_row(float *R to, const float *R from, struct range range, index_t n, index_t step, index_t offset) {
  index_t count = range.end - range.begin;
  memset(to, 0, (size_t)range.begin * sizeof *to);
  memset(to + range.end, 0, (size_t)(n - range.end) * sizeof *to);
  to += range.begin;
  from += range.begin * step + offset;
  if (step == 1)
    memcpy(to, from, (size_t)count * sizeof *to);
  else
    for (index_t i = 0; i < count; i++) to[i] = from[i * step];
}

/* Channels first: each element of a filter has a row of the product's right side, with all outputs. */
void convolution(CONVOLUTION) {
  index_t rows = output_size(height, kernel_height, stride_y, padding_y);
  index_t columns = output_size(width, kernel_width, stride_x, padding_x), pixels = rows * columns;
  index_t each = channels / groups, made = filters / groups, depth = each * kernel_height * kernel_width;
  int there = kernel_height * kernel_width == 1 && stride_x * stride_y == 1 && !padding_x && !padding_y;
  float *side = there ? NULL : allocate(depth * pixels);
  for (index_t i = 0; i < images; i++)
    for (index_t g = 0; g < groups; g++) {
      const float *image = in + (i * channels + g * each) * height * width;
      float *result = out + (i * filters + g * made) * pixels, *to = side;
      for (index_t c = 0; !there && c < each; c++)
        for (index_t ky = 0; ky < kernel_height; ky++)
          for (index_t kx = 0; kx < kernel_width; kx++, to += pixels) {
            struct range ys = reach(rows, height, stride_y, ky - padding_y);
            struct range xs = reach(columns, width, stride_x, kx - padding_x);
            memset(to, 0, (size_t)(ys.begin * columns) * sizeof *to);
            memset(to + ys.end * columns, 0, (size_t)((rows - ys.end) * columns) * sizeof *to);
            for (index_t y = ys.begin; y < ys.end; y++)
              copy_row(to + y * columns, image + (c * height + y * stride_y + ky - padding_y) * width, xs, columns, stride_x,
                       kx - padding_x);
          }
      for (index_t o = 0; bias && o < made; o++)
        for (index_t p = 0; p < pixels; p++) result[o * pixels + p] = bias[g * made + o];
      multiply(result, pixels, w + g * made * depth, 0, depth, there ? image : side, 0, pixels, made, pixels, depth, 1.0f,
               bias ? 1.0f : 0.0f);
    }
  free(side);
}

/* Channels last, also of filters: each output has a row of the product's left side. */
void convolution_last(CONVOLUTION) {
  index_t rows = output_size(height, kernel_height, stride_y, padding_y);
  index_t columns = output_size(width, kernel_width, stride_x, padding_x), pixels = rows * columns;
  index_t each = channels / groups, made = filters / groups, depth = each * kernel_height * kernel_width;
  int there = kernel_height * kernel_width == 1 && stride_x * stride_y == 1 && !padding_x && !padding_y;
  size_t pixel = (size_t)each * sizeof *in;
  float *side = there ? NULL : allocate(depth * pixels);
  for (index_t i = 0; i < images; i++)
    for (index_t g = 0; g < groups; g++) {
      const float *image = in + i * height * width * channels + g * each;
      float *result = out + i * pixels * filters + g * made, *to = side;
      for (index_t y = 0; !there && y < rows; y++)
        for (index_t x = 0; x < columns; x++)
          for (index_t ky = 0; ky < kernel_height; ky++) {
            index_t row = y * stride_y + ky - padding_y, column = x * stride_x - padding_x;
            struct range kxs = reach(kernel_width, width, 1, column);
            if (row < 0 || row >= height) kxs.begin = kxs.end = 0;
            const float *from = image + (row * width + column + kxs.begin) * channels;
            memset(to, 0, (size_t)kxs.begin * pixel);
            to += kxs.begin * each;
            if (groups == 1) {
              memcpy(to, from, (size_t)(kxs.end - kxs.begin) * pixel);
              to += (kxs.end - kxs.begin) * each;
            } else {
              for (index_t kx = kxs.begin; kx < kxs.end; kx++, to += each, from += channels)
                for (index_t c = 0; c < each; c++) to[c] = from[c];
            }
            memset(to, 0, (size_t)(kernel_width - kxs.end) * pixel);
            to += (kernel_width - kxs.end) * each;
          }
      for (index_t p = 0; bias && p < pixels; p++) memcpy(result + p * filters, bias + g * made, (size_t)made * sizeof *bias);
      multiply(result, filters, there ? image : side, 0, there ? channels : depth, w + g * made * depth, 1, depth, pixels,
               made, depth, 1.0f, bias ? 1.0f : 0.0f);
    }
  free(side);
}
