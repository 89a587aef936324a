/* What compilers and processors differ in. Without GNU C's vector types, or with SKSID_PORTABLE, there is one variant in plain
 * C11, which is slower and nothing else. */
#ifndef SKSID_COMPILER_H
#define SKSID_COMPILER_H

#include <stdint.h>

#if defined(__GNUC__) && !defined(SKSID_PORTABLE)
#define HAS_VECTORS 1
#define INLINE static inline __attribute__((always_inline)) /* where a constant argument has to reach the loops inside */
#define PREFETCH(base, index) __builtin_prefetch((const void *)((uintptr_t)(base) + (uintptr_t)(index) * sizeof *(base)), 1, 3)
#define LANE(x, l) ((x)[l])
#else
#define HAS_VECTORS 0
#define INLINE static inline
#define PREFETCH(base, index) ((void)(base), (void)(index))
#define LANE(x, l) (x)
#endif

#if HAS_VECTORS && defined(__x86_64__)
#define HAS_AVX2 1
static inline int processor_has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
           __builtin_cpu_supports("bmi2");
}
#else
#define HAS_AVX2 0
static inline int processor_has_avx2(void) { return 0; }
#endif

static int use_avx2; /* set when a module is imported, to what the processor has */
#endif
