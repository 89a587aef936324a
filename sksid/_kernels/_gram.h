/* Weighted Gram matrices of sparse rows, of which Hessians of few features are made: Eq. (16) of docs/method.rst. */
#ifndef SKSID_GRAM_H
#define SKSID_GRAM_H

#include <stdint.h>

#include "_layout.h"

/* Rows [x 1]; of up to VEC matrices sum_i c_i [x_i 1][x_i 1]', those entries where the row is not before the column. */
typedef struct {
    const int64_t *indptr;  /* (n_rows + 1,) */
    const int32_t *columns; /* (nnz,), no feature twice in a row */
    const void *values;     /* (nnz,) REAL */
    const double *weights;  /* c_i of matrix l: weights[l * step + i] */
    double *out;            /* (m, m, VEC) with m = n_features + 1: zeros, then the sums */
    int64_t n_rows, n_features, step;
    int n_matrices, real_size;
} gram_rows;

#define ROW_KERNEL "_vectors.h"
#define PASS_KERNEL "_gram_pass.h"
#include "_variants.h"

static void gram_sums(const gram_rows *P) { VARIANT(gram, P)(P); }
#endif
