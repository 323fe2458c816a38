/* Products, convolutions and attention as anyone would write them in C, in the orders of loops that compilers vectorise.
 * Arguments are described in benchmarks/peers/plain_c.py; T as in plain.c. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "convolution.h"
#include "element.h"

#ifdef HALF_TO_FLOAT
/* A product of row-major matrices, summed in single precision. */
void case_matmul(T *R out, const T *R a, const T *R b, index_t m, index_t n, index_t k) {
  float *R sums = malloc((size_t)n * sizeof *sums);
  if (!sums) abort();
  for (index_t i = 0; i < m; i++) {
    for (index_t j = 0; j < n; j++) sums[j] = 0;
    for (index_t p = 0; p < k; p++) {
      float x = widen(a[i * k + p]);
      for (index_t j = 0; j < n; j++) sums[j] += x * widen(b[p * n + j]);
    }
    for (index_t j = 0; j < n; j++) out[i * n + j] = narrow(sums[j]);
  }
  free(sums);
}

/* a times the transpose of b, which has n rows. */
void case_linear(T *R out, const T *R a, const T *R b, index_t m, index_t n, index_t k) {
  for (index_t i = 0; i < m; i++)
    for (index_t j = 0; j < n; j++) {
      float sum = 0;
      for (index_t p = 0; p < k; p++) sum += widen(a[i * k + p]) * widen(b[j * k + p]);
      out[i * n + j] = narrow(sum);
    }
}
#else
void case_matmul(float *R out, const float *R a, const float *R b, index_t m, index_t n, index_t k) {
  for (index_t i = 0; i < m; i++) {
    for (index_t j = 0; j < n; j++) out[i * n + j] = 0;
    for (index_t p = 0; p < k; p++)
      for (index_t j = 0; j < n; j++) out[i * n + j] += a[i * k + p] * b[p * n + j];
  }
}

void case_bmm(float *R out, const float *R a, const float *R b, index_t batch, index_t m, index_t n, index_t k) {
  for (index_t i = 0; i < batch; i++) case_matmul(out + i * m * n, a + i * m * k, b + i * k * n, m, n, k);
}

/* a times the transpose of b, which has n rows. */
void case_linear(float *R out, const float *R a, const float *R b, index_t m, index_t n, index_t k) {
  for (index_t i = 0; i < m; i++)
    for (index_t j = 0; j < n; j++) {
      float sum = 0;
      for (index_t p = 0; p < k; p++) sum += a[i * k + p] * b[j * k + p];
      out[i * n + j] = sum;
    }
}

/* A product of 8-bit integers. */
void case_int_mm(int32_t *R out, const int8_t *R a, const int8_t *R b, index_t m, index_t n, index_t k) {
  for (index_t i = 0; i < m; i++) {
    for (index_t j = 0; j < n; j++) out[i * n + j] = 0;
    for (index_t p = 0; p < k; p++)
      for (index_t j = 0; j < n; j++) out[i * n + j] += a[i * k + p] * b[p * n + j];
  }
}

/* y += a * x. */
static inline void add_row(float *R y, const float *R x, float a, index_t n) {
  for (index_t i = 0; i < n; i++) y[i] += a * x[i];
}

/* y[i] += the sum of w[t] * x[i * step + t]: three at a time, so that y is not read and written for each. */
static inline void add_taps_by(float *R y, const float *R x, const float *R w, index_t taps, index_t n, index_t step) {
  for (; taps >= 3; taps -= 3, w += 3, x += 3)
    for (index_t i = 0; i < n; i++) y[i] += w[0] * x[i * step] + w[1] * x[i * step + 1] + w[2] * x[i * step + 2];
  for (; taps > 0; taps--, w++, x++)
    for (index_t i = 0; i < n; i++) y[i] += w[0] * x[i * step];
}

/* The same, with what compilers make of steps that they know. */
static void add_taps(float *R y, const float *R x, const float *R w, index_t taps, index_t n, index_t step) {
  if (step == 1) add_taps_by(y, x, w, taps, n, 1);
  else if (step == 2) add_taps_by(y, x, w, taps, n, 2);
  else add_taps_by(y, x, w, taps, n, step);
}

/* A copy of planes with zeros around. */
static float *padded(const float *R in, index_t planes, index_t height, index_t width, index_t above, index_t left) {
  index_t wide = width + 2 * left, size = (height + 2 * above) * wide;
  float *made = calloc((size_t)(planes * size), sizeof *made);
  if (!made) abort();
  for (index_t p = 0; p < planes; p++)
    for (index_t y = 0; y < height; y++)
      memcpy(made + p * size + (y + above) * wide + left, in + (p * height + y) * width, (size_t)width * sizeof *made);
  return made;
}

/* Channels first. Each row of a filter adds multiples of the image's rows to the output's rows. With stride 1 all rows of
 * the image are one long row, and what is computed between the output's rows is left out in the end. */
void case_conv(CONVOLUTION) {
  index_t rows = output_size(height, kernel_height, stride_y, padding_y);
  index_t columns = output_size(width, kernel_width, stride_x, padding_x), each = channels / groups;
  index_t wide = width + 2 * padding_x, tall = height + 2 * padding_y;
  int is_long = stride_x == 1 && stride_y == 1, is_padded = padding_x || padding_y;
  index_t apart = is_long ? wide : columns; /* from one row of the sums to the next */
  float *sums = malloc((size_t)(rows * apart) * sizeof *sums);
  if (!sums) abort();
  for (index_t i = 0; i < images; i++) {
    const float *image = in + i * channels * height * width;
    if (is_padded) image = padded(image, channels, height, width, padding_y, padding_x);
    for (index_t o = 0; o < filters; o++) {
      float *plane = out + (i * filters + o) * rows * columns, *to = apart == columns ? plane : sums;
      float shift = bias ? bias[o] : 0;
      for (index_t p = 0; p < rows * apart; p++) to[p] = to == plane ? shift : 0;
      for (index_t c = 0; c < each; c++)
        for (index_t ky = 0; ky < kernel_height; ky++) {
          const float *x = image + ((o / (filters / groups) * each + c) * tall + ky) * wide;
          const float *taps = w + ((o * each + c) * kernel_height + ky) * kernel_width;
          if (is_long) {
            add_taps(to, x, taps, kernel_width, (rows - 1) * wide + columns, 1);
            continue;
          }
          for (index_t y = 0; y < rows; y++)
            add_taps(to + y * columns, x + y * stride_y * wide, taps, kernel_width, columns, stride_x);
        }
      if (to != plane)
        for (index_t y = 0; y < rows; y++)
          for (index_t x = 0; x < columns; x++) plane[y * columns + x] = sums[y * wide + x] + shift;
    }
    if (is_padded) free((void *)image);
  }
  free(sums);
}

/* Channels last, a filter a channel: the channels of a pixel are a row. */
void depthwise_last(CONVOLUTION) {
  index_t rows = output_size(height, kernel_height, stride_y, padding_y);
  index_t columns = output_size(width, kernel_width, stride_x, padding_x), taps = kernel_height * kernel_width;
  float *R filter = malloc((size_t)(taps * channels) * sizeof *filter);
  if (!filter || filters != channels || groups != channels) abort();
  for (index_t t = 0; t < taps; t++)
    for (index_t c = 0; c < channels; c++) filter[t * channels + c] = w[c * taps + t];
  for (index_t i = 0; i < images; i++)
    for (index_t y = 0; y < rows; y++)
      for (index_t x = 0; x < columns; x++) {
        float *R pixel = out + ((i * rows + y) * columns + x) * channels;
        for (index_t c = 0; c < channels; c++) pixel[c] = bias ? bias[c] : 0;
        struct range kys = reach(kernel_height, height, 1, y * stride_y - padding_y);
        struct range kxs = reach(kernel_width, width, 1, x * stride_x - padding_x);
        for (index_t ky = kys.begin; ky < kys.end; ky++)
          for (index_t kx = kxs.begin; kx < kxs.end; kx++) {
            const float *v = in + ((i * height + y * stride_y + ky - padding_y) * width + x * stride_x + kx - padding_x) * channels;
            const float *f = filter + (ky * kernel_width + kx) * channels;
            for (index_t c = 0; c < channels; c++) pixel[c] += v[c] * f[c];
          }
      }
  free(filter);
}

/* softmax(q k^T / sqrt(width)) v for each of `heads`. With several queries the keys are transposed first, for then the
 * scores of a query are sums of rows. */
void case_attention(float *R out, const float *R q, const float *R k, const float *R v, index_t heads, index_t length,
                    index_t keys, index_t width) {
  float *R turned = malloc((size_t)(keys * width) * sizeof *turned), *R scores = malloc((size_t)keys * sizeof *scores);
  if (!turned || !scores) abort();
  float scale = 1.0f / sqrtf((float)width);
  for (index_t h = 0; h < heads; h++, k += keys * width, v += keys * width) {
    if (length > 1)
      for (index_t p = 0; p < width; p++)
        for (index_t j = 0; j < keys; j++) turned[p * keys + j] = k[j * width + p];
    for (index_t i = 0; i < length; i++, q += width, out += width) {
      float most = -INFINITY, sum = 0;
      if (length > 1) {
        memset(scores, 0, (size_t)keys * sizeof *scores);
        for (index_t p = 0; p < width; p++) add_row(scores, turned + p * keys, scale * q[p], keys);
      } else {
        for (index_t j = 0; j < keys; j++) {
          float dot = 0;
          for (index_t p = 0; p < width; p++) dot += q[p] * k[j * width + p];
          scores[j] = dot * scale;
        }
      }
      for (index_t j = 0; j < keys; j++) most = scores[j] > most ? scores[j] : most;
      for (index_t j = 0; j < keys; j++) sum += scores[j] = expf(scores[j] - most);
      for (index_t p = 0; p < width; p++) out[p] = 0;
      for (index_t j = 0; j < keys; j++) add_row(out, v + j * width, scores[j] / sum, width);
    }
  }
  free(turned);
  free(scores);
}
#endif
