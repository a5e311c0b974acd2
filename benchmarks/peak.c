/* What the arithmetic units of this processor can do: fused multiply-adds on registers alone.

   One thread for each processor this process may use, each with 12 or 16 independent chains, so
   that neither memory nor latency is in the way. A line a round: fp32 and bf16 in GFLOP/s of all
   processors by the clock on the wall, then the same of one by its CPU time, which other work on
   the machine hardly moves. A multiply-add is two; 0 where there is no such instruction. bf16 is
   vdpbf16ps: products of bf16, sums in fp32.

   peak SECONDS ROUNDS */

#define _GNU_SOURCE
#include <immintrin.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define CHAINS 16
#define INNER 4096

static double clock_of(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

static double now(void) { return clock_of(CLOCK_MONOTONIC); }

static double seconds;
static volatile float sink;

typedef struct {
    int kind;
    double wall, cpu;  /* FLOP/s */
} Work;

#define ALL(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)

#define START(k) s##k = zero;

/* The empty asm keeps the compiler from seeing through the sums, and the sums in registers. */
__attribute__((target("avx512f"))) static double fp32_512(void) {
    __m512 a = _mm512_set1_ps(1e-9f), b = _mm512_set1_ps(1e-9f), zero = _mm512_setzero_ps();
    __m512 s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11, s12, s13, s14, s15;
    ALL(START)
    double began = now(), calls = 0;
    do {
        for (int i = 0; i < INNER; i++) {
#define STEP(k) s##k = _mm512_fmadd_ps(a, b, s##k); __asm__ volatile("" : "+v"(s##k));
            ALL(STEP)
#undef STEP
        }
        calls++;
    } while (now() - began < seconds);
#define SUM(k) zero = _mm512_add_ps(zero, s##k);
    ALL(SUM)
#undef SUM
    sink = _mm512_reduce_add_ps(zero);
    return calls * INNER * CHAINS * 16 * 2;
}

__attribute__((target("avx2,fma"))) static double fp32_256(void) {
    __m256 a = _mm256_set1_ps(1e-9f), b = _mm256_set1_ps(1e-9f), zero = _mm256_setzero_ps();
    __m256 s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11;
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = s8 = s9 = s10 = s11 = zero;
    double began = now(), calls = 0;
    do {
        for (int i = 0; i < INNER; i++) {
#define STEP(k) s##k = _mm256_fmadd_ps(a, b, s##k); __asm__ volatile("" : "+x"(s##k));
            STEP(0) STEP(1) STEP(2) STEP(3) STEP(4) STEP(5)
            STEP(6) STEP(7) STEP(8) STEP(9) STEP(10) STEP(11)
#undef STEP
        }
        calls++;
    } while (now() - began < seconds);
    float kept[8];
#define SUM(k) zero = _mm256_add_ps(zero, s##k);
    SUM(0) SUM(1) SUM(2) SUM(3) SUM(4) SUM(5) SUM(6) SUM(7) SUM(8) SUM(9) SUM(10) SUM(11)
#undef SUM
    _mm256_storeu_ps(kept, zero);
    sink = kept[0];
    return calls * INNER * 12 * 8 * 2;
}

__attribute__((target("avx512f,avx512bf16"))) static double bf16_512(void) {
    __m512 one = _mm512_set1_ps(1e-9f), zero = _mm512_setzero_ps();
    __m512bh a = _mm512_cvtne2ps_pbh(one, one), b = a;
    __m512 s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11, s12, s13, s14, s15;
    ALL(START)
    double began = now(), calls = 0;
    do {
        for (int i = 0; i < INNER; i++) {
#define STEP(k) s##k = _mm512_dpbf16_ps(s##k, a, b); __asm__ volatile("" : "+v"(s##k));
            ALL(STEP)
#undef STEP
        }
        calls++;
    } while (now() - began < seconds);
#define SUM(k) zero = _mm512_add_ps(zero, s##k);
    ALL(SUM)
#undef SUM
    sink = _mm512_reduce_add_ps(zero);
    return calls * INNER * CHAINS * 32 * 2;
}

static void *run(void *given) {
    Work *work = given;
    double wall = now(), cpu = clock_of(CLOCK_THREAD_CPUTIME_ID);
    double done = work->kind == 2 ? bf16_512() : work->kind == 1 ? fp32_512() : fp32_256();
    work->wall = done / (now() - wall);
    work->cpu = done / (clock_of(CLOCK_THREAD_CPUTIME_ID) - cpu);
    return NULL;
}

static Work together(int kind, int threads) {
    pthread_t ids[threads];
    Work work[threads];
    Work sum = {kind, 0, 0};
    for (int i = 0; i < threads; i++) {
        work[i].kind = kind;
        pthread_create(&ids[i], NULL, run, &work[i]);
    }
    for (int i = 0; i < threads; i++) {
        pthread_join(ids[i], NULL);
        sum.wall += work[i].wall / 1e9;
        sum.cpu += work[i].cpu / 1e9 / threads;
    }
    return sum;
}

int main(int count, char **words) {
    cpu_set_t set;
    sched_getaffinity(0, sizeof set, &set);
    int threads = CPU_COUNT(&set), rounds = count > 2 ? atoi(words[2]) : 3;
    seconds = count > 1 ? atof(words[1]) : 0.5;
    int wide = __builtin_cpu_supports("avx512f"), bf16 = __builtin_cpu_supports("avx512bf16");
    if (!wide && !__builtin_cpu_supports("fma")) return 3;
    for (int i = 0; i < rounds; i++) {
        Work a = together(wide ? 1 : 0, threads), b = {2, 0, 0};
        if (bf16) b = together(2, threads);
        printf("%.1f %.1f %.1f %.1f\n", a.wall, b.wall, a.cpu, b.cpu);
    }
    return 0;
}
