/* What one feature and one row of a minibatch go through in the paper's stochastic iterations. Included once per (precision,
 * instruction set) by _variants.h.
 *
 * Lower level, Eq. (18):    w <- (1 - eta) w + eta Phi(w)                     one minibatch a step, the regularizer exact
 * linear system, Eq. (19):  v <- (1 - eta) v + eta (d1 Phi(w_t)' v + grad E)   likewise, w_t fixed
 *
 * with Phi(w) = w - alpha grad f(w), Eq. (20): a step takes alpha eta times the data's gradient off the features that its
 * minibatch contains, and multiplies every w_j by 1 - eta_i lambda_j / S (eta with its alpha). That factor is left undone until
 * the feature is met again: what has been skipped is one product, taken exactly, Eq. (22). For the linear system it is
 * V_j - g_j/lambda_j that is multiplied. Row j of the table is  [ outputs, padded | lambda_j / S | first step not yet taken |
 * padding ]; the row behind the last feature is the intercept, which no step leaves out. `padded` is the number of outputs, a
 * multiple of VEC or 1: a constant where it is 1, so that one output is compiled apart from several.
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

/* Feature j as it is before step i. A step that no call can have left there, negative or no number, counts as one to come. */
INLINE REAL *NAME(catch_up)(const sgd_level *P, const sgd_steps *S, int64_t j, int64_t i, const int padded)
{
    REAL *row = (REAL *)P->table + j * P->width;
    const int64_t from = (int64_t)row[padded + 1];
    if ((uint64_t)from < (uint64_t)i) {
        const REAL lost = (REAL)NAME(decay)(S, row[padded], from, i);
        const REAL *rest = P->offset ? (const REAL *)P->offset + j * padded : NULL;
        for (int l = 0; l < padded; l++)
            row[l] += lost * ((rest ? rest[l] : 0) - row[l]);
        row[padded + 1] = (REAL)i;
    }
    return row;
}

/* Fetch feature j, which is met a few entries on */
static inline void NAME(fetch)(const sgd_level *P, int64_t j, const int padded)
{
    const REAL *table = P->table, *rest = P->offset;
    for (int64_t c = 0; c < P->width; c += LINE)
        PREFETCH(table, j * P->width + c);
    for (int c = 0; rest && c < padded; c += LINE)
        PREFETCH(rest, j * padded + c);
}

/* What the row's data gradient is x_i times: p - e_y at z, or D z; times its weight */
INLINE void NAME(slope)(const sgd_level *P, int64_t row, const int padded, REAL *z, REAL *work)
{
    const REAL weight = ((const REAL *)P->weights)[row];
    const int label = P->labels[row * P->label_step];
    const REAL *p = P->proba ? (const REAL *)P->proba + row * padded : NULL;
    if (P->n_outputs == 1) {
        const REAL e = NAME(exp_neg)(-NAME(abs)(z[0])), sigma = (z[0] < 0 ? e : (REAL)1) / ((REAL)1 + e);
        z[0] = weight * (p ? p[0] * ((REAL)1 - p[0]) * z[0] : label ? sigma - 1 : sigma);
        return;
    }
    if (p) {
        const REAL mean = NAME(dot)(p, z, padded);
        for (int l = 0; l < padded; l++)
            work[l] = p[l] * (z[l] - mean);
    } else {
        for (int l = P->n_outputs; l < padded; l++)
            z[l] = PADDING;
        const NAME(odds) odds = NAME(softmax)(z, padded, label, work);
        work[label] = -odds.others;
    }
    for (int l = 0; l < padded; l++)
        z[l] = weight * work[l];
}
