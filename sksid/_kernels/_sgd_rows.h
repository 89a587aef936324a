/* The row kernels of the paper's stochastic iterations, written once and included once per variant (see _variants.h).
 *
 * Lower level:    w <- (1 - eta) w + eta Phi(w)                     one minibatch a step, the regulariser exact
 * linear system:  v <- (1 - eta) v + eta (d1 Phi(w_t)' v + grad E)   likewise, w_t fixed (design: paper.md, Algorithm 1)
 *
 * with Phi(w) = w - alpha grad f(w): a step takes alpha eta times the data's gradient off the features that its minibatch
 * contains, and multiplies every w_j by 1 - eta_i lambda_j / S (eta with its alpha). That factor is left undone until the
 * feature is met again: what has been skipped is one product, taken exactly. For the linear system it is V_j - g_j/lambda_j
 * that is multiplied. Row j of the table is  [ lanes | lambda_j / S | first step not yet taken | padding ]; the row behind
 * the last feature is the intercept, which no step leaves out.
 */
#include "_logistic.h"

/* 1 - exp(x) for x <= 0, with all its digits where it is small */
static inline double NAME(lost_by)(double x)
{
    if (x < -SERIES_BELOW)
        return -expm1(x);
    return -x * (1 + x / 2 * (1 + x / 3 * (1 + x / 4 * (1 + x / 5 * (1 + x / 6 * (1 + x / 7))))));
}

/* What the steps from..to-1 take off: 1 less the product of 1 - rate eta_s. Term k of the series is at most (rate eta_from)^k
 * times the first. */
static double NAME(decay)(const sgd_steps *S, double rate, int64_t from, int64_t to)
{
    double lost = 0.0;
    while (from < to && (to - from <= FEW_STEPS || rate * S->eta[from] > SERIES_BELOW)) {
        lost += rate * S->eta[from++] * (1.0 - lost);
        if (fabs(1.0 - lost) < NOTHING)
            return 1.0;
    }
    if (from == to)
        return lost;
    static const double inverse[TERMS] = {1, 1 / 2., 1 / 3., 1 / 4., 1 / 5., 1 / 6., 1 / 7., 1 / 8.};
    const double *begin = S->powers + from * TERMS, *end = S->powers + to * TERMS;
    const double x = rate * S->eta[0], y = rate * S->eta[from];
    double power = x, logarithm = -x * (end[0] - begin[0]), size = y;
    for (int k = 1; k < TERMS && size > SERIES_TOL; k++, size *= y) {
        power *= x;
        logarithm -= power * inverse[k] * (end[k] - begin[k]);
    }
    return lost + (1.0 - lost) * NAME(lost_by)(logarithm);
}

/* Feature j as it is before step i */
INLINE REAL *NAME(catch_up)(const sgd_level *P, const sgd_steps *S, int64_t j, int64_t i, const int lanes)
{
    REAL *row = (REAL *)P->table + j * P->width;
    const int64_t from = (int64_t)row[lanes + 1];
    if (from < i) {
        const REAL lost = (REAL)NAME(decay)(S, row[lanes], from, i);
        const REAL *rest = P->offset ? (const REAL *)P->offset + j * lanes : NULL;
        for (int l = 0; l < lanes; l++)
            row[l] += lost * ((rest ? rest[l] : 0) - row[l]);
        row[lanes + 1] = (REAL)i;
    }
    return row;
}

/* Fetch feature j, which is met a few entries on */
static inline void NAME(fetch)(const sgd_level *P, int64_t j, const int lanes)
{
    const REAL *row = (const REAL *)P->table + j * P->width, *rest = P->offset;
    for (int64_t c = 0; c < P->width; c += LINE)
        __builtin_prefetch(row + c, 1, 3);
    for (int c = 0; rest && c < lanes; c += LINE)
        __builtin_prefetch(rest + j * lanes + c, 0, 3);
}

/* out = x'T + b at step i, all features of the row caught up */
INLINE void NAME(gather)(const sgd_level *P, const sgd_steps *S, int64_t row, int64_t i, const int lanes, REAL *out)
{
    const REAL *x = (const REAL *)P->values + P->indptr[row], *table = P->table;
    const int32_t *columns = P->columns ? P->columns + P->indptr[row] : NULL;
    const int64_t nnz = P->indptr[row + 1] - P->indptr[row];
    const REAL *intercept = table + P->n_features * P->width;
    for (int l = 0; l < lanes; l++)
        out[l] = P->fit_intercept ? intercept[l] : 0;
    for (int64_t t = 0; t < nnz; t++) {
        if (columns)
            NAME(fetch)(P, columns[t + AHEAD], lanes);
        const REAL *w = NAME(catch_up)(P, S, COLUMN(t), i, lanes);
        for (int l = 0; l < lanes; l++)
            out[l] += x[t] * w[l];
    }
}

/* What the row's data gradient is x_i times: p - e_y at z, or D z; times its weight */
INLINE void NAME(slope)(const sgd_level *P, int64_t row, const int lanes, REAL *z, REAL *work)
{
    const REAL weight = ((const REAL *)P->weights)[row];
    const int label = P->labels[row];
    const REAL *p = P->proba ? (const REAL *)P->proba + row * lanes : NULL;
    if (P->n_outputs == 1) {
        const REAL e = NAME(exp_neg)(-NAME(abs)(z[0])), sigma = (z[0] < 0 ? e : (REAL)1) / ((REAL)1 + e);
        z[0] = weight * (p ? p[0] * ((REAL)1 - p[0]) * z[0] : label ? sigma - 1 : sigma);
        return;
    }
    if (p) {
        NAME(apply_curvature)(p, z, lanes, work);
    } else {
        for (int l = P->n_outputs; l < lanes; l++)
            z[l] = PADDING;
        NAME(softmax)(z, lanes, label, work);
        NAME(residual)(work, lanes, label, z);
        memcpy(work, z, sizeof(REAL) * lanes);
    }
    for (int l = 0; l < lanes; l++)
        z[l] = weight * work[l];
}

/* Step i of the features in one row of its minibatch: the regulariser once, then the row's share of the data's gradient */
INLINE void NAME(scatter)(const sgd_level *P, const sgd_steps *S, int64_t row, int64_t i, REAL share, const int lanes,
                                 const REAL *slope)
{
    const REAL *x = (const REAL *)P->values + P->indptr[row];
    const int32_t *columns = P->columns ? P->columns + P->indptr[row] : NULL;
    const int64_t nnz = P->indptr[row + 1] - P->indptr[row];
    for (int64_t t = 0; t < nnz; t++) {
        if (columns)
            NAME(fetch)(P, columns[t + AHEAD], lanes);
        REAL *w = NAME(catch_up)(P, S, COLUMN(t), i + 1, lanes);
        const REAL step = share * x[t];
        for (int l = 0; l < lanes; l++)
            w[l] -= step * slope[l];
    }
}

INLINE void NAME(descend_lanes)(const sgd_level *P, const sgd_steps *S, const int lanes, REAL *work)
{
    REAL *intercept = (REAL *)P->table + P->n_features * P->width, *slopes = work + lanes;
    const REAL *constant = P->offset ? (const REAL *)P->offset + P->n_features * lanes : NULL;
    for (int64_t i = 0; i < S->n_steps; i++) {
        const int64_t *rows = S->rows + S->starts[i], n = S->starts[i + 1] - S->starts[i];
        const REAL share = (REAL)(S->eta[i] / (double)n);
        for (int64_t r = 0; r < n; r++) {
            NAME(gather)(P, S, rows[r], i, lanes, slopes + r * lanes);
            NAME(slope)(P, rows[r], lanes, slopes + r * lanes, work);
        }
        for (int64_t r = 0; r < n; r++) {
            NAME(scatter)(P, S, rows[r], i, share, lanes, slopes + r * lanes);
            for (int l = 0; l < lanes && P->fit_intercept; l++)
                intercept[l] -= share * slopes[r * lanes + l];
        }
        for (int l = 0; l < lanes && P->fit_intercept && constant; l++)
            intercept[l] += (REAL)S->eta[i] * constant[l];
    }
    for (int64_t j = 0; j < P->n_features; j++) {
        REAL *row = NAME(catch_up)(P, S, j, S->n_steps, lanes);
        row[lanes + 1] = 0; /* the next call counts from 0 */
    }
}

/* Take the steps, all features up to the last one. Room for the lanes of the largest minibatch, and of one row more. */
static void NAME(descend)(const sgd_level *P, const sgd_steps *S, void *scratch)
{
    if (P->n_outputs == 1)
        NAME(descend_lanes)(P, S, 1, scratch);
    else
        NAME(descend_lanes)(P, S, PADDED(P->n_outputs), scratch);
}
