/* The stochastic fixed-point iterations' kernels, of _sgd_rows.h, in their variants. */
#ifndef SKSID_SGD_H
#define SKSID_SGD_H

#include <stdint.h>

#define INLINE static inline __attribute__((always_inline)) /* so that one lane is compiled apart from several */
#define MOST_STEPS (1 << 24) /* that a float32 counts */
#define TERMS 8             /* of the series of a long decay's logarithm */
#define SERIES_BELOW 0.03125 /* whose argument is at most this, so that what is left out is rounding */
#define SERIES_TOL (sizeof(REAL) == 4 ? 1e-9 : 1e-17)    /* and terms of this relative size are left out */
#define FEW_STEPS 2         /* that are multiplied one by one */
#define NOTHING 1e-15       /* what is left of a weight that has decayed away */
#define AHEAD 8             /* entries between a row's prefetch and its use */

/* One of the two systems on one split, divided by S, the split's total training weight (design: paper.md). */
typedef struct {
    const int64_t *indptr;  /* (n_rows + 1,) */
    const int32_t *columns; /* (nnz + AHEAD + 1,), or NULL: dense rows */
    const void *values;     /* (nnz,) real */
    const int32_t *labels;  /* (n_rows,) */
    const void *weights;    /* (n_rows,) real: n s_i / S, so that the mean over a minibatch is an unbiased mean */
    const void *proba;      /* (n_rows, n_lanes) real: p at w_t, of the linear system; NULL: the lower level */
    const void *offset;     /* (n_features + 1, n_lanes) real: g_j / lambda_j, and for the intercept g / S; NULL likewise */
    void *table;            /* (n_features + 1, width) real: W_j or V_j, lambda_j / S, the first step not yet taken */
    int64_t n_features, width;
    int n_outputs, fit_intercept, real_size;
} sgd_level;

/* Steps 0..n_steps - 1: rows[starts[i]:starts[i + 1]] is the minibatch of step i, eta[i] its alpha times eta_i, and
 * powers (n_steps + 1, TERMS) the running sums of (eta / eta[0])^1, ^2, ...: eta does not increase. At most MOST_STEPS. */
typedef struct {
    const int64_t *rows, *starts;
    const double *eta, *powers;
    int64_t n_steps;
} sgd_steps;

#define ROWS "_sgd_rows.h"
#include "_variants.h"

static void sgd_descend(const sgd_level *P, const sgd_steps *S, void *scratch)
{
    DISPATCH(descend, P->real_size, P, S, scratch);
}
#endif
