/* One row of the dual solver in all splits: what a visit makes of its duals. Included once per (precision, instruction set) by
 * _variants.h.
 *
 * Conventions (docs/method.rst, the dual solver). A *vector* of the table is one output of one split; vector = split *
 * n_outputs + output. Row j of the table is  [ W_j of all vectors | V_j of all vectors | 1/lambda_j | padding ], a multiple of
 * LINE reals long, or PAIR where there is but one; where penalties differ by split, 1/lambda_j of each split. The row behind the
 * last feature is the intercept, [ b | v | 1/mu | padding ]: the same as a feature that is 1 everywhere, whose penalty
 * mu/2 (b - b_ref)^2 is moved along, Eq. (13), so that it vanishes in the limit. The same holds for features without a penalty,
 * the unpenalized ones.
 * Losses of the lower level are sums, those of the upper level means (val_scale holds 1 / sum of weights).
 * No function allocates, none raises.
 */

#include "_logistic.h"

/* One row of the problem and its room to work in. Arrays of one real a vector or a split are padded with zeros to VEC. */
typedef struct {
    const REAL *x;         /* its entries */
    REAL *converted;       /* (longest row,) and where they were of another type */
    const int32_t *columns;
    int64_t nnz;
    const int32_t *labels; /* of split k: labels[k * label_step] */
    REAL *q;               /* (n_splits,) sum_j x_j^2 / lambda_j (+ 1/mu) */
    const int8_t *roles;   /* (n_splits,) */
    REAL *product;         /* (width,)  x'[W | V] + [b | v] */
    REAL *change;          /* (width,)  what scatter takes off [W | V]; zero beyond the vectors */
    REAL *tally;           /* (width,)  the changes of a block: of the imbalance */
    REAL *train, *val;     /* (n_splits,) weights; zero where the row has the other role, or none */
    REAL *sign;            /* (n_splits,) of two classes: 1 for the second, -1 for the first */
    REAL *train_scale;     /* (n_classes, n_splits) and */
    REAL *val_scale;       /* (n_splits,) the problem's */
    REAL *beta, *u;        /* (n_vectors,) the row's duals, taken out of the state and put back by apply_row */
    REAL *sums;            /* (N_SUMS, PADDED(n_splits)) of a block of rows of two classes */
    REAL residuals[2];     /* over all splits: the row's LOWER_RESIDUAL; its ADJOINT_RESIDUAL, or without one, MOVE */
    REAL *work;            /* twelve times PADDED(n_outputs) */
    REAL *pieces;          /* where penalties differ by split, the registers of change, once for each split in one: the lanes */
    int32_t *piece_of;     /* (width,) of piece piece_of[lane] are those of */
    int32_t *split_of;     /* split split_of[piece], zero in others; */
    int32_t *end_of;       /* register r has the pieces up to end_of[r] */
} NAME(row);

/* Which splits stand in which register of a row of the table. */
static inline void NAME(place_pieces)(const dual_problem *P, const dual_state *S, NAME(row) *R)
{
    const int n_vectors = P->n_splits * P->n_outputs, used = S->n_sides * n_vectors;
    int pieces = 0;
    for (int first = 0; first < used; first += LANES) {
        const int start = pieces;
        for (int l = first; l < first + LANES && l < used; l++) {
            const int split = l % n_vectors / P->n_outputs;
            int piece = start;
            while (piece < pieces && R->split_of[piece] != split)
                piece++;
            if (piece == pieces)
                R->split_of[pieces++] = split;
            R->piece_of[l] = piece;
        }
        R->end_of[first / LANES] = pieces;
    }
}

/* Divide the scratch, of layout_dual_scratch reals, and clear it. */
static inline void NAME(place_row)(const dual_problem *P, const dual_state *S, REAL *scratch, NAME(row) *R)
{
    const int64_t room = S->width + VEC; /* vectors are read and written a register at a time */
    const int64_t splits = PADDED(P->n_splits);
    R->product = scratch;
    R->change = R->product + room;
    R->tally = R->change + room;
    R->beta = R->tally + room;
    R->u = R->beta + P->n_splits * P->n_outputs;
    R->train = R->beta + room;
    R->val = R->train + splits;
    R->sign = R->val + splits;
    R->q = R->sign + splits;
    R->sums = R->q + splits;
    R->work = R->sums + N_SUMS * splits;
    R->val_scale = R->work + 12 * PADDED(P->n_outputs);
    R->train_scale = R->val_scale + P->n_splits;
    R->pieces = R->train_scale + P->n_classes * P->n_splits;
    R->piece_of = (int32_t *)(R->pieces + S->width + 2 * VEC * P->n_splits);
    R->split_of = R->piece_of + S->width;
    R->end_of = R->split_of + S->width + 2 * P->n_splits;
    R->converted = R->pieces + 4 * S->width + 2 * (VEC + 1) * P->n_splits;
    memset(scratch, 0, sizeof(REAL) * (R->converted - scratch));
    if (S->n_inverses > 1)
        NAME(place_pieces)(P, S, R);
    for (int k = 0; k < P->n_splits; k++)
        R->val_scale[k] = (REAL)P->val_scale[k];
    for (int64_t c = 0; c < (int64_t)P->n_classes * P->n_splits; c++)
        R->train_scale[c] = (REAL)P->train_scale[c];
}

/* The row's weights and signs in every split; step is P->label_step, a constant so that the loop vectorizes where it is 0. */
INLINE void NAME(read_weights)(const dual_problem *P, int64_t i, const int step, NAME(row) *R)
{
    const int n_splits = P->n_splits;
    const REAL weight = (REAL)P->weights[i];
    for (int k = 0; k < n_splits; k++) {
        const int label = R->labels[k * step];
        R->train[k] = R->roles[k] == TRAIN ? weight * R->train_scale[(int64_t)label * n_splits + k] : 0;
        R->val[k] = R->roles[k] == VALIDATION ? weight * R->val_scale[k] : 0;
        R->sign[k] = label ? 1 : -1;
    }
}

/* The row's labels, roles, weights and duals. */
static inline void NAME(read_duals)(const dual_problem *P, const dual_state *S, int64_t i, NAME(row) *R)
{
    const int used = S->n_sides * P->n_splits * P->n_outputs;
    R->roles = P->roles + i * P->n_splits;
    R->labels = P->labels + i * (P->label_step ? P->n_splits : 1);
    memcpy(R->beta, (const REAL *)S->duals + i * used, sizeof(REAL) * used);
    if (P->label_step)
        NAME(read_weights)(P, i, 1, R);
    else
        NAME(read_weights)(P, i, 0, R);
}

static inline double NAME(xlogx)(double x) { return x > 0 ? x * log(x) : 0; }

/* What a fixed W and V are measured by, in double: the loss of training rows and the gap. */
static inline void NAME(measure_logistic)(const NAME(row) *R, int split, REAL loss, REAL margin, REAL wrong, double *sums)
{
    const double train = R->train[split], conjugate = NAME(xlogx)(wrong) + NAME(xlogx)(1.0 - wrong);
    sums[split * N_SUMS + TRAIN_LOSS] += train * loss;
    sums[split * N_SUMS + GAP] += train * (loss + conjugate + (double)margin * wrong);
}

/* A register of splits of one row, two classes, from `first`: a visit, Eqs. (7), (11) and (12). The sums are taken before the
 * update, in R->sums, which drain_sums empties. */
INLINE void NAME(update_logistic)(const dual_problem *P, dual_state *S, NAME(row) *R, int first, int task,
                                         double *sums)
{
    const int n = P->n_splits, both = S->n_sides == 2, padded = PADDED(n);
    const NAME(mask) lanes = NAME(lanes_below)(n - first);
    const NAME(vec) train = *(const NAME(vec) *)(R->train + first), val = *(const NAME(vec) *)(R->val + first);
    const NAME(vec) s = *(const NAME(vec) *)(R->sign + first);
    const NAME(vec) a = NAME(load)(R->product + first, lanes), beta = NAME(load)(R->beta + first, lanes);
    NAME(vec) r = NAME(every)(0), u = NAME(every)(0);
    if (both) {
        r = NAME(load)(R->product + n + first, lanes);
        u = NAME(load)(R->u + first, lanes);
    }
    const NAME(vec) q = task == LOOK ? NAME(every)(0) : (NAME(vec))(train * *(const NAME(vec) *)(R->q + first));
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
        const NAME(vec) margin = s * a, wrong = -s * beta;
        for (int l = 0; task == MEASURE && l < LANES && first + l < n; l++)
            NAME(measure_logistic)(R, first + l, LANE(found.loss_at_a, l), LANE(margin, l), LANE(wrong, l), sums);
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

/* One split of one row, more than two classes. Arrays of the outputs, padded; p as _softmax.h has it. */
typedef struct {
    int n, K, label;                          /* padded outputs; outputs; the row's class in this split */
    REAL train, val, q;                       /* weights; train * q */
    REAL *a, *r, *beta, *u, *p, *next, *more; /* outputs of W and of V, duals, probabilities, room */
    REAL *new_beta, *new_u, *lower, *adjoint; /* where duals, and the changes of W and V, go */
} NAME(outputs);

static inline NAME(outputs) NAME(read_outputs)(const dual_problem *P, const dual_state *S, NAME(row) *R, int split)
{
    const int K = P->n_outputs, n = PADDED(K), both = S->n_sides == 2, first = split * K, side = P->n_splits * K;
    const REAL train = R->train[split];
    NAME(outputs) O = {.n = n, .K = K, .train = train, .val = R->val[split], .q = train * R->q[split]};
    O.label = R->labels[split * P->label_step];
    O.a = R->work, O.r = O.a + n, O.beta = O.r + n, O.u = O.beta + n, O.p = O.u + n, O.next = O.p + n, O.more = O.next + n;
    O.new_beta = R->beta + first, O.new_u = R->u + first, O.lower = R->change + first, O.adjoint = R->change + side + first;
    memcpy(O.a, R->product + first, sizeof(REAL) * K);
    memcpy(O.beta, R->beta + first, sizeof(REAL) * K);
    for (int k = K; k < n; k++) {
        O.a[k] = PADDING;
        O.beta[k] = O.r[k] = O.u[k] = 0;
    }
    if (both && train > 0) {
        memcpy(O.r, R->product + side + first, sizeof(REAL) * K);
        memcpy(O.u, R->u + first, sizeof(REAL) * K);
    }
    return O;
}

/* The sums of a training row before its step. */
static inline void NAME(sum_softmax)(const NAME(outputs) *O, const NAME(odds) *odds, NAME(row) *R, int both, double *sums)
{
    const int n = O->n;
    const REAL own = odds->own, curvature = NAME(variance)(O->p, odds, n) / O->K;
    sums[TRAIN_WEIGHT] += O->train;
    sums[CURVATURE] += O->train * curvature / (1 + O->q * curvature);
    O->p[O->label] = -odds->others;
    const REAL lower = O->train * NAME(squared_distance)(O->p, O->beta, n);
    O->p[O->label] = 0;
    R->residuals[0] += lower;
    sums[LOWER_RESIDUAL] += lower;
    sums[LOWER_SIZE] += O->train * NAME(dot)(O->beta, O->beta, n);
    if (!both)
        return;
    NAME(apply_curvature)(O->p, own, O->label, O->r, n, O->next);
    const REAL adjoint = O->train * NAME(squared_distance)(O->next, O->u, n);
    R->residuals[1] += adjoint;
    sums[ADJOINT_RESIDUAL] += adjoint;
    sums[ADJOINT_SIZE] += O->train * NAME(dot)(O->u, O->u, n);
}

/* What a fixed W and V are measured by, in double: the loss of training rows and the gap. */
static inline void NAME(measure_softmax)(const NAME(outputs) *O, REAL loss, double *sums)
{
    double gap = 0, log_p_label = -loss;
    for (int k = 0; k < O->K; k++) {
        const double p_beta = O->beta[k] + (k == O->label ? 1.0 : 0.0);
        gap += NAME(xlogx)(p_beta) - p_beta * (O->a[k] - O->a[O->label] + log_p_label);
    }
    sums[TRAIN_LOSS] += O->train * loss;
    sums[GAP] += O->train * gap;
}

/* New duals, in `next`, take the place of the old ones, and what they change is weight times their difference. */
static inline void NAME(take)(const NAME(outputs) *O, const REAL *next, const REAL *before, REAL weight, REAL *duals,
                              REAL *change)
{
    REAL *more = O->more;
    EACH_VEC(c, v, O->n)
    AT(more, c, v) = weight * (AT(next, c, v) - AT(before, c, v));
    memcpy(change, more, sizeof(REAL) * O->K);
    memcpy(duals, next, sizeof(REAL) * O->K);
}

/* The step of both duals: Eqs. (8) and (11) in a training row, (12) in a validation row. p is at a on entry. */
static inline void NAME(step_softmax)(const NAME(outputs) *O, NAME(row) *R, int both, NAME(odds) odds)
{
    if (O->train > 0)
        odds = NAME(solve_softmax)(O->a, O->beta, O->q, O->label, O->n, odds, O->p, O->more);
    O->p[O->label] = -odds.others;
    if (!both)
        R->residuals[1] += O->q * O->q * NAME(squared_distance)(O->p, O->beta, O->n);
    else if (!(O->train > 0))
        NAME(take)(O, O->p, O->beta, -O->val, O->new_beta, O->adjoint);
    NAME(take)(O, O->p, O->beta, O->train, O->new_beta, O->lower);
    if (!both || !(O->train > 0))
        return;
    O->p[O->label] = 0;
    EACH_VEC(c, v, O->n)
    AT(O->r, c, v) += O->q * AT(O->u, c, v);
    NAME(solve_adjoint)(O->p, odds.own, O->q, O->label, O->n, O->r, O->more, O->next);
    NAME(take)(O, O->next, O->u, O->train, O->new_u, O->adjoint);
}

/* A visit; the sums are taken before the step. */
static inline void NAME(update_softmax)(const dual_problem *P, dual_state *S, NAME(row) *R, int split, int task,
                                        double *sums)
{
    const int both = S->n_sides == 2;
    const NAME(outputs) O = NAME(read_outputs)(P, S, R, split);
    const NAME(odds) odds = NAME(softmax)(O.a, O.n, O.label, O.p);
    sums += split * N_SUMS;
    sums[VALIDATION_LOSS] += O.val > 0 ? O.val * NAME(loss)(&odds) : 0;
    sums[VALIDATION_WEIGHT] += O.val;
    if (task == LOOK)
        return;
    if (O.train > 0)
        NAME(sum_softmax)(&O, &odds, R, both, sums);
    if (task == MEASURE)
        NAME(measure_softmax)(&O, NAME(loss)(&odds), sums);
    else
        NAME(step_softmax)(&O, R, both, odds);
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

/* Move the intercept's reference against the imbalance, Eq. (13). For more than two classes a constant added to all outputs
 * changes no loss: that part of the imbalance is rounding and is taken out, lest it adds up. */
static inline void NAME(move_intercept)(const dual_problem *P, dual_state *S, int64_t n_rows)
{
    const int K = P->n_outputs, used = S->n_sides * P->n_splits * K;
    REAL *intercept = (REAL *)S->table + P->n_features * S->width;
    const double step = S->reference_step * (double)n_rows * intercept[used];
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

/* The same for the features without a penalty, whose imbalance is read off W - W_ref. */
static inline void NAME(move_unpenalized)(const dual_problem *P, dual_state *S, int64_t n_rows)
{
    const int K = P->n_outputs, used = S->n_sides * P->n_splits * K;
    const REAL step = (REAL)(S->reference_step * (double)n_rows);
    for (int64_t f = 0; f < S->n_unpenalized; f++) {
        REAL *row = (REAL *)S->table + S->unpenalized[f] * S->width, *reference = (REAL *)S->reference + f * used;
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

/* New penalties (n_inverses, n_features), Eq. (14), and all duals multiplied by shrink: W_j and V_j go with shrink/lambda_j. */
static void NAME(rescale)(const dual_problem *P, dual_state *S, const double *penalties, double shrink)
{
    const int n_vectors = P->n_splits * P->n_outputs, used = S->n_sides * n_vectors, own = n_vectors / S->n_inverses;
    for (int64_t j = 0; j < P->n_features; j++) {
        REAL *row = (REAL *)S->table + j * S->width;
        for (int k = 0; k < S->n_inverses; k++) {
            const REAL inverse = (REAL)(1.0 / penalties[k * P->n_features + j]);
            const REAL ratio = (REAL)shrink * (inverse / row[used + k]);
            for (int first = k * own; first < used; first += n_vectors)
                for (int l = first; l < first + own; l++)
                    row[l] *= ratio;
            row[used + k] = inverse;
        }
    }
}

/* inner[k, j], (n_inverses, n_features): the sum of W_j V_j over the vectors of one penalty; the hypergradient is
 * -lambda_j / n_splits times it, Eq. (4). */
static void NAME(contract)(const dual_problem *P, const dual_state *S, double *inner)
{
    const int n_vectors = P->n_splits * P->n_outputs, own = n_vectors / S->n_inverses;
    for (int64_t j = 0; j < P->n_features; j++)
        for (int k = 0; k < S->n_inverses; k++) {
            const REAL *W = (const REAL *)S->table + j * S->width + k * own, *V = W + n_vectors;
            REAL part[VEC] = {0};
            int l = 0;
            for (; l + VEC <= own; l += VEC)
                for (int v = 0; v < VEC; v++)
                    part[v] += W[l + v] * V[l + v];
            for (; l < own; l++)
                part[0] += W[l] * V[l];
            inner[k * P->n_features + j] = NAME(total)((const NAME(vec) *)part);
        }
}
