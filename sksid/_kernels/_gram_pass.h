/* Each row's part of all matrices, the Hessians of Eq. (16), whose entries stand side by side. Included by _variants.h alone. */

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

static void NAME(gram)(const gram_rows *P)
{
    const int64_t m = P->n_features + 1;
    const REAL *values = P->values;
    double *ones = P->out + (m - 1) * m * VEC;
    for (int64_t i = 0; i < P->n_rows; i++) {
        double weights[VEC] = {0};
        NAME(sums) c[PARTS], scaled[PARTS];
        for (int l = 0; l < P->n_matrices; l++)
            weights[l] = P->weights[l * P->step + i];
        memcpy(c, weights, sizeof weights);
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
#undef PARTS
