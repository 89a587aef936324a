/* The row kernels of the dual solver, written once and included once per (precision, instruction set).
 *
 * Before each inclusion: REAL is float or double (and INT, EXP_* and ROUNDER its facts), NAME(f) gives f its suffix,
 * NEWTON_TOL is the step after which Newton's next one would be exact in REAL, ROUNDING a few of its last bits.
 *
 * Conventions (design: method.md, section 3). A *lane* is one output of one split; lane = split * n_outputs + output.
 * Row j of the table is  [ W_j of all lanes | V_j of all lanes | 1/lambda_j | padding ], a multiple of LINE reals long.
 * The row behind the last feature is the intercept, [ b | v | 1/mu | padding ]: the same as a feature that is 1
 * everywhere, whose penalty mu/2 (b - b_ref)^2 is moved along (proximal point), so that it vanishes in the limit. The
 * same holds for features without a penalty, the free ones.
 * Losses of the lower level are sums, those of the upper level means (val_scale holds 1 / sum of weights).
 * No function allocates, none raises. All sums over a row are in lanes of VEC, so that they vectorise as they stand,
 * in one order whatever the instruction set.
 */

#include "_logistic.h"

/* ---- products with one sparse or dense row ------------------------------------------------------------------ */

/* out = sum_t x_t T[column_t], rows of one line, kept in registers; returns sum_t x_t^2 / lambda_t. */
static inline REAL NAME(gather_narrow)(const REAL *x, const int32_t *columns, int64_t nnz, const REAL *table,
                                       int64_t inv_at, REAL *out)
{
    NAME(vec) even[LINE / LANES] = {{0}}, odd[LINE / LANES] = {{0}};
    REAL q = 0;
    int64_t t = 0;
    for (; t + 2 <= nnz; t += 2) {
        const REAL *row = table + COLUMN(t) * LINE, *next = table + COLUMN(t + 1) * LINE;
        for (int v = 0; v < LINE / LANES; v++) {
            even[v] += x[t] * ((const NAME(vec) *)row)[v];
            odd[v] += x[t + 1] * ((const NAME(vec) *)next)[v];
        }
        q += x[t] * x[t] * row[inv_at] + x[t + 1] * x[t + 1] * next[inv_at];
    }
    if (t < nnz) {
        const REAL *row = table + COLUMN(t) * LINE;
        for (int v = 0; v < LINE / LANES; v++)
            even[v] += x[t] * ((const NAME(vec) *)row)[v];
        q += x[t] * x[t] * row[inv_at];
    }
    for (int v = 0; v < LINE / LANES; v++)
        ((NAME(vec) *)out)[v] = even[v] + odd[v];
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

/* The same for one lane alone, rows [W_j, 1/lambda_j]. */
static inline REAL NAME(gather_pair)(const REAL *x, const int32_t *columns, int64_t nnz, const REAL *table, REAL *out)
{
    REAL sum[4] = {0}, q[4] = {0};
    int64_t t = 0;
    for (; t + 4 <= nnz; t += 4)
        for (int l = 0; l < 4; l++) {
            const REAL *row = table + COLUMN(t + l) * PAIR;
            sum[l] += x[t + l] * row[0];
            q[l] += x[t + l] * x[t + l] * row[1];
        }
    for (; t < nnz; t++) {
        const REAL *row = table + COLUMN(t) * PAIR;
        sum[0] += x[t] * row[0];
        q[0] += x[t] * x[t] * row[1];
    }
    *out = (sum[0] + sum[2]) + (sum[1] + sum[3]);
    return (q[0] + q[2]) + (q[1] + q[3]);
}

/* T[column_t] -= (x_t / lambda_t) d,  d zero beyond the lanes, so 1/lambda and the padding stay. */
static inline void NAME(scatter)(const REAL *x, const int32_t *columns, int64_t nnz, REAL *table, int64_t width,
                                 int64_t inv_at, const REAL *d)
{
    if (width == PAIR) {
        for (int64_t t = 0; t < nnz; t++) {
            REAL *row = table + COLUMN(t) * PAIR;
            row[0] -= x[t] * row[1] * d[0];
        }
        return;
    }
    if (width == LINE) {
        NAME(vec) change[LINE / LANES];
        memcpy(change, d, sizeof change);
        for (int64_t t = 0; t < nnz; t++) {
            REAL *row = table + COLUMN(t) * LINE;
            const REAL step = x[t] * row[inv_at];
            for (int v = 0; v < LINE / LANES; v++)
                ((NAME(vec) *)row)[v] -= step * change[v];
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
    REAL *change;        /* (width,)  what scatter takes off [W | V]; zero beyond the lanes */
    REAL *tally;         /* (width,)  the changes of a block: of the imbalance */
    REAL *train, *val;   /* (n_splits,) weights; zero where the row has the other role, or none */
    REAL *beta, *u;      /* (n_lanes,) the row's duals, taken out of the state and put back by apply_row */
    REAL *sums;          /* (N_SUMS, PADDED(n_splits)) of a block of binary rows */
    REAL residuals[2];   /* over all splits: the row's LOWER_RESIDUAL; its ADJOINT_RESIDUAL, or without one, MOVE */
    REAL *work;          /* twelve vectors of PADDED(n_outputs) */
} NAME(row);

static inline void NAME(place_row)(const dual_problem *P, const dual_state *S, REAL *scratch, NAME(row) *R)
{
    const int64_t room = S->width + VEC; /* lanes are read and written VEC at a time */
    R->product = scratch;
    R->change = R->product + room;
    R->tally = R->change + room;
    R->beta = R->tally + room;
    R->u = R->beta + P->n_splits * P->n_outputs;
    R->train = R->beta + room;
    R->val = R->train + PADDED(P->n_splits);
    R->sums = R->val + PADDED(P->n_splits);
    R->work = R->sums + N_SUMS * PADDED(P->n_splits);
    memset(scratch, 0, sizeof(REAL) * (4 * room + (2 + N_SUMS) * PADDED(P->n_splits)));
}

static inline void NAME(prefetch_row)(const dual_problem *P, const dual_state *S, int64_t i)
{
    if (!P->columns || S->width != LINE) /* gather_wide fetches ahead by itself, a table of pairs is small */
        return;
    const REAL *table = S->table;
    for (int64_t t = P->indptr[i]; t < P->indptr[i + 1]; t++)
        PREFETCH(table + P->columns[t] * LINE);
}

static inline void NAME(read_row)(const dual_problem *P, const dual_state *S, int64_t i, NAME(row) *R)
{
    const int used = S->n_sides * P->n_splits * P->n_outputs;
    const REAL *table = S->table, *intercept = table + P->n_features * S->width;
    const REAL weight = ((const REAL *)P->weights)[i];
    R->x = (const REAL *)P->values + P->indptr[i];
    R->columns = P->columns ? P->columns + P->indptr[i] : NULL;
    R->nnz = P->indptr[i + 1] - P->indptr[i];
    R->label = P->labels[i];
    R->roles = P->roles + i * P->n_splits;
    memcpy(R->beta, (const REAL *)S->duals + i * used, sizeof(REAL) * used);
    const REAL *train_scale = (const REAL *)P->train_scale + (int64_t)R->label * P->n_splits;
    for (int k = 0; k < P->n_splits; k++) {
        R->train[k] = R->roles[k] == TRAIN ? weight * train_scale[k] : 0;
        R->val[k] = R->roles[k] == VALIDATION ? weight * ((const REAL *)P->val_scale)[k] : 0;
    }
    if (S->width == PAIR)
        R->q0 = NAME(gather_pair)(R->x, R->columns, R->nnz, table, R->product);
    else if (S->width == LINE)
        R->q0 = NAME(gather_narrow)(R->x, R->columns, R->nnz, table, used, R->product);
    else
        R->q0 = NAME(gather_wide)(R->x, R->columns, R->nnz, table, S->width, used, R->product);
    if (P->fit_intercept) {
        for (int64_t c = 0; c < S->width; c++)
            R->product[c] += intercept[c];
        R->q0 += intercept[used];
    }
}

/* W, V and the intercept follow the row's new duals; the imbalance is what an unpenalised intercept drives to zero */
static inline void NAME(apply_row)(const dual_problem *P, dual_state *S, int64_t i, const NAME(row) *R)
{
    const int used = S->n_sides * P->n_splits * P->n_outputs;
    REAL *table = S->table, *intercept = table + P->n_features * S->width;
    memcpy((REAL *)S->duals + i * used, R->beta, sizeof(REAL) * used);
    S->residuals[2 * i] = R->residuals[0];
    S->residuals[2 * i + 1] = R->residuals[1];
    NAME(scatter)(R->x, R->columns, R->nnz, table, S->width, used, R->change);
    if (P->fit_intercept) {
        const REAL inverse = intercept[used];
        for (int64_t c = 0; c < S->width; c++) {
            intercept[c] -= inverse * R->change[c];
            R->tally[c] += R->change[c];
        }
    }
}

static inline double NAME(xlogx)(double x) { return x > 0 ? x * log(x) : 0; }

/* What a fixed W and V are measured by, in double: the loss of training rows and the gap. */
static inline void NAME(measure_logistic)(const NAME(row) *R, int split, REAL loss, REAL margin, REAL wrong, double *sums)
{
    const double train = R->train[split], conjugate = NAME(xlogx)(wrong) + NAME(xlogx)(1.0 - wrong);
    sums[split * N_SUMS + TRAIN_LOSS] += train * loss;
    sums[split * N_SUMS + GAP] += train * (loss + conjugate + (double)margin * wrong);
}

static inline NAME(vec) NAME(load)(const REAL *from, NAME(mask) lanes)
{
    return NAME(pick)(lanes, *(const NAME(vec) *)from, (NAME(vec)){0});
}

static inline void NAME(store)(REAL *to, NAME(vec) x, NAME(mask) lanes)
{
    *(NAME(vec) *)to = NAME(pick)(lanes, x, *(const NAME(vec) *)to);
}

/* A register of splits of one row, K' = 1, from `first`: a lane is a split. The sums are taken before the update, in R->sums, which
 * drain_sums empties. */
static inline void NAME(update_logistic)(const dual_problem *P, dual_state *S, NAME(row) *R, int first, int task,
                                         double *sums)
{
    const int n = P->n_splits, both = S->n_sides == 2, padded = PADDED(n);
    const REAL s = R->label ? (REAL)1.0 : (REAL)-1.0;
    const NAME(mask) lanes = NAME(lanes_below)(n - first);
    const NAME(vec) train = *(const NAME(vec) *)(R->train + first), val = *(const NAME(vec) *)(R->val + first);
    const NAME(vec) a = NAME(load)(R->product + first, lanes), beta = NAME(load)(R->beta + first, lanes);
    NAME(vec) r = {0}, u = {0};
    if (both) {
        r = NAME(load)(R->product + n + first, lanes);
        u = NAME(load)(R->u + first, lanes);
    }
    const NAME(vec) q = train * (task == LOOK ? 0 : R->q0);
    const NAME(logistic) found = NAME(solve_logistic)(a, r, q, beta, u, s);
    const NAME(vec) off = found.beta_at_a - beta, off_adjoint = found.curvature_at_a * r - u;
    const NAME(vec) lower = train * off * off, adjoint = train * off_adjoint * off_adjoint;
    NAME(vec) *part = (NAME(vec) *)(R->sums + first);
    const int next = padded / LANES;
    part[VALIDATION_LOSS * next] += val * found.loss_at_a;
    part[VALIDATION_WEIGHT * next] += val;
    part[TRAIN_WEIGHT * next] += train;
    part[CURVATURE * next] += train * found.curvature_at_a / ((REAL)1 + q * found.curvature_at_a);
    part[LOWER_RESIDUAL * next] += lower;
    part[LOWER_SIZE * next] += train * beta * beta;
    R->residuals[0] += NAME(sum)(lower);
    if (both) {
        part[ADJOINT_RESIDUAL * next] += adjoint;
        part[ADJOINT_SIZE * next] += train * u * u;
        R->residuals[1] += NAME(sum)(adjoint);
    }
    if (task != UPDATE) {
        for (int k = first; task == MEASURE && k < n && k < first + LANES; k++)
            NAME(measure_logistic)(R, k, found.loss_at_a[k - first], s * a[k - first], -s * beta[k - first], sums);
        return;
    }
    const NAME(vec) change = found.beta - beta;
    if (!both)
        R->residuals[1] += NAME(sum)(q * q * change * change);
    NAME(store)(R->change + first, train * change, lanes);
    NAME(store)(R->beta + first, found.beta, lanes);
    if (both) {
        NAME(store)(R->change + n + first, train * (found.u - u) - val * change, lanes);
        NAME(store)(R->u + first, found.u, lanes);
    }
}

/* Empty the sums of a block into the pass's, in double, before rounding adds up. */
static inline void NAME(drain_sums)(const dual_problem *P, dual_state *S, NAME(row) *R, double *sums)
{
    const int padded = PADDED(P->n_splits), used = S->n_sides * P->n_splits * P->n_outputs;
    for (int l = 0; l < used; l++) {
        S->imbalance[l] += R->tally[l];
        R->tally[l] = 0;
    }
    if (P->n_outputs > 1)
        return;
    for (int j = 0; j < N_SUMS; j++)
        for (int k = 0; k < P->n_splits; k++) {
            sums[k * N_SUMS + j] += R->sums[j * padded + k];
            R->sums[j * padded + k] = 0;
        }
}

/* One split of one row, K' > 1. p is at a on entry of the sums, at the new z afterwards. */
static inline void NAME(update_softmax)(const dual_problem *P, dual_state *S, NAME(row) *R, int split, int task,
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
    if (task == LOOK)
        return;
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
        if (both)
            R->residuals[1] += adjoint;
        sums[LOWER_RESIDUAL] += lower;
        sums[ADJOINT_RESIDUAL] += adjoint;
        sums[LOWER_SIZE] += train * NAME(dot)(beta, beta, n);
        sums[ADJOINT_SIZE] += train * NAME(dot)(u, u, n);
    }
    if (task == MEASURE) {
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
    if (!both) {
        for (int k = 0; k < n; k++)
            more[k] = next[k] - beta[k];
        R->residuals[1] += q * q * NAME(dot)(more, more, n);
        return;
    }
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

static inline void NAME(update_row)(const dual_problem *P, dual_state *S, NAME(row) *R, int task, double *sums)
{
    R->residuals[0] = R->residuals[1] = 0;
    if (P->n_outputs == 1) {
        for (int first = 0; first < P->n_splits; first += LANES)
            NAME(update_logistic)(P, S, R, first, task, sums);
        return;
    }
    for (int split = 0; split < P->n_splits; split++)
        if (R->roles[split] != UNUSED)
            NAME(update_softmax)(P, S, R, split, task, sums);
        else if (task == UPDATE)
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

/* The same for the free features, whose imbalance is read off W - W_ref. */
static inline void NAME(drift_free)(const dual_problem *P, dual_state *S, int64_t n_rows)
{
    const int K = P->n_outputs, used = S->n_sides * P->n_splits * K;
    const REAL step = (REAL)(S->drift * (double)n_rows);
    for (int64_t f = 0; f < S->n_free; f++) {
        REAL *row = (REAL *)S->table + S->free[f] * S->width, *reference = (REAL *)S->reference + f * used;
        for (int first = 0; first < used; first += K) {
            REAL mean = 0;
            for (int k = first; k < first + K && K > 1; k++)
                mean += (row[k] - reference[k]) / K;
            for (int k = first; k < first + K; k++) {
                reference[k] += mean;
                const REAL move = step * (row[k] - reference[k]);
                reference[k] += move;
                row[k] += move;
            }
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
            NAME(update_row)(P, S, &R, UPDATE, sums);
            NAME(apply_row)(P, S, i, &R);
        }
        NAME(drain_sums)(P, S, &R, sums);
        if (P->fit_intercept)
            NAME(drift_intercept)(P, S, stop - start);
        NAME(drift_free)(P, S, stop - start);
    }
}

/* The sums at fixed W, V over the rows [start, stop): of MEASURE all, of LOOK the validation losses. */
static void NAME(evaluate)(const dual_problem *P, dual_state *S, int64_t start, int64_t stop, int task, void *scratch,
                           double *sums)
{
    NAME(row) R;
    NAME(place_row)(P, S, scratch, &R);
    for (int64_t i = start; i < stop; i++) {
        if (i + 1 < stop)
            NAME(prefetch_row)(P, S, i + 1);
        NAME(read_row)(P, S, i, &R);
        NAME(update_row)(P, S, &R, task, sums);
        NAME(drain_sums)(P, S, &R, sums);
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
