/* What the arithmetic units of this processor can do: fused multiply-adds on registers alone.

   One thread for each processor this process may use, each with 12 or 16 independent chains, so
   that neither memory nor latency is in the way. A line a round: fp32, bf16 and int8 in GFLOP/s of
   all processors by the clock on the wall, then the same of one by its CPU time, which other work
   on the machine hardly moves, then 1 where tiles were used. A multiply-add is two; 0 where there
   is no such instruction. bf16 is products of bf16 with sums in fp32, int8 with sums in int32: by
   AMX tiles (tdpbf16ps, tdpbssd) where processor and kernel have them, else vdpbf16ps, vpdpbusd.

   peak SECONDS ROUNDS */

#define _GNU_SOURCE
#include <cpuid.h>
#include <immintrin.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

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

__attribute__((target("avx512f,avx512vnni"))) static double int8_512(void) {
    __m512i a = _mm512_set1_epi8(1), b = a, zero = _mm512_setzero_si512();
    __m512i s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11, s12, s13, s14, s15;
    ALL(START)
    double began = now(), calls = 0;
    do {
        for (int i = 0; i < INNER; i++) {
#define STEP(k) s##k = _mm512_dpbusd_epi32(s##k, a, b); __asm__ volatile("" : "+v"(s##k));
            ALL(STEP)
#undef STEP
        }
        calls++;
    } while (now() - began < seconds);
#define SUM(k) zero = _mm512_add_epi32(zero, s##k);
    ALL(SUM)
#undef SUM
    sink = (float)_mm512_reduce_add_epi32(zero);
    return calls * INNER * CHAINS * 64 * 2;
}

/* Tiles: 16 rows of 64 bytes, all eight of them full. Two hold the factors, six are sums, more than
   the four that hide how long one product takes. Needs a compiler that knows them (GCC 11). */
#if defined(__x86_64__) && (defined(__clang__) || __GNUC__ >= 11)
#define TILES 1
#define SUMS(X) X(0) X(1) X(2) X(3) X(4) X(5)
typedef struct {
    uint8_t palette, start, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
} __attribute__((packed)) Layout;

__attribute__((target("amx-tile"))) static void lay_out(void) {
    static const uint8_t nothing[1024];
    Layout layout;
    memset(&layout, 0, sizeof layout);
    layout.palette = 1;
    for (int i = 0; i < 8; i++) layout.bytes[i] = 64, layout.rows[i] = 16;
    _tile_loadconfig(&layout);
    _tile_loadd(6, nothing, 64);
    _tile_loadd(7, nothing, 64);
#define ZERO(k) _tile_zero(k);
    SUMS(ZERO)
}

#define TILED(NAME, TARGET, STEP, EACH) \
    __attribute__((target("amx-tile," TARGET))) static double NAME(void) { \
        lay_out(); \
        double began = now(), calls = 0; \
        do { \
            for (int i = 0; i < INNER; i++) { SUMS(STEP) } \
            calls++; \
        } while (now() - began < seconds); \
        _tile_release(); \
        return calls * INNER * 6 * EACH; \
    }
#define BF16_STEP(k) _tile_dpbf16ps(k, 6, 7);
#define INT8_STEP(k) _tile_dpbssd(k, 6, 7);
TILED(bf16_tiles, "amx-bf16", BF16_STEP, 16 * 16 * 32 * 2)
TILED(int8_tiles, "amx-int8", INT8_STEP, 16 * 16 * 64 * 2)
#else
#define TILES 0
static double bf16_tiles(void) { return 0; }
static double int8_tiles(void) { return 0; }
#endif

/* Whether the processor has tiles of both kinds and the kernel lets this process use them. */
static int tiles(void) {
    unsigned a, b, c, d, all = 1u << 22 | 1u << 24 | 1u << 25;  /* AMX-BF16, AMX-TILE, AMX-INT8 */
    if (!TILES || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & all) != all) return 0;
#ifdef SYS_arch_prctl
    return syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18 /* XTILEDATA */) == 0;
#else
    return 0;
#endif
}

static double (*const KINDS[])(void) = {
    fp32_256, fp32_512, bf16_512, int8_512, bf16_tiles, int8_tiles};

static void *run(void *given) {
    Work *work = given;
    double wall = now(), cpu = clock_of(CLOCK_THREAD_CPUTIME_ID);
    double done = KINDS[work->kind]();
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
    int wide = __builtin_cpu_supports("avx512f"), tiled = tiles();
    if (!wide && !__builtin_cpu_supports("fma")) return 3;
    int bf16 = tiled ? 4 : __builtin_cpu_supports("avx512bf16") ? 2 : -1;
    int int8 = tiled ? 5 : __builtin_cpu_supports("avx512vnni") ? 3 : -1;
    for (int i = 0; i < rounds; i++) {
        Work a = together(wide, threads), b = {0, 0, 0}, c = {0, 0, 0};
        if (bf16 >= 0) b = together(bf16, threads);
        if (int8 >= 0) c = together(int8, threads);
        printf("%.1f %.1f %.1f %.1f %.1f %.1f %d\n", a.wall, b.wall, c.wall, a.cpu, b.cpu, c.cpu, tiled);
    }
    return 0;
}
