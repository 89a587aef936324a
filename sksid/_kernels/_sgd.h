/* The stochastic fixed-point iterations' kernels, of _sgd_row.h and _sgd_pass.h, in their variants: Eqs. (18) to (22). */
#ifndef SKSID_SGD_H
#define SKSID_SGD_H

#include <stdint.h>

#include "_layout.h"

#define MOST_STEPS (1 << 24) /* that a float32 counts */
#define TERMS 8             /* of the series of a long decay's logarithm */
#define SERIES_BELOW 0.03125 /* whose argument is at most this, so that what is left out is rounding */
#define SERIES_TOL (sizeof(REAL) == 4 ? 1e-9 : 1e-17)    /* and terms of this relative size are left out */
#define FEW_STEPS 2         /* that are multiplied one by one */
#define NOTHING 1e-15       /* what is left of a weight that has decayed away */
#define IN_REGISTERS (3 * VEC) /* outputs whose number is a constant of the compiled code: up to 24 */

/* One of the two systems on one split, divided by S, the split's total training weight. */
typedef struct {
    const int64_t *indptr;  /* (n_rows + 1,) */
    const int32_t *columns; /* (nnz + AHEAD,), or NULL: dense rows */
    const void *values;     /* (nnz,) float or double */
    const int32_t *labels;  /* of row i: labels[i * label_step] */
    const void *weights;    /* (n_rows,) REAL: n s_i / S, so that the mean over a minibatch is an unbiased mean */
    const void *proba;      /* (n_rows, padded) REAL: p at w_t, of the linear system; NULL: the lower level */
    const void *offset;     /* (n_features + 1, padded) REAL: g_j / lambda_j, and for the intercept g / S; NULL likewise */
    void *table;            /* (n_features + 1, width) REAL: W_j or V_j, lambda_j / S, the first step not yet taken */
    int64_t n_features, width, label_step;
    int n_outputs, fit_intercept;
    int value_size, real_size; /* bytes of an entry of the data and of a real of the table */
} sgd_level;

/* Steps 0..n_steps - 1: rows[starts[i]:starts[i + 1]] is the minibatch of step i, eta[i] its alpha times eta_i, Eq. (21), and
 * powers (n_steps + 1, TERMS) the running sums of (eta / eta[0])^1, ^2, ...: eta does not increase. At most MOST_STEPS. */
typedef struct {
    const int64_t *rows, *starts;
    const double *eta, *powers;
    int64_t n_steps;
} sgd_steps;

#define ROW_KERNEL "_sgd_row.h"
#define PASS_KERNEL "_sgd_pass.h"
#include "_variants.h"

static void sgd_descend(const sgd_level *P, const sgd_steps *S, void *scratch)
{
    VARIANT(descend, P)(P, S, scratch);
}
#endif
