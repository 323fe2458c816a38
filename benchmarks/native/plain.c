/* The cases of the suite `kernels` as anyone would write them in C, for comparison; plain_products.c has the products.
 *
 * Each function is case_NAME(outputs..., inputs..., sizes...); benchmarks/peers/plain_c.py has their arguments. */
#include <math.h>
#include <stdlib.h>

#include "element.h"

/* As in PyTorch, the result is NaN if any argument is. */
static inline float larger(float x, float most) { return x > most || x != x ? x : most; }

#define UNARY(NAME, EXPRESSION)                                   \
  void case_##NAME(T *R out, const T *R in, index_t n) {          \
    for (index_t i = 0; i < n; i++) {                             \
      float x = widen(in[i]);                                       \
      out[i] = narrow(EXPRESSION);                                \
    }                                                             \
  }

UNARY(relu, x < 0 ? 0 : x)
UNARY(exp, expf(x))
UNARY(log, logf(x))
UNARY(sigmoid, 1.0f / (1.0f + expf(-x)))
UNARY(silu, x / (1.0f + expf(-x)))
UNARY(tanh, tanhf(x))
UNARY(gelu, 0.5f * x * (1.0f + erff(x * 0.70710678f)))
UNARY(sin, sinf(x))
UNARY(cos, cosf(x))

void case_copy(T *R out, const T *R in, index_t n) {
  for (index_t i = 0; i < n; i++) out[i] = in[i];
}

void case_add(T *R out, const T *R a, const T *R b, index_t n) {
  for (index_t i = 0; i < n; i++) out[i] = narrow(widen(a[i]) + widen(b[i]));
}

void case_row_sum(T *R out, const T *R in, index_t rows, index_t columns) {
  for (index_t r = 0; r < rows; r++) {
    float sum = 0;
    for (index_t c = 0; c < columns; c++) sum += widen(in[r * columns + c]);
    out[r] = narrow(sum);
  }
}

void case_row_mean(T *R out, const T *R in, index_t rows, index_t columns) {
  for (index_t r = 0; r < rows; r++) {
    float sum = 0;
    for (index_t c = 0; c < columns; c++) sum += widen(in[r * columns + c]);
    out[r] = narrow(sum / (float)columns);
  }
}

void case_row_max(T *R out, const T *R in, index_t rows, index_t columns) {
  for (index_t r = 0; r < rows; r++) {
    float most = -INFINITY;
    for (index_t c = 0; c < columns; c++) {
      float x = widen(in[r * columns + c]);
      most = larger(x, most);
    }
    out[r] = narrow(most);
  }
}

#ifdef HALF_TO_FLOAT /* cast: from T to float; else from float to half and to int */
void case_cast(float *R out, const T *R in, index_t n) {
  for (index_t i = 0; i < n; i++) out[i] = widen(in[i]);
}
#else
#ifdef HAS_HALF
void case_cast(_Float16 *R out, const float *R in, index_t n) {
  for (index_t i = 0; i < n; i++) out[i] = (_Float16)in[i];
}
#endif
void case_cast_i32(int32_t *R out, const float *R in, index_t n) {
  for (index_t i = 0; i < n; i++) out[i] = (int32_t)in[i];
}

void case_softmax(float *R out, const float *R in, index_t rows, index_t columns) {
  for (index_t r = 0; r < rows; r++) {
    const float *x = in + r * columns;
    float *y = out + r * columns, most = -INFINITY, sum = 0;
    for (index_t c = 0; c < columns; c++) most = x[c] > most ? x[c] : most;
    for (index_t c = 0; c < columns; c++) sum += y[c] = expf(x[c] - most);
    for (index_t c = 0; c < columns; c++) y[c] /= sum;
  }
}

void case_layer_norm(float *R out, const float *R in, const float *R w, const float *R b, index_t rows, index_t columns) {
  for (index_t r = 0; r < rows; r++) {
    const float *x = in + r * columns;
    float *y = out + r * columns, sum = 0, squares = 0;
    for (index_t c = 0; c < columns; c++) sum += x[c];
    float mean = sum / (float)columns;
    for (index_t c = 0; c < columns; c++) squares += (x[c] - mean) * (x[c] - mean);
    float scale = 1.0f / sqrtf(squares / (float)columns + 1e-5f);
    for (index_t c = 0; c < columns; c++) y[c] = (x[c] - mean) * scale * w[c] + b[c];
  }
}

void case_rms_norm(float *R out, const float *R in, const float *R w, index_t rows, index_t columns) {
  for (index_t r = 0; r < rows; r++) {
    const float *x = in + r * columns;
    float *y = out + r * columns, squares = 0;
    for (index_t c = 0; c < columns; c++) squares += x[c] * x[c];
    float scale = 1.0f / sqrtf(squares / (float)columns + 1.1920929e-7f);
    for (index_t c = 0; c < columns; c++) y[c] = x[c] * scale * w[c];
  }
}

void case_cumsum(float *R out, const float *R in, index_t rows, index_t columns) {
  for (index_t r = 0; r < rows; r++) {
    float sum = 0;
    for (index_t c = 0; c < columns; c++) out[r * columns + c] = sum += in[r * columns + c];
  }
}

void case_cumsum_columns(float *R out, const float *R in, index_t rows, index_t columns) {
  for (index_t c = 0; c < columns; c++) out[c] = in[c];
  for (index_t r = 1; r < rows; r++)
    for (index_t c = 0; c < columns; c++)
      out[r * columns + c] = out[(r - 1) * columns + c] + in[r * columns + c];
}

void case_argmax(long long *R out, const float *R in, index_t rows, index_t columns) {
  for (index_t r = 0; r < rows; r++) {
    const float *x = in + r * columns;
    float most = x[0];
    index_t found = 0;
    for (index_t c = 1; c < columns; c++)
      if (x[c] > most || (x[c] != x[c] && most == most)) most = x[c], found = c;
    out[r] = (long long)found;
  }
}

/* Runs of 1, 2, 4 ... elements merged, two and two; NaN last, and what is alike as it was. */
typedef struct {
  float value;
  int at;
} Element;

static int before(Element a, Element b) { return a.value < b.value || (b.value != b.value && a.value == a.value); }

void case_argsort(long long *R out, const float *R in, index_t rows, index_t columns) {
  static Element places[2][1 << 14];
  for (index_t r = 0; r < rows; r++) {
    Element *from = places[0], *to = places[1];
    for (index_t c = 0; c < columns; c++) from[c] = (Element){in[r * columns + c], (int)c};
    for (index_t run = 1; run < columns; run *= 2) {
      for (index_t start = 0; start < columns; start += 2 * run) {
        index_t middle = start + run < columns ? start + run : columns;
        index_t end = middle + run < columns ? middle + run : columns, i = start, j = middle;
        for (index_t k = start; k < end; k++)
          to[k] = j == end || (i < middle && !before(from[j], from[i])) ? from[i++] : from[j++];
      }
      Element *held = from;
      from = to, to = held;
    }
    for (index_t c = 0; c < columns; c++) out[r * columns + c] = from[c].at;
  }
}

/* [image][channel][2][2][row][column] -> [image][channel][row][2][column][2] */
void case_pixel_shuffle(float *R out, const float *R in, index_t planes, index_t rows, index_t columns) {
  for (index_t p = 0; p < planes; p++)
    for (index_t r = 0; r < rows; r++)
      for (index_t i = 0; i < 2; i++)
        for (index_t c = 0; c < columns; c++)
          for (index_t j = 0; j < 2; j++)
            out[(((p * rows + r) * 2 + i) * columns + c) * 2 + j] = in[((p * 4 + i * 2 + j) * rows + r) * columns + c];
}

void case_batch_norm_relu(float *R out, const float *R in, const float *R mean, const float *R var, const float *R w,
                          const float *R b, index_t images, index_t channels, index_t pixels) {
  for (index_t i = 0; i < images; i++)
    for (index_t c = 0; c < channels; c++) {
      float scale = w[c] / sqrtf(var[c] + 1e-5f), shift = b[c] - mean[c] * scale;
      const float *x = in + (i * channels + c) * pixels;
      float *y = out + (i * channels + c) * pixels;
      for (index_t p = 0; p < pixels; p++) {
        float v = x[p] * scale + shift;
        y[p] = v < 0 ? 0 : v;
      }
    }
}

void case_embedding(float *R out, const index_t *R ids, const float *R table, index_t tokens, index_t width) {
  for (index_t t = 0; t < tokens; t++)
    for (index_t c = 0; c < width; c++) out[t * width + c] = table[ids[t] * width + c];
}

/* As PyTorch has it, negative indices count from the end, and one out of bounds is an error. */
void case_gather(float *R out, const index_t *R ids, const float *R in, index_t n) {
  int bad = 0;
  for (index_t i = 0; i < n; i++) bad |= ids[i] < -n || ids[i] >= n;
  if (bad) abort();
  for (index_t i = 0; i < n; i++) out[i] = in[ids[i] < 0 ? ids[i] + n : ids[i]];
}

/* [batch][rows][columns] → [batch][columns][rows]; transpose and both layouts of images are forms of it. */
void case_permute_021(float *R out, const float *R in, index_t batch, index_t rows, index_t columns) {
  for (index_t n = 0; n < batch; n++)
    for (index_t c = 0; c < columns; c++)
      for (index_t r = 0; r < rows; r++) out[(n * columns + c) * rows + r] = in[(n * rows + r) * columns + c];
}

void case_permute_0213(float *R out, const float *R in, index_t batch, index_t a, index_t b, index_t inner) {
  for (index_t n = 0; n < batch; n++)
    for (index_t j = 0; j < b; j++)
      for (index_t i = 0; i < a; i++)
        for (index_t k = 0; k < inner; k++)
          out[((n * b + j) * a + i) * inner + k] = in[((n * a + i) * b + j) * inner + k];
}

/* Windows of 3 x 3, stride 2, one row and column of padding. */
void case_max_pool(float *R out, const float *R in, index_t planes, index_t height, index_t width) {
  index_t rows = (height - 1) / 2 + 1, columns = (width - 1) / 2 + 1;
  for (index_t p = 0; p < planes; p++)
    for (index_t r = 0; r < rows; r++)
      for (index_t c = 0; c < columns; c++) {
        float most = -INFINITY;
        for (index_t y = 2 * r - 1; y <= 2 * r + 1; y++)
          for (index_t x = 2 * c - 1; x <= 2 * c + 1; x++)
            if (y >= 0 && y < height && x >= 0 && x < width) {
              float v = in[(p * height + y) * width + x];
              most = larger(v, most);
            }
        out[(p * rows + r) * columns + c] = most;
      }
}
#endif
