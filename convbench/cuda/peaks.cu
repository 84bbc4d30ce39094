// The limits of a GPU: multiply-adds in registers, and traffic with its memories (convbench/measure launches the kernels).
//
// GRID blocks of THREADS threads run each kernel, several waves of them, so that no multiprocessor waits long for another.
// All memory is read and written as vectors of 16 bytes, those of neighbouring threads side by side. Every result depends on
// all that was computed and ends in `out`, so that no compiler can remove it.
//
// All operands are random: a GPU that toggles few wires takes less power and keeps a higher clock. `weights` has a row of
// THREADS random numbers for the beginning of each chain, one of addends and one of factors.

constexpr int CHAINS = 8;     // independent multiply-adds of a thread
constexpr int BURST = 8;      // independent vectors that a thread moves at a time
constexpr int LANES = 16 / sizeof(real);
constexpr int TILE = THREADS * BURST;  // vectors that a block moves at a time
constexpr int WARP = 32;
constexpr int SHIFTS = 64;  // offsets in shared memory at which a thread's reads begin

struct alignas(16) Vector {
    real v[LANES];
};

template <int COUNT>
__device__ __forceinline__ real sum(const real (&numbers)[COUNT])
{
    real total = 0;
#pragma unroll
    for (int i = 0; i < COUNT; ++i) total += numbers[i];
    return total;
}

// Each chain alternates around addend / (1 - factor); a factor is a little above -1.
extern "C" __global__ void __launch_bounds__(THREADS) multiply_add(
    const real* __restrict__ x,        // not used
    const real* __restrict__ weights,  // (CHAINS + 2, THREADS): see above
    real* __restrict__ out,            // (GRID, THREADS): the sum of the chains
    real* __restrict__ scratch)        // not used
{
    const real addend = weights[CHAINS * THREADS + threadIdx.x], factor = weights[(CHAINS + 1) * THREADS + threadIdx.x];
    real sums[CHAINS];
#pragma unroll
    for (int chain = 0; chain < CHAINS; ++chain) sums[chain] = weights[chain * THREADS + threadIdx.x];
#pragma unroll 32
    for (int round = 0; round < ROUNDS; ++round)
#pragma unroll
        for (int chain = 0; chain < CHAINS; ++chain) sums[chain] = sums[chain] * factor + addend;
    out[blockIdx.x * THREADS + threadIdx.x] = sum(sums);
}

// Not timed: fills a buffer with numbers between -1 and 1, the hashes of their indices (SplitMix64).
extern "C" __global__ void __launch_bounds__(THREADS) fill_memory(
    const real* __restrict__ x,        // not used
    const real* __restrict__ weights,  // not used
    real* __restrict__ out,            // (TILES, TILE, LANES)
    real* __restrict__ scratch)        // not used
{
    const unsigned long long count = (unsigned long long)TILES * TILE * LANES;
    for (unsigned long long i = blockIdx.x * THREADS + threadIdx.x; i < count; i += (unsigned long long)GRID * THREADS) {
        unsigned long long bits = (i + 1) * 0x9E3779B97F4A7C15ull;
        bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9ull;
        bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EBull;
        out[i] = real((long long)(bits ^ (bits >> 31))) / real(9223372036854775808.0);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) read_memory(
    const real* __restrict__ x,        // (TILES, TILE, LANES)
    const real* __restrict__ weights,  // not used
    real* __restrict__ out,            // (GRID, THREADS): sums of all that the threads have read
    real* __restrict__ scratch)        // not used
{
    const Vector* const source = reinterpret_cast<const Vector*>(x);
    real totals[LANES] = {};
#pragma unroll 1
    for (int tile = blockIdx.x; tile < TILES; tile += GRID) {
        Vector here[BURST];
#pragma unroll
        for (int i = 0; i < BURST; ++i) here[i] = source[tile * TILE + i * THREADS + threadIdx.x];
#pragma unroll
        for (int i = 0; i < BURST; ++i)
#pragma unroll
            for (int lane = 0; lane < LANES; ++lane) totals[lane] += here[i].v[lane];
    }
    out[blockIdx.x * THREADS + threadIdx.x] = sum(totals);
}

extern "C" __global__ void __launch_bounds__(THREADS) write_memory(
    const real* __restrict__ x,        // not used
    const real* __restrict__ weights,  // (LANES, THREADS) and more: the numbers to write
    real* __restrict__ out,            // (TILES, TILE, LANES)
    real* __restrict__ scratch)        // not used
{
    Vector* const target = reinterpret_cast<Vector*>(out);
    Vector number;
#pragma unroll
    for (int lane = 0; lane < LANES; ++lane) number.v[lane] = weights[lane * THREADS + threadIdx.x];
#pragma unroll 1
    for (int tile = blockIdx.x; tile < TILES; tile += GRID)
#pragma unroll
        for (int i = 0; i < BURST; ++i) target[tile * TILE + i * THREADS + threadIdx.x] = number;
}

extern "C" __global__ void __launch_bounds__(THREADS) copy_memory(
    const real* __restrict__ x,        // (TILES, TILE, LANES)
    const real* __restrict__ weights,  // not used
    real* __restrict__ out,            // the same
    real* __restrict__ scratch)        // not used
{
    const Vector* const source = reinterpret_cast<const Vector*>(x);
    Vector* const target = reinterpret_cast<Vector*>(out);
#pragma unroll 1
    for (int tile = blockIdx.x; tile < TILES; tile += GRID) {
        Vector here[BURST];
#pragma unroll
        for (int i = 0; i < BURST; ++i) here[i] = source[tile * TILE + i * THREADS + threadIdx.x];
#pragma unroll
        for (int i = 0; i < BURST; ++i) target[tile * TILE + i * THREADS + threadIdx.x] = here[i];
    }
}

// A warp reads 512 neighbouring bytes of shared memory at a time, at another offset in every round.
extern "C" __global__ void __launch_bounds__(THREADS) read_shared(
    const real* __restrict__ x,        // not used
    const real* __restrict__ weights,  // (CHAINS, THREADS) and more: the content of shared memory
    real* __restrict__ out,            // (GRID, THREADS): sums of all that the threads have read
    real* __restrict__ scratch)        // not used
{
    __shared__ Vector memory[THREADS + SHIFTS + BURST * WARP];
#pragma unroll 1
    for (int i = threadIdx.x; i < THREADS + SHIFTS + BURST * WARP; i += THREADS)
#pragma unroll
        for (int lane = 0; lane < LANES; ++lane) memory[i].v[lane] = weights[(i * LANES + lane) % (CHAINS * THREADS)];
    __syncthreads();
    real totals[LANES] = {};
#pragma unroll 4
    for (int round = 0; round < SHARED_ROUNDS; ++round) {
        const Vector* const begin = memory + (threadIdx.x + round % SHIFTS);
#pragma unroll
        for (int i = 0; i < BURST; ++i)
#pragma unroll
            for (int lane = 0; lane < LANES; ++lane) totals[lane] += begin[i * WARP].v[lane];
    }
    out[blockIdx.x * THREADS + threadIdx.x] = sum(totals);
}
