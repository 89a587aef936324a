/* The dual solver's passes over the rows: gather what a row's outputs are, visit it, scatter what the visit changes. Included
 * once per (precision, instruction set) by _variants.h. */

#define COLUMN(t) (columns ? (int64_t)columns[t] : (int64_t)(t))
#define TABLE(at) (*(const NAME(vec) *)(at))

/* out = sum_t x_t T[column_t], rows of one line, kept in registers; q[k] = sum_t x_t^2 / lambda_kt of each 1/lambda in a row.
 * Where there are several, whole lines are summed up with x_t^2, too. */
INLINE void NAME(gather_narrow)(const REAL *x, const int32_t *columns, int64_t nnz, const REAL *table, int64_t inv_at,
                                const int several, int n_inverses, REAL *out, REAL *q)
{
    NAME(vec) even[LINE / LANES] = {NAME(every)(0)}, odd[LINE / LANES] = {NAME(every)(0)};
    NAME(vec) squares[LINE / LANES] = {NAME(every)(0)};
    REAL one = 0;
    int64_t t = 0;
    for (; t + 2 <= nnz; t += 2) {
        const REAL *row = table + COLUMN(t) * LINE, *next = table + COLUMN(t + 1) * LINE;
        for (int v = 0; v < LINE / LANES; v++) {
            even[v] += x[t] * ((const NAME(vec) *)row)[v];
            odd[v] += x[t + 1] * ((const NAME(vec) *)next)[v];
            if (several)
                squares[v] += x[t] * x[t] * ((const NAME(vec) *)row)[v] + x[t + 1] * x[t + 1] * ((const NAME(vec) *)next)[v];
        }
        if (!several)
            one += x[t] * x[t] * row[inv_at] + x[t + 1] * x[t + 1] * next[inv_at];
    }
    if (t < nnz) {
        const REAL *row = table + COLUMN(t) * LINE;
        for (int v = 0; v < LINE / LANES; v++) {
            even[v] += x[t] * ((const NAME(vec) *)row)[v];
            if (several)
                squares[v] += x[t] * x[t] * ((const NAME(vec) *)row)[v];
        }
        if (!several)
            one += x[t] * x[t] * row[inv_at];
    }
    for (int v = 0; v < LINE / LANES; v++)
        ((NAME(vec) *)out)[v] = even[v] + odd[v];
    q[0] = one;
    if (several) {
        REAL line[LINE];
        memcpy(line, squares, sizeof line);
        memcpy(q, line + inv_at, sizeof(REAL) * n_inverses);
    }
}

/* The same for rows of more lines, four at a time: out, in the first-level cache, is written once for four, and four streams of
 * memory are on their way. Behind the last entry that one counts again, times zero. What is fetched ahead may belong to the next
 * row of the block: columns can be read AHEAD entries behind the last. */
static inline void NAME(gather_wide)(const REAL *x, const int32_t *columns, int64_t nnz, const REAL *table, int64_t width,
                                     int64_t inv_at, int n_inverses, REAL *restrict out, REAL *restrict q)
{
    memset(out, 0, sizeof(REAL) * width);
    memset(q, 0, sizeof(REAL) * n_inverses);
    for (int64_t t = 0; t < nnz; t += 4) {
        const REAL *row[4];
        int64_t soon[4];
        REAL by[4];
        for (int k = 0; k < 4; k++) {
            const int64_t entry = t + k < nnz ? t + k : nnz - 1;
            row[k] = table + COLUMN(entry) * width;
            soon[k] = COLUMN(entry + AHEAD) * width;
            by[k] = t + k < nnz ? x[entry] : 0;
            for (int l = 0; l < n_inverses; l++)
                q[l] += by[k] * by[k] * row[k][inv_at + l];
        }
        for (int64_t c = 0; c < width; c += LINE) {
            for (int k = 0; k < 4; k++)
                PREFETCH(table, soon[k] + c);
            for (int64_t l = c; l < c + LINE; l += LANES)
                *(NAME(vec) *)(out + l) += (by[0] * TABLE(row[0] + l) + by[1] * TABLE(row[1] + l)) +
                                           (by[2] * TABLE(row[2] + l) + by[3] * TABLE(row[3] + l));
        }
    }
}

/* The same for one vector alone, rows [W_j, 1/lambda_j]. */
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

/* T[column_t] -= (x_t / lambda_t) d,  d zero beyond the vectors, so 1/lambda and the padding stay. */
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
        REAL *row = table + COLUMN(t) * width;
        const REAL step = x[t] * row[inv_at];
        for (int64_t c = 0; c < width; c += LINE)
            for (int64_t l = c; l < c + LINE; l += LANES)
                *(NAME(vec) *)(row + l) -= step * TABLE(d + l);
    }
}

/* T[column_t] -= (x_t / lambda_kt) d  in every split k: a register of the row takes one term for each split in it. */
static inline void NAME(scatter_by_split)(const dual_problem *P, const dual_state *S, const NAME(row) *R)
{
    const int used = S->n_sides * P->n_splits * P->n_outputs;
    const int32_t *columns = R->columns;
    for (int l = 0; l < used; l++)
        R->pieces[R->piece_of[l] * LANES + l % LANES] = R->change[l];
    for (int64_t t = 0; t < R->nnz; t++) {
        REAL *row = (REAL *)S->table + COLUMN(t) * S->width;
        for (int l = 0, piece = 0; l < used; l += LANES) {
            NAME(vec) sum = NAME(every)(0);
            for (; piece < R->end_of[l / LANES]; piece++)
                sum += row[used + R->split_of[piece]] * TABLE(R->pieces + piece * LANES);
            *(NAME(vec) *)(row + l) -= R->x[t] * sum;
        }
    }
}

static inline void NAME(prefetch_row)(const dual_problem *P, const dual_state *S, int64_t i)
{
    if (!P->columns || S->width != LINE) /* gather_wide fetches ahead by itself, a table of pairs is small */
        return;
    const REAL *table = S->table;
    const char *values = P->values;
    for (int64_t byte = P->indptr[i] * P->value_size; byte < P->indptr[i + 1] * P->value_size; byte += CACHE_LINE)
        PREFETCH(values, byte);
    for (int64_t t = P->indptr[i]; t < P->indptr[i + 1]; t++)
        PREFETCH(table, P->columns[t] * (int64_t)LINE);
}

static inline const REAL *NAME(entries_of)(const dual_problem *P, int64_t i, REAL *converted)
{
    const int64_t first = P->indptr[i], nnz = P->indptr[i + 1] - first;
    if (P->value_size == sizeof(REAL))
        return (const REAL *)P->values + first;
    if (P->value_size == sizeof(double))
        for (int64_t t = 0; t < nnz; t++)
            converted[t] = (REAL)((const double *)P->values)[first + t];
    else
        for (int64_t t = 0; t < nnz; t++)
            converted[t] = (REAL)((const float *)P->values)[first + t];
    return converted;
}

/* A row's entries and its duals. Entries of another type than the state's become it here, once for all that is done with them. */
static inline void NAME(read_row)(const dual_problem *P, const dual_state *S, int64_t i, NAME(row) *R)
{
    R->x = NAME(entries_of)(P, i, R->converted);
    R->columns = P->columns ? P->columns + P->indptr[i] : NULL;
    R->nnz = P->indptr[i + 1] - P->indptr[i];
    NAME(read_duals)(P, S, i, R);
}

/* Its outputs at the table's W and V, with the intercept. */
static inline void NAME(gather_row)(const dual_problem *P, const dual_state *S, NAME(row) *R)
{
    const int used = S->n_sides * P->n_splits * P->n_outputs;
    const REAL *table = S->table, *intercept = table + P->n_features * S->width;
    if (S->width == PAIR)
        R->q[0] = NAME(gather_pair)(R->x, R->columns, R->nnz, table, R->product);
    else if (S->width > LINE)
        NAME(gather_wide)(R->x, R->columns, R->nnz, table, S->width, used, S->n_inverses, R->product, R->q);
    else if (S->n_inverses > 1)
        NAME(gather_narrow)(R->x, R->columns, R->nnz, table, used, 1, S->n_inverses, R->product, R->q);
    else
        NAME(gather_narrow)(R->x, R->columns, R->nnz, table, used, 0, 1, R->product, R->q);
    if (P->fit_intercept)
        for (int64_t c = 0; c < S->width; c++)
            R->product[c] += intercept[c];
    for (int k = P->n_splits - 1; k >= 0; k--)
        R->q[k] = R->q[S->n_inverses > 1 ? k : 0] + (P->fit_intercept ? intercept[used] : 0);
}

/* W and V follow what the row's duals change, each split at its own 1/lambda. */
static inline void NAME(scatter_row)(const dual_problem *P, const dual_state *S, const NAME(row) *R)
{
    if (S->n_inverses > 1)
        NAME(scatter_by_split)(P, S, R);
    else
        NAME(scatter)(R->x, R->columns, R->nnz, S->table, S->width, S->n_sides * P->n_splits * P->n_outputs, R->change);
}

/* W, V and the intercept follow the row's new duals, Eqs. (6) and (10); the imbalance is what an unpenalized intercept drives
 * to zero. */
static inline void NAME(apply_row)(const dual_problem *P, dual_state *S, int64_t i, const NAME(row) *R)
{
    const int used = S->n_sides * P->n_splits * P->n_outputs;
    REAL *table = S->table, *intercept = table + P->n_features * S->width;
    memcpy((REAL *)S->duals + i * used, R->beta, sizeof(REAL) * used);
    S->residuals[2 * i] = R->residuals[0];
    S->residuals[2 * i + 1] = R->residuals[1];
    NAME(scatter_row)(P, S, R);
    if (P->fit_intercept) {
        const REAL inverse = intercept[used];
        for (int64_t c = 0; c < S->width; c++) {
            intercept[c] -= inverse * R->change[c];
            R->tally[c] += R->change[c];
        }
    }
}

/* Visit the blocks in the order given: lower level, adjoint and validation of all splits at once. */
static void NAME(advance)(const dual_problem *P, dual_state *S, const int64_t *blocks, int64_t n_blocks,
                           int64_t block_size, void *scratch, double *sums)
{
    NAME(row) R;
    NAME(place_row)(P, S, scratch, &R);
    for (int64_t b = 0; b < n_blocks; b++) {
        const int64_t start = blocks[b] * block_size, end = start + block_size;
        const int64_t stop = end < P->n_rows ? end : P->n_rows;
        for (int64_t i = start; i < stop; i++) {
            if (i + 1 < stop)
                NAME(prefetch_row)(P, S, i + 1);
            else if (b + 1 < n_blocks)
                NAME(prefetch_row)(P, S, blocks[b + 1] * block_size);
            NAME(read_row)(P, S, i, &R);
            NAME(gather_row)(P, S, &R);
            NAME(update_row)(P, S, &R, UPDATE, sums);
            NAME(apply_row)(P, S, i, &R);
        }
        NAME(drain_sums)(P, S, &R, sums);
        if (P->fit_intercept)
            NAME(move_intercept)(P, S, stop - start);
        NAME(move_unpenalized)(P, S, stop - start);
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
        NAME(gather_row)(P, S, &R);
        NAME(update_row)(P, S, &R, task, sums);
        NAME(drain_sums)(P, S, &R, sums);
    }
}

/* W and V from the duals alone: adds the rows [start, stop) to a table whose W and V were zero; sums up the imbalance. */
static void NAME(rebuild)(const dual_problem *P, dual_state *S, int64_t start, int64_t stop, void *scratch)
{
    NAME(row) R;
    NAME(place_row)(P, S, scratch, &R);
    const int K = P->n_outputs, n_vectors = P->n_splits * K, used = S->n_sides * n_vectors;
    for (int64_t i = start; i < stop; i++) {
        NAME(read_row)(P, S, i, &R);
        for (int k = 0; k < P->n_splits; k++)
            for (int l = k * K; l < (k + 1) * K; l++) {
                R.change[l] = R.train[k] * R.beta[l];
                if (S->n_sides == 2)
                    R.change[n_vectors + l] = R.train[k] * R.u[l] - R.val[k] * R.beta[l];
            }
        NAME(scatter_row)(P, S, &R);
        for (int l = 0; l < used; l++)
            S->imbalance[l] += R.change[l];
    }
}

#undef COLUMN
#undef TABLE
