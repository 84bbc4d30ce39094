// The tile of a matrix product that a thread block computes, by the tensor cores of compute capability 9.0 in TF32, which read
// both factors from shared memory (PTX ISA, "wgmma.mma_async"). It is compiled for 9.0a. It defines the same names as
// product.cuh.
//
// A warpgroup of four warps multiplies 64 rows x 8 terms with 8 terms x GROUP_COLUMNS columns at a time. Both factors lie in
// shared memory by rows of 32 terms, 128 bytes, whose eight chunks of 16 bytes are swapped by the row's number ("128-byte
// swizzle"): so eight threads that write or read the same chunk of eight rows find them in different banks.

constexpr int WARP = 32;
constexpr int VECTOR = 4;             // elements of a chunk
constexpr int CHUNKS = DEPTH / VECTOR;  // of a row
constexpr int GROUP = 128, GROUP_ROWS = 64;  // threads and rows of a warpgroup
constexpr int GROUP_TERMS = 8;        // terms of an instruction
constexpr int ROWS = 2;               // of a thread
constexpr int RUN = 2;                // neighbouring columns
constexpr int RUNS = GROUP_COLUMNS / 8;
constexpr int GROUPS_X = COLUMNS / GROUP_COLUMNS;
constexpr int THREADS = GROUP * GROUPS_X * (FILTERS / GROUP_ROWS);

static_assert(DEPTH == 32, "a row is 128 bytes");

struct alignas(16) Vector {
    float v[VECTOR];
};

struct alignas(8) Run {
    float v[RUN];
};

struct Sums {
    float at[ROWS][RUNS][RUN] = {};
};

// The first row of a thread, and the distance of its row i from the first.
static __device__ __forceinline__ int first_row(int thread)
{
    return thread / GROUP / GROUPS_X * GROUP_ROWS + thread % GROUP / WARP * 16 + thread % WARP / 4;
}
static __device__ constexpr int row_offset(int i) { return i * 8; }

// The first column of a thread, and the distance of its run j from the first.
static __device__ __forceinline__ int first_column(int thread)
{
    return thread / GROUP % GROUPS_X * GROUP_COLUMNS + thread % 4 * RUN;
}
static __device__ constexpr int column_offset(int j) { return j * 8; }

// Where a chunk of a row lies, in chunks from the beginning of all rows.
static __device__ __forceinline__ int place_of_chunk(int row, int chunk) { return row * CHUNKS + (chunk ^ row % 8); }

#ifdef __CUDACC__
static __device__ __forceinline__ float rounded_to_tf32(float number)
{
    unsigned bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(number));
    return __uint_as_float(bits);
}

// What the tensor cores are told of rows in shared memory: where they begin, in units of 16 bytes; 1024 bytes from one
// group of eight rows to the next; the swizzle of 128 bytes.
static __device__ __forceinline__ unsigned long long description(const Vector* rows)
{
    return (unsigned long long)((unsigned)__cvta_generic_to_shared(rows) & 0x3ffff) >> 4 | 1ull << 16 | 64ull << 32 | 1ull << 62;
}

#define SUMS_OF_1(j) "+f"(sums.at[0][j][0]), "+f"(sums.at[0][j][1]), "+f"(sums.at[1][j][0]), "+f"(sums.at[1][j][1])
#define SUMS_OF_4(j) SUMS_OF_1(j), SUMS_OF_1(j + 1), SUMS_OF_1(j + 2), SUMS_OF_1(j + 3)
#define SUMS_OF_8(j) SUMS_OF_4(j), SUMS_OF_4(j + 4)

static __device__ __forceinline__ void multiply_step(Sums& sums, unsigned long long weights, unsigned long long inputs)
{
#if GROUP_COLUMNS == 64
    asm volatile("wgmma.mma_async.sync.aligned.m64n64k8.f32.tf32.tf32 "
                 "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
                 "%32, %33, 1, 1, 1;"
                 : SUMS_OF_8(0)
                 : "l"(weights), "l"(inputs));
#elif GROUP_COLUMNS == 128
    asm volatile("wgmma.mma_async.sync.aligned.m64n128k8.f32.tf32.tf32 "
                 "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
                 "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
                 "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
                 "%64, %65, 1, 1, 1;"
                 : SUMS_OF_8(0), SUMS_OF_8(8)
                 : "l"(weights), "l"(inputs));
#endif
}

// Shows the tensor cores what threads have written to shared memory; before the barrier.
static __device__ __forceinline__ void show() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// Begins to multiply a step; sums may be used after `finish`.
static __device__ __forceinline__ void begin_to_multiply(Sums& sums, const Vector* weights, const Vector* inputs, int thread)
{
    const unsigned long long w = description(weights + thread / GROUP / GROUPS_X * GROUP_ROWS * CHUNKS);
    const unsigned long long x = description(inputs + thread / GROUP % GROUPS_X * GROUP_COLUMNS * CHUNKS);
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
    for (int i = 0; i < DEPTH / GROUP_TERMS; ++i) multiply_step(sums, w + i * GROUP_TERMS / VECTOR, x + i * GROUP_TERMS / VECTOR);
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

static __device__ __forceinline__ void finish(Sums& sums)
{
#if GROUP_COLUMNS == 64
    asm volatile("wgmma.wait_group.sync.aligned 0;" : SUMS_OF_8(0) :: "memory");
#elif GROUP_COLUMNS == 128
    asm volatile("wgmma.wait_group.sync.aligned 0;" : SUMS_OF_8(0), SUMS_OF_8(8) :: "memory");
#endif
}

// Copies a chunk to shared memory in the background; `begun` ends a group of copies, and `arrived` waits for all groups of this
// thread but the last one.
static __device__ __forceinline__ void copy(Vector* to, const Vector* from)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"((unsigned)__cvta_generic_to_shared(to)), "l"(from) : "memory");
}
static __device__ __forceinline__ void begun() { asm volatile("cp.async.commit_group;" ::: "memory"); }
static __device__ __forceinline__ void arrived() { asm volatile("cp.async.wait_group 1;" ::: "memory"); }
#else  // on the host, a thread sums its own elements
static void show() {}
static void copy(Vector* to, const Vector* from) { *to = *from; }
static void begun() {}
static void arrived() {}
static void finish(Sums&) {}
static void begin_to_multiply(Sums& sums, const Vector* weights, const Vector* inputs, int thread)
{
    for (int i = 0; i < ROWS; ++i)
        for (int j = 0; j < RUNS; ++j)
            for (int e = 0; e < RUN; ++e)
                for (int term = 0; term < DEPTH; ++term)
                    sums.at[i][j][e] +=
                        weights[place_of_chunk(first_row(thread) + row_offset(i), term / VECTOR)].v[term % VECTOR] *
                        inputs[place_of_chunk(first_column(thread) + column_offset(j) + e, term / VECTOR)].v[term % VECTOR];
}
#endif
