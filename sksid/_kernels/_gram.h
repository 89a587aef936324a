/* Weighted Gram matrices of sparse rows, and their products with vectors without them: what Hessians are made of and what they
 * do, Eqs. (16) and (17) of docs/method.rst. */
#ifndef SKSID_GRAM_H
#define SKSID_GRAM_H

#include <stdint.h>

#include "_layout.h"

/* Rows [x 1]; up to VEC matrices G = sum_i c_i [x_i 1][x_i 1]', and with them either those of their entries where the row is not
 * before the column, or G v, a vector v for each matrix. */
typedef struct {
    const int64_t *indptr;  /* (n_rows + 1,) */
    const int32_t *columns; /* (nnz,), no feature twice in a row */
    const void *values;     /* (nnz,) REAL */
    const double *weights;  /* c_i of matrix l: weights[l * step + i] */
    const double *v;        /* (m, VEC) with m = n_features + 1 */
    double *out;            /* zeros, then the sums: (m, m, VEC) of G, (m, VEC) of G v */
    int64_t n_rows, n_features, step;
    int n_matrices, real_size;
} gram_rows;

#define ROW_KERNEL "_vectors.h"
#define PASS_KERNEL "_gram_pass.h"
#include "_variants.h"

static void gram_sums(const gram_rows *P) { VARIANT(gram, P)(P); }
static void gram_products(const gram_rows *P) { VARIANT(gram_product, P)(P); }
#endif
