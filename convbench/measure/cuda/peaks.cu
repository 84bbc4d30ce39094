// What a card can do at most: multiply-adds in registers, and traffic with its memories (see card_peaks.py).
//
// GRID blocks of THREADS threads run each kernel, several waves of them, so that no multiprocessor waits long for another.
// All memory is read and written as vectors of 16 bytes, those of neighbouring threads side by side. Whatever is computed
// ends in `out`, so that no compiler can leave it away.

constexpr int CHAINS = 8;     // multiply-adds of a thread that do not wait for one another
constexpr int BURST = 8;      // vectors that a thread moves at a time, none of which waits for another
constexpr int LANES = 16 / sizeof(real);
constexpr int TILE = THREADS * BURST;  // vectors that a block moves at a time
constexpr int WARP = 32;
constexpr int SHIFTS = 64;  // places in shared memory that a thread's reads begin at

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

// Each chain starts from a number of its own, and goes towards weights[1] / (1 - weights[0]).
extern "C" __global__ void __launch_bounds__(THREADS) multiply_add(
    const real* __restrict__ x,        // not used
    const real* __restrict__ weights,  // a factor and what is added
    real* __restrict__ out,            // (GRID, THREADS): the sum of the chains
    real* __restrict__ scratch)        // not used
{
    const real factor = weights[0], addend = weights[1];
    real sums[CHAINS];
#pragma unroll
    for (int chain = 0; chain < CHAINS; ++chain) sums[chain] = real(threadIdx.x + chain);
#pragma unroll 32
    for (int round = 0; round < ROUNDS; ++round)
#pragma unroll
        for (int chain = 0; chain < CHAINS; ++chain) sums[chain] = sums[chain] * factor + addend;
    out[blockIdx.x * THREADS + threadIdx.x] = sum(sums);
}

extern "C" __global__ void __launch_bounds__(THREADS) read_memory(
    const real* __restrict__ x,        // (TILES, TILE, LANES)
    const real* __restrict__ weights,  // not used
    real* __restrict__ out,            // (GRID, THREADS): sums of what the threads read
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
    const real* __restrict__ weights,  // the number to write
    real* __restrict__ out,            // (TILES, TILE, LANES)
    real* __restrict__ scratch)        // not used
{
    Vector* const target = reinterpret_cast<Vector*>(out);
    Vector number;
#pragma unroll
    for (int lane = 0; lane < LANES; ++lane) number.v[lane] = weights[0];
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

// A warp reads 512 neighbouring bytes of shared memory at a time, from another place in every round.
extern "C" __global__ void __launch_bounds__(THREADS) read_shared(
    const real* __restrict__ x,        // not used
    const real* __restrict__ weights,  // the number that fills shared memory
    real* __restrict__ out,            // (GRID, THREADS): sums of what the threads read
    real* __restrict__ scratch)        // not used
{
    __shared__ Vector memory[THREADS + SHIFTS + BURST * WARP];
#pragma unroll 1
    for (int i = threadIdx.x; i < THREADS + SHIFTS + BURST * WARP; i += THREADS)
#pragma unroll
        for (int lane = 0; lane < LANES; ++lane) memory[i].v[lane] = weights[0];
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
