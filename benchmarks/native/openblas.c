/* Products and attention by OpenBLAS, with the arguments that benchmarks/peers/blas.py gives. Leading dimensions and steps
 * are numbers of elements. */
#include <float.h>
#include <stdlib.h>
#include <string.h>

#include "openblas.h"

/* What newer C libraries have under this name, and OpenBLAS reads its environment variables with. */
long __isoc23_strtol(const char *text, char **end, int base) { return strtol(text, end, base); }

/* out = alpha a b + beta out, of row-major matrices m x k and k x n; of a transposed one, lda or ldb is its transpose's. A
 * single row or column by sgemv, as PyTorch does it. */
void multiply(float *out, index_t ldc, const float *a, int transposed_a, index_t lda, const float *b, int transposed_b,
              index_t ldb, index_t m, index_t n, index_t k, float alpha, float beta) {
  if (m == 1)
    scipy_cblas_sgemv(ROW_MAJOR, transposed_b ? NO_TRANSPOSE : TRANSPOSE, (int)(transposed_b ? n : k),
                      (int)(transposed_b ? k : n), alpha, b, (int)ldb, a, transposed_a ? (int)lda : 1, beta, out, 1);
  else if (n == 1)
    scipy_cblas_sgemv(ROW_MAJOR, transposed_a ? TRANSPOSE : NO_TRANSPOSE, (int)(transposed_a ? k : m),
                      (int)(transposed_a ? m : k), alpha, a, (int)lda, b, transposed_b ? 1 : (int)ldb, beta, out, (int)ldc);
  else
    scipy_cblas_sgemm(ROW_MAJOR, transposed_a ? TRANSPOSE : NO_TRANSPOSE, transposed_b ? TRANSPOSE : NO_TRANSPOSE, (int)m,
                      (int)n, (int)k, alpha, a, (int)lda, b, (int)ldb, beta, out, (int)ldc);
}

/* For each of `batch`: out = a b, plus the bias if it is not NULL, whose rows are bias_row apart. */
void product(float *out, const float *a, const float *b, const float *bias, index_t batch, index_t m, index_t n, index_t k,
             index_t transposed_a, index_t lda, index_t step_a, index_t transposed_b, index_t ldb, index_t step_b,
             index_t bias_row, index_t bias_step) {
  for (index_t i = 0; i < batch; i++, out += m * n, a += step_a, b += step_b) {
    if (bias)
      for (index_t r = 0; r < m; r++)
        memcpy(out + r * n, bias + i * bias_step + r * bias_row, (size_t)n * sizeof *out);
    multiply(out, n, a, (int)transposed_a, lda, b, (int)transposed_b, ldb, m, n, k, 1.0f, bias ? 1.0f : 0.0f);
  }
}

/* e to the power of x <= 0, in arithmetic that compilers vectorise; within 2 ulps, and 1e-38 for what is below. */
static inline float power(float x) {
#pragma clang fp reassociate(off) /* what is added is taken away again to round */
  x = x > -87.0f ? x : -87.0f;
  float whole = x * 1.44269504f + 12582912.0f; /* 1.5 * 2^23: the integer is in the lowest bits */
  union { float value; int32_t bits; } scale = {whole};
  scale.bits = (scale.bits + 127) << 23;
  whole -= 12582912.0f;
  float r = x - whole * 0.693145752f - whole * 1.42860677e-6f;
  float p = 1.98756914e-4f;
  p = p * r + 1.39819994e-3f;
  p = p * r + 8.33345205e-3f;
  p = p * r + 4.16657962e-2f;
  p = p * r + 1.66666657e-1f;
  p = p * r + 0.5f;
  return (p * r * r + r + 1.0f) * scale.value;
}

static void softmax(float *R x, index_t n) {
  float most = -FLT_MAX, sum = 0;
  for (index_t i = 0; i < n; i++) most = x[i] > most ? x[i] : most;
  for (index_t i = 0; i < n; i++) sum += x[i] = power(x[i] - most);
  float part = 1.0f / sum;
  for (index_t i = 0; i < n; i++) x[i] *= part;
}

/* Steps from one batch, head and row to the next. */
struct steps { index_t batch, head, row; };
/* As benchmarks/peers/blas.py packs it. */
struct shape {
  index_t batch, heads, key_heads, length, keys, width, causal;
  struct steps out, q, k, v, mask;
  double scale;
};
enum { CAUSAL_ROWS = 32 }; /* as many as PyTorch takes at a time */

static void add_mask(float *R scores, const float *R mask, index_t rows, index_t columns, index_t ld, index_t step) {
  for (index_t i = 0; i < rows; i++)
    for (index_t j = 0; j < columns; j++) scores[i * ld + j] += mask[i * step + j];
}

/* softmax(scale q k^T + mask) v; the mask may be NULL. What causality excludes for all of some rows is not computed. */
void attention(float *out, const float *q, const float *k, const float *v, const float *mask, const struct shape *s) {
  index_t most = s->causal && s->length > CAUSAL_ROWS ? CAUSAL_ROWS : s->length;
  float *scores = malloc((size_t)(most * s->keys) * sizeof *scores);
  if (!scores) abort();
  for (index_t b = 0; b < s->batch; b++)
    for (index_t h = 0; h < s->heads; h++) {
      index_t shared = h / (s->heads / s->key_heads);
      const float *keys = k + b * s->k.batch + shared * s->k.head, *values = v + b * s->v.batch + shared * s->v.head;
      for (index_t first = 0; first < s->length; first += most) {
        index_t rows = first + most < s->length ? most : s->length - first;
        index_t seen = s->causal && first + rows < s->keys ? first + rows : s->keys;
        multiply(scores, seen, q + b * s->q.batch + h * s->q.head + first * s->q.row, 0, s->q.row, keys, 1, s->k.row, rows,
                 seen, s->width, (float)s->scale, 0.0f);
        if (mask)
          add_mask(scores, mask + b * s->mask.batch + h * s->mask.head + first * s->mask.row, rows, seen, seen, s->mask.row);
        for (index_t i = 0; i < rows; i++) {
          index_t n = s->causal && first + i + 1 < seen ? first + i + 1 : seen;
          softmax(scores + i * seen, n);
          memset(scores + i * seen + n, 0, (size_t)(seen - n) * sizeof *scores);
        }
        multiply(out + b * s->out.batch + h * s->out.head + first * s->out.row, s->out.row, scores, 0, seen, values, 0,
                 s->v.row, rows, s->width, seen, 1.0f, 0.0f);
      }
    }
  free(scores);
}
