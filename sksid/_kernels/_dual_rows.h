/* The row kernels of the dual solver, written once and included once per (precision, instruction set).
 *
 * Before each inclusion: REAL is float or double (and INT, EXP_* and ROUNDER its facts), NAME(f) gives f its suffix,
 * NEWTON_TOL is the step after which Newton's next one would be exact in REAL, ROUNDING a few of its last bits.
 *
 * Conventions (design: method.md, section 3). A *lane* is one output of one split; lane = split * n_outputs + output.
 * Row j of the table is  [ W_j of all lanes | V_j of all lanes | 1/lambda_j | padding ], a multiple of LINE reals long.
 * The row behind the last feature is the intercept, [ b | v | 1/mu | padding ]: the same as a feature that is 1
 * everywhere, whose penalty mu/2 (b - b_ref)^2 is moved along (proximal point), so that it vanishes in the limit.
 * Losses of the lower level are sums, those of the upper level means (val_scale holds 1 / sum of weights).
 * No function allocates, none raises. All sums over a row are in lanes of VEC, so that they vectorise as they stand,
 * in one order whatever the instruction set.
 */

/* exp(x) for x <= 0, flushed to 0 where it would be subnormal. Vectorises; a NaN stays a NaN.
 * Adding ROUNDER leaves the nearest integer in the low bits, so no conversion instruction is needed. */
static inline REAL NAME(exp_neg)(REAL x)
{
    const REAL clipped = x < EXP_FLOOR ? EXP_FLOOR : x;
    union { REAL x; INT i; } rounded = {clipped * (REAL)1.4426950408889634 + ROUNDER}, power;
    const REAL k = rounded.x - ROUNDER;
    const REAL r = (clipped - k * (REAL)0.693145751953125) - k * (REAL)1.42860682030941723e-6; /* ln 2 in two parts */
    power.i = (rounded.i + EXP_BIAS) << EXP_SHIFT;
    return x < EXP_FLOOR ? (REAL)0.0 : EXP_TAYLOR(r) * power.x;
}

static inline REAL NAME(max)(REAL a, REAL b) { return a > b ? a : b; }
static inline REAL NAME(min)(REAL a, REAL b) { return a < b ? a : b; }
static inline REAL NAME(abs)(REAL a) { return a < 0 ? -a : a; }

static inline REAL NAME(total)(const REAL *part)
{
    return ((part[0] + part[4]) + (part[2] + part[6])) + ((part[1] + part[5]) + (part[3] + part[7]));
}

static inline REAL NAME(largest)(const REAL *part)
{
    REAL m = part[0];
    for (int l = 1; l < VEC; l++)
        m = NAME(max)(m, part[l]);
    return m;
}

/* ---- products with one sparse or dense row ------------------------------------------------------------------ */

#undef COLUMN
#define COLUMN(t) (columns ? (int64_t)columns[t] : (int64_t)(t))

typedef REAL NAME(half) __attribute__((vector_size(32))); /* half a cache line: two make a narrow row of the table */

/* out = sum_t x_t T[column_t], rows of one line, kept in registers; returns sum_t x_t^2 / lambda_t. */
static inline REAL NAME(gather_narrow)(const REAL *x, const int32_t *columns, int64_t nnz, const REAL *table,
                                       int64_t inv_at, REAL *out)
{
    NAME(half) sum[4] = {{0}};
    REAL q = 0;
    int64_t t = 0;
    for (; t + 2 <= nnz; t += 2) {
        const REAL *row = table + COLUMN(t) * LINE, *next = table + COLUMN(t + 1) * LINE;
        const NAME(half) *v = (const NAME(half) *)row, *w = (const NAME(half) *)next;
        sum[0] += x[t] * v[0];
        sum[1] += x[t] * v[1];
        sum[2] += x[t + 1] * w[0];
        sum[3] += x[t + 1] * w[1];
        q += x[t] * x[t] * row[inv_at] + x[t + 1] * x[t + 1] * next[inv_at];
    }
    if (t < nnz) {
        const REAL *row = table + COLUMN(t) * LINE;
        const NAME(half) *v = (const NAME(half) *)row;
        sum[0] += x[t] * v[0];
        sum[1] += x[t] * v[1];
        q += x[t] * x[t] * row[inv_at];
    }
    sum[0] += sum[2];
    sum[1] += sum[3];
    memcpy(out, sum, 64);
    return q;
}

/* The same for rows of more lines, two at a time, summed in the first-level cache. What is fetched ahead may belong
 * to the next row of the block: columns can be read AHEAD + 1 entries behind the last. */
static inline REAL NAME(gather_wide)(const REAL *x, const int32_t *columns, int64_t nnz, const REAL *table,
                                     int64_t width, int64_t inv_at, REAL *restrict out)
{
    REAL q = 0;
    int64_t t = 0;
    memset(out, 0, sizeof(REAL) * width);
    for (; t + 2 <= nnz; t += 2) {
        const REAL *row = table + COLUMN(t) * width, *next = table + COLUMN(t + 1) * width;
        const REAL *soon = table + COLUMN(t + AHEAD) * width, *then = table + COLUMN(t + 1 + AHEAD) * width;
        const REAL xt = x[t], xn = x[t + 1];
        for (int64_t c = 0; c < width; c += LINE) {
            PREFETCH(soon + c);
            PREFETCH(then + c);
            for (int l = 0; l < LINE; l++)
                out[c + l] += xt * row[c + l] + xn * next[c + l];
        }
        q += xt * xt * row[inv_at] + xn * xn * next[inv_at];
    }
    if (t < nnz) {
        const REAL *row = table + COLUMN(t) * width;
        for (int64_t c = 0; c < width; c++)
            out[c] += x[t] * row[c];
        q += x[t] * x[t] * row[inv_at];
    }
    return q;
}

/* T[column_t] -= (x_t / lambda_t) d,  d zero beyond the lanes, so 1/lambda and the padding stay. */
static inline void NAME(scatter)(const REAL *x, const int32_t *columns, int64_t nnz, REAL *table, int64_t width,
                                 int64_t inv_at, const REAL *d)
{
    if (width == LINE) {
        NAME(half) change[2];
        memcpy(change, d, 64);
        for (int64_t t = 0; t < nnz; t++) {
            REAL *row = table + COLUMN(t) * LINE;
            const REAL step = x[t] * row[inv_at];
            ((NAME(half) *)row)[0] -= step * change[0];
            ((NAME(half) *)row)[1] -= step * change[1];
        }
        return;
    }
    for (int64_t t = 0; t < nnz; t++) {
        REAL *restrict row = table + COLUMN(t) * width;
        const REAL step = x[t] * row[inv_at];
        for (int64_t c = 0; c < width; c += LINE)
            for (int l = 0; l < LINE; l++)
                row[c + l] -= step * d[c + l];
    }
}

/* ---- one-row solves ------------------------------------------------------------------------------------------- */

static inline REAL NAME(dot)(const REAL *x, const REAL *y, int n)
{
    REAL part[VEC] = {0};
    for (int k = 0; k < n; k += VEC)
        for (int l = 0; l < VEC; l++)
            part[l] += x[k + l] * y[k + l];
    return NAME(total)(part);
}

/* So many lanes, VEC or 1, of  z + q (sigma(z) - y) = a + q beta  (method.md 3, K' = 1), then the adjoint's lanes at the new z.
 * With s = +1 for y = 1 and -1 for y = 0, m = s z solves  f(m) = m - q sigma(-m) - s c = 0, f increasing, concave
 * for m > 0 and convex for m < 0: Newton kept on the root's side of 0 is monotone after its first step.
 * q = 0 (validation and unused rows) returns z = a, beta = sigma(a) - y. */
static inline void NAME(solve_logistic)(const REAL *a, const REAL *r, const REAL *q, const REAL *beta, const REAL *u,
                                        REAL s, const int lanes, REAL *beta_new, REAL *u_new, REAL *at_a,
                                        REAL *curvature_at_a)
{
    REAL m[VEC], c[VEC], low[VEC], high[VEC], sig[VEC], step[VEC] = {0};
    for (int l = 0; l < lanes; l++) {
        c[l] = s * (a[l] + q[l] * beta[l]);
        int right = (REAL)0.5 * q[l] + c[l] > 0;
        low[l] = right ? NAME(max)(0, c[l]) : c[l];
        high[l] = right ? c[l] + q[l] : NAME(min)(0, c[l] + q[l]);
        m[l] = s * a[l];
        REAL e = NAME(exp_neg)(-NAME(abs)(m[l]));
        sig[l] = (m[l] > 0 ? e : (REAL)1.0) / ((REAL)1.0 + e);
        at_a[l] = -s * sig[l];
        curvature_at_a[l] = sig[l] * ((REAL)1.0 - sig[l]);
    }
    for (int iteration = 0; iteration < MAX_NEWTON; iteration++) {
        for (int l = 0; l < lanes; l++) {
            REAL f = m[l] - q[l] * sig[l] - c[l];
            REAL slope = (REAL)1.0 + q[l] * sig[l] * ((REAL)1.0 - sig[l]);
            REAL next = NAME(min)(NAME(max)(m[l] - f / slope, low[l]), high[l]);
            next = q[l] > 0 ? next : m[l];
            step[l] = NAME(abs)(next - m[l]) / ((REAL)1.0 + NAME(abs)(next));
            m[l] = next;
        }
        for (int l = 0; l < lanes; l++) {
            REAL e = NAME(exp_neg)(-NAME(abs)(m[l]));
            sig[l] = (m[l] > 0 ? e : (REAL)1.0) / ((REAL)1.0 + e);
        }
        if (!(NAME(largest)(step) > (REAL)NEWTON_TOL))
            break;
    }
    for (int l = 0; l < lanes; l++) {
        REAL d = sig[l] * ((REAL)1.0 - sig[l]);
        beta_new[l] = -s * sig[l];
        u_new[l] = d * (r[l] + q[l] * u[l]) / ((REAL)1.0 + q[l] * d);
    }
}

/* p = softmax(z) over n padded classes; returns logsumexp(z) - z_label */
static inline REAL NAME(softmax)(const REAL *z, int n, int label, REAL *p)
{
    REAL part[VEC];
    for (int l = 0; l < VEC; l++)
        part[l] = z[l];
    for (int c = VEC; c < n; c += VEC)
        for (int l = 0; l < VEC; l++)
            part[l] = NAME(max)(part[l], z[c + l]);
    const REAL top = NAME(largest)(part);
    for (int l = 0; l < VEC; l++)
        part[l] = 0;
    for (int c = 0; c < n; c += VEC)
        for (int l = 0; l < VEC; l++) {
            p[c + l] = NAME(exp_neg)(z[c + l] - top);
            part[l] += p[c + l];
        }
    const REAL sum = NAME(total)(part), inv = (REAL)1.0 / sum;
    for (int c = 0; c < n; c++)
        p[c] *= inv;
    return (top - z[label]) + NAME(log)(sum);
}

/* p - e_label, the label's entry summed from the others: exact where p_label is near 1 */
static inline void NAME(residual)(const REAL *p, int n, int label, REAL *beta)
{
    REAL part[VEC] = {0};
    for (int c = 0; c < n; c += VEC)
        for (int l = 0; l < VEC; l++) {
            beta[c + l] = p[c + l];
            part[l] += (c + l == label) ? 0 : p[c + l];
        }
    beta[label] = -NAME(total)(part);
}

/* x = (I + q (diag p - p p'))^-1 g by Sherman-Morrison; 1 - q sum p^2/(1 + qp) is summed as p/(1 + qp) > 0.
 * Returns the largest |x|. */
static inline REAL NAME(solve_curvature)(const REAL *p, REAL q, const REAL *g, int n, REAL *x)
{
    REAL dot[VEC] = {0}, mass[VEC] = {0}, top[VEC] = {0};
    for (int c = 0; c < n; c += VEC)
        for (int l = 0; l < VEC; l++) {
            REAL scaled = p[c + l] / ((REAL)1.0 + q * p[c + l]);
            dot[l] += scaled * g[c + l];
            mass[l] += scaled;
        }
    const REAL shift = q * NAME(total)(dot) / NAME(total)(mass);
    for (int c = 0; c < n; c += VEC)
        for (int l = 0; l < VEC; l++) {
            REAL alpha = (REAL)1.0 + q * p[c + l];
            x[c + l] = (g[c + l] + p[c + l] * shift) / alpha;
            top[l] = NAME(max)(top[l], NAME(abs)(x[c + l]));
        }
    return NAME(largest)(top);
}

/* y = (diag p - p p') x */
static inline void NAME(apply_curvature)(const REAL *p, const REAL *x, int n, REAL *y)
{
    REAL part[VEC] = {0};
    for (int c = 0; c < n; c += VEC)
        for (int l = 0; l < VEC; l++)
            part[l] += p[c + l] * x[c + l];
    const REAL mean = NAME(total)(part);
    for (int c = 0; c < n; c++)
        y[c] = p[c] * (x[c] - mean);
}

static inline REAL NAME(half_square)(const REAL *z, const REAL *c, int n)
{
    REAL part[VEC] = {0};
    for (int k = 0; k < n; k += VEC)
        for (int l = 0; l < VEC; l++)
            part[l] += (z[k + l] - c[k + l]) * (z[k + l] - c[k + l]);
    return (REAL)0.5 * NAME(total)(part);
}

/* K' > 1 (method.md 3): minimise  1/2 |z - c|^2 + q CE(z),  c = a + q beta, by Newton with backtracking from z = a.
 * On entry p = softmax(a), loss = CE(a); on return p = softmax(z) at the minimiser. Six vectors of work. */
static inline void NAME(solve_softmax)(const REAL *a, const REAL *beta, REAL q, int label, int n, REAL loss, REAL *p,
                                       REAL *work)
{
    REAL *z = work, *c = work + n, *g = work + 2 * n, *step = work + 3 * n, *trial = work + 4 * n, *res = work + 5 * n;
    for (int k = 0; k < n; k++) {
        z[k] = a[k];
        c[k] = a[k] + q * beta[k];
    }
    REAL value = NAME(half_square)(z, c, n) + q * loss;
    for (int iteration = 0; iteration < MAX_NEWTON; iteration++) {
        NAME(residual)(p, n, label, res);
        for (int k = 0; k < n; k++)
            g[k] = (z[k] - c[k]) + q * res[k];
        const REAL length = NAME(solve_curvature)(p, q, g, n, step);
        if (!(length > 0))
            return;
        REAL t = 1, trial_value = value;
        for (int halving = 0; halving < MAX_HALVING; halving++, t *= (REAL)0.5) {
            for (int k = 0; k < n; k++)
                trial[k] = z[k] - t * step[k];
            trial_value = NAME(half_square)(trial, c, n) + q * NAME(softmax)(trial, n, label, p);
            if (trial_value <= value + ROUNDING * value || t * length < NEWTON_TOL)
                break;
        }
        for (int k = 0; k < n; k++)
            z[k] = trial[k];
        value = trial_value;
        if (t * length < NEWTON_TOL)
            return;
    }
}

/* ---- one row of all splits ------------------------------------------------------------------------------------ */

/* One row of the problem and its room to work in: all arrays are lanes, padded with zeros to VEC. */
typedef struct {
    const REAL *x;
    const int32_t *columns;
    int64_t nnz;
    int label;
    REAL q0;             /* sum_j x_j^2 / lambda_j (+ 1/mu) */
    const int8_t *roles; /* (n_splits,) */
    REAL *product;       /* (width,)  x'[W | V] + [b | v] */
    REAL *change;        /* (width,)  what scatter takes off [W | V] */
    REAL *train, *val;   /* (n_splits,) weights; zero where the row has the other role, or none */
    REAL *beta, *u;      /* (n_lanes,) the row's duals */
    REAL *sums;          /* (N_SUMS, PADDED(n_splits)) of a block of binary rows */
    REAL residuals[2];   /* the row's LOWER_RESIDUAL and ADJOINT_RESIDUAL over all splits */
    REAL *work;          /* twelve vectors of PADDED(n_outputs) */
} NAME(row);

static inline void NAME(place_row)(const dual_problem *P, const dual_state *S, REAL *scratch, NAME(row) *R)
{
    R->product = scratch;
    R->change = R->product + S->width;
    R->train = R->change + S->width;
    R->val = R->train + PADDED(P->n_splits);
    R->sums = R->val + PADDED(P->n_splits);
    R->work = R->sums + N_SUMS * PADDED(P->n_splits);
    memset(scratch, 0, sizeof(REAL) * (2 * S->width + (2 + N_SUMS) * PADDED(P->n_splits)));
}

static inline void NAME(prefetch_row)(const dual_problem *P, const dual_state *S, int64_t i)
{
    if (!P->columns || S->width > LINE) /* gather_wide fetches ahead by itself */
        return;
    const REAL *table = S->table;
    for (int64_t t = P->indptr[i]; t < P->indptr[i + 1]; t++)
        PREFETCH(table + P->columns[t] * LINE);
}

static inline void NAME(read_row)(const dual_problem *P, const dual_state *S, int64_t i, NAME(row) *R)
{
    const int n_lanes = P->n_splits * P->n_outputs, used = S->n_sides * n_lanes;
    const REAL *table = S->table, *intercept = table + P->n_features * S->width;
    const REAL weight = ((const REAL *)P->weights)[i];
    R->x = (const REAL *)P->values + P->indptr[i];
    R->columns = P->columns ? P->columns + P->indptr[i] : NULL;
    R->nnz = P->indptr[i + 1] - P->indptr[i];
    R->label = P->labels[i];
    R->roles = P->roles + i * P->n_splits;
    R->beta = (REAL *)S->duals + i * used;
    R->u = R->beta + n_lanes;
    const REAL *train_scale = (const REAL *)P->train_scale + (int64_t)R->label * P->n_splits;
    for (int k = 0; k < P->n_splits; k++) {
        R->train[k] = R->roles[k] == TRAIN ? weight * train_scale[k] : 0;
        R->val[k] = R->roles[k] == VALIDATION ? weight * ((const REAL *)P->val_scale)[k] : 0;
    }
    if (S->width == LINE)
        R->q0 = NAME(gather_narrow)(R->x, R->columns, R->nnz, table, used, R->product);
    else
        R->q0 = NAME(gather_wide)(R->x, R->columns, R->nnz, table, S->width, used, R->product);
    if (P->fit_intercept) {
        for (int l = 0; l < used; l++)
            R->product[l] += intercept[l];
        R->q0 += intercept[used];
    }
}

/* W, V and the intercept follow the row's new duals; the imbalance is what an unpenalised intercept drives to zero */
static inline void NAME(apply_row)(const dual_problem *P, dual_state *S, const NAME(row) *R)
{
    const int used = S->n_sides * P->n_splits * P->n_outputs;
    REAL *table = S->table, *intercept = table + P->n_features * S->width;
    NAME(scatter)(R->x, R->columns, R->nnz, table, S->width, used, R->change);
    if (P->fit_intercept)
        for (int l = 0; l < used; l++) {
            intercept[l] -= intercept[used] * R->change[l];
            S->imbalance[l] += R->change[l];
        }
}

static inline double NAME(logistic_loss)(REAL margin) /* log(1 + exp(-margin)) */
{
    return (margin < 0 ? -margin : 0) + NAME(log)((REAL)1.0 + NAME(exp_neg)(-NAME(abs)(margin)));
}

static inline double NAME(xlogx)(double x) { return x > 0 ? x * log(x) : 0; }

/* What a fixed W and V are measured by, in double: the loss of training rows and the gap. */
static inline void NAME(measure_logistic)(const NAME(row) *R, int split, REAL margin, REAL wrong, double *sums)
{
    const double loss = NAME(logistic_loss)(margin), train = R->train[split];
    const double conjugate = NAME(xlogx)(wrong) + NAME(xlogx)(1.0 - wrong);
    sums[split * N_SUMS + TRAIN_LOSS] += train * loss;
    sums[split * N_SUMS + GAP] += train * (loss + conjugate + (double)margin * wrong);
}

/* All splits of one row, K' = 1, VEC lanes at a time: a lane is a split. The sums are taken before the update, in
 * R->sums, which drain_sums empties. */
static inline void NAME(update_logistic)(const dual_problem *P, dual_state *S, NAME(row) *R, int update, double *sums)
{
    const int n = P->n_splits, both = S->n_sides == 2, padded = PADDED(n);
    const REAL s = R->label ? (REAL)1.0 : (REAL)-1.0;
    R->residuals[0] = R->residuals[1] = 0;
    for (int first = 0; first < n; first += VEC) {
        REAL a[VEC] = {0}, r[VEC] = {0}, beta[VEC] = {0}, u[VEC] = {0}, q[VEC];
        REAL beta_new[VEC], u_new[VEC], at_a[VEC], curvature[VEC], lower[VEC], adjoint[VEC];
        const REAL *train = R->train + first, *val = R->val + first;
        const int here = n - first < VEC ? n - first : VEC;
        for (int l = 0; l < here; l++) {
            a[l] = R->product[first + l];
            beta[l] = R->beta[first + l];
        }
        if (both)
            for (int l = 0; l < here; l++) {
                r[l] = R->product[n + first + l];
                u[l] = R->u[first + l];
            }
        for (int l = 0; l < VEC; l++)
            q[l] = train[l] * R->q0;
        if (here == 1) {
            memset(at_a, 0, sizeof at_a);
            memset(curvature, 0, sizeof curvature);
            NAME(solve_logistic)(a, r, q, beta, u, s, 1, beta_new, u_new, at_a, curvature);
        } else
            NAME(solve_logistic)(a, r, q, beta, u, s, VEC, beta_new, u_new, at_a, curvature);
        REAL *part = R->sums + first;
        for (int l = 0; l < VEC; l++) {
            lower[l] = train[l] * (at_a[l] - beta[l]) * (at_a[l] - beta[l]);
            adjoint[l] = train[l] * (curvature[l] * r[l] - u[l]) * (curvature[l] * r[l] - u[l]);
            part[VALIDATION_WEIGHT * padded + l] += val[l];
            part[TRAIN_WEIGHT * padded + l] += train[l];
            part[CURVATURE * padded + l] += train[l] * curvature[l] / (1 + q[l] * curvature[l]);
            part[LOWER_RESIDUAL * padded + l] += lower[l];
            part[ADJOINT_RESIDUAL * padded + l] += adjoint[l];
            part[LOWER_SIZE * padded + l] += train[l] * beta[l] * beta[l];
            part[ADJOINT_SIZE * padded + l] += train[l] * u[l] * u[l];
        }
        R->residuals[0] += NAME(total)(lower);
        R->residuals[1] += NAME(total)(adjoint);
        for (int l = 0; l < here; l++)
            if (val[l] > 0)
                part[VALIDATION_LOSS * padded + l] += val[l] * (REAL)NAME(logistic_loss)(s * a[l]);
        if (!update) {
            for (int l = 0; l < here; l++)
                NAME(measure_logistic)(R, first + l, s * a[l], -s * beta[l], sums);
            continue;
        }
        for (int l = 0; l < here; l++) {
            const int k = first + l;
            const REAL change = beta_new[l] - beta[l];
            R->change[k] = train[l] * change;
            R->beta[k] = beta_new[l];
            if (both) {
                R->change[n + k] = train[l] * (u_new[l] - u[l]) - val[l] * change;
                R->u[k] = u_new[l];
            }
        }
    }
}

/* Empty the binary rows' sums into the pass's, in double: after every block, before rounding adds up. */
static inline void NAME(drain_sums)(const dual_problem *P, NAME(row) *R, double *sums)
{
    const int padded = PADDED(P->n_splits);
    for (int j = 0; j < N_SUMS; j++)
        for (int k = 0; k < P->n_splits; k++) {
            sums[k * N_SUMS + j] += R->sums[j * padded + k];
            R->sums[j * padded + k] = 0;
        }
}

/* One split of one row, K' > 1. p is at a on entry of the sums, at the new z afterwards. */
static inline void NAME(update_softmax)(const dual_problem *P, dual_state *S, NAME(row) *R, int split, int update,
                                        double *sums)
{
    const int K = P->n_outputs, n = PADDED(K), both = S->n_sides == 2;
    const int lane = split * K, side = P->n_splits * K;
    REAL *a = R->work, *r = a + n, *beta = r + n, *u = beta + n, *p = u + n, *next = p + n, *more = next + n;
    const REAL train = R->train[split], val = R->val[split], q = train * R->q0;
    sums += split * N_SUMS;
    for (int k = 0; k < K; k++) {
        a[k] = R->product[lane + k];
        beta[k] = R->beta[lane + k];
        r[k] = both ? R->product[side + lane + k] : 0;
        u[k] = both ? R->u[lane + k] : 0;
    }
    for (int k = K; k < n; k++) {
        a[k] = PADDING;
        r[k] = beta[k] = u[k] = 0;
    }
    const REAL loss = NAME(softmax)(a, n, R->label, p);
    NAME(residual)(p, n, R->label, next);
    sums[VALIDATION_LOSS] += val * loss;
    sums[VALIDATION_WEIGHT] += val;
    if (train > 0) {
        const REAL curvature = ((REAL)1.0 - NAME(dot)(p, p, n)) / K;
        sums[TRAIN_WEIGHT] += train;
        sums[CURVATURE] += train * curvature / (1 + q * curvature);
        for (int k = 0; k < n; k++)
            next[k] -= beta[k];
        const REAL lower = train * NAME(dot)(next, next, n);
        NAME(apply_curvature)(p, r, n, next);
        for (int k = 0; k < n; k++)
            next[k] -= u[k];
        const REAL adjoint = train * NAME(dot)(next, next, n);
        R->residuals[0] += lower;
        R->residuals[1] += adjoint;
        sums[LOWER_RESIDUAL] += lower;
        sums[ADJOINT_RESIDUAL] += adjoint;
        sums[LOWER_SIZE] += train * NAME(dot)(beta, beta, n);
        sums[ADJOINT_SIZE] += train * NAME(dot)(u, u, n);
    }
    if (!update) {
        sums[TRAIN_LOSS] += train * loss;
        double gap = 0, log_p_label = -loss;
        for (int k = 0; k < K; k++) {
            const double p_beta = beta[k] + (k == R->label ? 1.0 : 0.0);
            gap += NAME(xlogx)(p_beta) - p_beta * (a[k] - a[R->label] + log_p_label);
        }
        sums[GAP] += train * gap;
        return;
    }
    if (train > 0)
        NAME(solve_softmax)(a, beta, q, R->label, n, loss, p, more);
    NAME(residual)(p, n, R->label, next);
    for (int k = 0; k < K; k++) {
        R->change[lane + k] = train * (next[k] - beta[k]);
        R->beta[lane + k] = next[k];
    }
    if (!both)
        return;
    for (int k = 0; k < K; k++)
        R->change[side + lane + k] = -val * (next[k] - beta[k]);
    if (train > 0) {
        for (int k = 0; k < n; k++)
            next[k] = r[k] + q * u[k];
        NAME(apply_curvature)(p, next, n, more);
        NAME(solve_curvature)(p, q, more, n, next);
        for (int k = 0; k < K; k++) {
            R->change[side + lane + k] = train * (next[k] - u[k]);
            R->u[lane + k] = next[k];
        }
    }
}

static inline void NAME(update_row)(const dual_problem *P, dual_state *S, NAME(row) *R, int update, double *sums)
{
    if (P->n_outputs == 1) {
        NAME(update_logistic)(P, S, R, update, sums);
        return;
    }
    R->residuals[0] = R->residuals[1] = 0;
    for (int split = 0; split < P->n_splits; split++)
        if (R->roles[split] != UNUSED)
            NAME(update_softmax)(P, S, R, split, update, sums);
        else if (update)
            for (int side = 0; side < S->n_sides; side++)
                memset(R->change + (side * P->n_splits + split) * P->n_outputs, 0, sizeof(REAL) * P->n_outputs);
}

/* Move the intercept's reference against the imbalance (proximal point). For K' > 1 a constant added to all outputs changes
 * no loss: that part of the imbalance is rounding and is taken out, lest it adds up. */
static inline void NAME(drift_intercept)(const dual_problem *P, dual_state *S, int64_t n_rows)
{
    const int K = P->n_outputs, used = S->n_sides * P->n_splits * K;
    REAL *intercept = (REAL *)S->table + P->n_features * S->width;
    const double step = S->drift * (double)n_rows * intercept[used];
    for (int first = 0; first < used; first += K) {
        double mean = 0;
        for (int k = 0; k < K && K > 1; k++)
            mean += S->imbalance[first + k] / K;
        for (int k = 0; k < K; k++) {
            S->imbalance[first + k] -= mean;
            intercept[first + k] -= (REAL)(step * S->imbalance[first + k]);
        }
    }
}

/* ---- passes over the rows ------------------------------------------------------------------------------------- */

/* Visit the blocks in the order given: lower level, adjoint and validation of all splits at once. */
static void NAME(advance)(const dual_problem *P, dual_state *S, const int64_t *blocks, int64_t n_blocks,
                          int64_t block_size, int64_t n_rows, void *scratch, double *sums)
{
    NAME(row) R;
    NAME(place_row)(P, S, scratch, &R);
    for (int64_t b = 0; b < n_blocks; b++) {
        const int64_t start = blocks[b] * block_size, stop = start + block_size < n_rows ? start + block_size : n_rows;
        for (int64_t i = start; i < stop; i++) {
            if (i + 1 < stop)
                NAME(prefetch_row)(P, S, i + 1);
            else if (b + 1 < n_blocks)
                NAME(prefetch_row)(P, S, blocks[b + 1] * block_size);
            NAME(read_row)(P, S, i, &R);
            NAME(update_row)(P, S, &R, 1, sums);
            S->residuals[2 * i] = R.residuals[0];
            S->residuals[2 * i + 1] = R.residuals[1];
            NAME(apply_row)(P, S, &R);
        }
        NAME(drain_sums)(P, &R, sums);
        if (P->fit_intercept)
            NAME(drift_intercept)(P, S, stop - start);
    }
}

/* The sums at fixed W, V: losses, gap and residuals of the rows [start, stop). */
static void NAME(evaluate)(const dual_problem *P, dual_state *S, int64_t start, int64_t stop, void *scratch,
                           double *sums)
{
    NAME(row) R;
    NAME(place_row)(P, S, scratch, &R);
    for (int64_t i = start; i < stop; i++) {
        if (i + 1 < stop)
            NAME(prefetch_row)(P, S, i + 1);
        NAME(read_row)(P, S, i, &R);
        NAME(update_row)(P, S, &R, 0, sums);
        NAME(drain_sums)(P, &R, sums);
    }
}

/* W and V from the duals alone: adds the rows [start, stop) to a table whose lanes were zero; sums up the imbalance. */
static void NAME(rebuild)(const dual_problem *P, dual_state *S, int64_t start, int64_t stop, void *scratch)
{
    NAME(row) R;
    NAME(place_row)(P, S, scratch, &R);
    const int K = P->n_outputs, n_lanes = P->n_splits * K, used = S->n_sides * n_lanes;
    for (int64_t i = start; i < stop; i++) {
        NAME(read_row)(P, S, i, &R);
        for (int l = 0; l < n_lanes; l++) {
            R.change[l] = R.train[l / K] * R.beta[l];
            if (S->n_sides == 2)
                R.change[n_lanes + l] = R.train[l / K] * R.u[l] - R.val[l / K] * R.beta[l];
        }
        NAME(scatter)(R.x, R.columns, R.nnz, S->table, S->width, used, R.change);
        for (int l = 0; l < used; l++)
            S->imbalance[l] += R.change[l];
    }
}

/* New penalties, and all duals multiplied by shrink: W_j and V_j go with shrink/lambda_j. */
static void NAME(rescale)(const dual_problem *P, dual_state *S, const double *penalties, double shrink)
{
    const int used = S->n_sides * P->n_splits * P->n_outputs;
    for (int64_t j = 0; j < P->n_features; j++) {
        REAL *row = (REAL *)S->table + j * S->width;
        const REAL inverse = (REAL)(1.0 / penalties[j]), ratio = (REAL)shrink * (inverse / row[used]);
        for (int l = 0; l < used; l++)
            row[l] *= ratio;
        row[used] = inverse;
    }
}

/* inner[j] = sum over lanes of W_j V_j: the hypergradient is -lambda_j / n_splits times it. */
static void NAME(contract)(const dual_problem *P, const dual_state *S, double *inner)
{
    const int n_lanes = P->n_splits * P->n_outputs;
    for (int64_t j = 0; j < P->n_features; j++) {
        const REAL *row = (const REAL *)S->table + j * S->width;
        REAL part[VEC] = {0};
        int l = 0;
        for (; l + VEC <= n_lanes; l += VEC)
            for (int v = 0; v < VEC; v++)
                part[v] += row[l + v] * row[n_lanes + l + v];
        for (; l < n_lanes; l++)
            part[0] += row[l] * row[n_lanes + l];
        inner[j] = NAME(total)(part);
    }
}
