/* A row-major product by OpenBLAS, with the arguments that the other peers' functions have. */
#include <stdint.h>
#include <stdlib.h>

enum { ROW_MAJOR = 101, NO_TRANSPOSE = 111, TRANSPOSE = 112 };
void scipy_cblas_sgemm(int order, int transpose_a, int transpose_b, int m, int n, int k, float alpha, const float *a, int lda,
                       const float *b, int ldb, float beta, float *c, int ldc);
void scipy_cblas_sgemv(int order, int transpose, int m, int n, float alpha, const float *a, int lda, const float *x,
                       int step_x, float beta, float *y, int step_y);

/* What newer C libraries have under this name, and OpenBLAS reads its environment variables with. */
long __isoc23_strtol(const char *text, char **end, int base) { return strtol(text, end, base); }

void case_matmul(float *out, const float *a, const float *b, int64_t m, int64_t n, int64_t k) {
  scipy_cblas_sgemm(ROW_MAJOR, NO_TRANSPOSE, NO_TRANSPOSE, (int)m, (int)n, (int)k, 1.0f, a, (int)k, b, (int)n, 0.0f, out,
                    (int)n);
}

/* a times the transpose of b, which has n rows: as PyTorch does a linear layer, a single row by sgemv. */
void case_linear(float *out, const float *a, const float *b, int64_t m, int64_t n, int64_t k) {
  if (m == 1)
    scipy_cblas_sgemv(ROW_MAJOR, NO_TRANSPOSE, (int)n, (int)k, 1.0f, b, (int)k, a, 1, 0.0f, out, 1);
  else
    scipy_cblas_sgemm(ROW_MAJOR, NO_TRANSPOSE, TRANSPOSE, (int)m, (int)n, (int)k, 1.0f, a, (int)k, b, (int)k, 0.0f, out,
                      (int)n);
}
