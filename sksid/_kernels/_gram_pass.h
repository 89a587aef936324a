/* Each row's part of all matrices, the Hessians of Eq. (16), or of their products with vectors, H d of Eq. (17): entries of all
 * matrices stand side by side. Included by _variants.h alone. */

#if HAS_VECTORS
typedef double NAME(sums) __attribute__((vector_size(SIMD), aligned(sizeof(double)), may_alias));
#else
typedef double NAME(sums);
#endif
#define PARTS ((int)(VEC * sizeof(double) / sizeof(NAME(sums)))) /* of an entry of all matrices */

/* to += x c */
INLINE void NAME(add)(double *restrict to, double x, const NAME(sums) *restrict c)
{
    for (int r = 0; r < PARTS; r++)
        ((NAME(sums) *)to)[r] += x * c[r];
}

/* The row's weight in every matrix. */
INLINE void NAME(weigh)(const gram_rows *P, int64_t i, NAME(sums) *c)
{
    double weights[VEC] = {0};
    for (int l = 0; l < P->n_matrices; l++)
        weights[l] = P->weights[l * P->step + i];
    memcpy(c, weights, sizeof weights);
}

static void NAME(gram)(const gram_rows *P)
{
    const int64_t m = P->n_features + 1;
    const REAL *values = P->values;
    double *ones = P->out + (m - 1) * m * VEC;
    for (int64_t i = 0; i < P->n_rows; i++) {
        NAME(sums) c[PARTS], scaled[PARTS];
        NAME(weigh)(P, i, c);
        for (int64_t e = P->indptr[i]; e < P->indptr[i + 1]; e++) {
            const int64_t j = P->columns[e];
            for (int r = 0; r < PARTS; r++)
                scaled[r] = (double)values[e] * c[r];
            for (int64_t f = P->indptr[i]; f <= e; f++) {
                const int64_t k = P->columns[f];
                NAME(add)(P->out + (j < k ? k * m + j : j * m + k) * VEC, values[f], scaled);
            }
            NAME(add)(ones + j * VEC, 1, scaled);
        }
        NAME(add)(ones + (m - 1) * VEC, 1, c);
    }
}

/* to = sum_e x_e v_e, in two sums that do not wait for each other. */
INLINE void NAME(gather)(NAME(sums) *to, const REAL *x, const int32_t *columns, int64_t n, const double *v)
{
    NAME(sums) odd[PARTS] = {{0}};
    int64_t e = 0;
    for (; e + 1 < n; e += 2)
        for (int r = 0; r < PARTS; r++) {
            to[r] += (double)x[e] * ((const NAME(sums) *)(v + columns[e] * (int64_t)VEC))[r];
            odd[r] += (double)x[e + 1] * ((const NAME(sums) *)(v + columns[e + 1] * (int64_t)VEC))[r];
        }
    for (int r = 0; r < PARTS; r++) {
        to[r] += odd[r];
        if (e < n)
            to[r] += (double)x[e] * ((const NAME(sums) *)(v + columns[e] * (int64_t)VEC))[r];
    }
}

static void NAME(gram_product)(const gram_rows *P)
{
    const int64_t last = P->n_features * VEC, n_rows = P->n_rows;
    const REAL *values = P->values;
    const int32_t *columns = P->columns;
    const int64_t *indptr = P->indptr;
    const double *v = P->v;
    double *out = P->out;
    NAME(sums) rest[PARTS];
    memset(rest, 0, sizeof rest);
    for (int64_t i = 0; i < n_rows; i++) {
        const int64_t begin = indptr[i], n = indptr[i + 1] - begin;
        NAME(sums) c[PARTS], z[PARTS];
        NAME(weigh)(P, i, c);
        memcpy(z, v + last, sizeof z);
        NAME(gather)(z, values + begin, columns + begin, n, v);
        for (int r = 0; r < PARTS; r++) {
            z[r] *= c[r];
            rest[r] += z[r];
        }
        for (int64_t e = begin; e < begin + n; e++)
            NAME(add)(out + columns[e] * (int64_t)VEC, values[e], z);
    }
    memcpy(out + last, rest, sizeof rest);
}
#undef PARTS
