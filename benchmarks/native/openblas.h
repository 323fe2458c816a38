/* The two functions of OpenBLAS that are used, and ours before them (openblas.c). */
#ifndef TORCH_RVV_OPENBLAS_H
#define TORCH_RVV_OPENBLAS_H
#include "element.h"

enum { ROW_MAJOR = 101, NO_TRANSPOSE = 111, TRANSPOSE = 112 };
void scipy_cblas_sgemm(int order, int transpose_a, int transpose_b, int m, int n, int k, float alpha, const float *a, int lda,
                       const float *b, int ldb, float beta, float *c, int ldc);
void scipy_cblas_sgemv(int order, int transpose, int m, int n, float alpha, const float *a, int lda, const float *x,
                       int step_x, float beta, float *y, int step_y);

void multiply(float *out, index_t ldc, const float *a, int transposed_a, index_t lda, const float *b, int transposed_b,
              index_t ldb, index_t m, index_t n, index_t k, float alpha, float beta);
#endif
