// Nested minimal filtering of one channel in one kernel, compiled for one problem: every size is a macro (see
// winograd_fused_cuda.py). It follows winograd.cuh.
//
// A block computes TILES tiles of a row of tiles, KERNELS kernels at a time. It transforms the input of its tiles once,
// PARTS windows for each tile, one for each block of taps, and keeps the points of all of them in shared memory; then, for
// chunk after chunk of kernels, it multiplies and sums at each point, transforms the sums back, and writes runs of
// TILES * X_OUTPUTS pixels. Nothing but input, weights and output is ever in memory.
//
// A thread multiplies at one point, KERNELS weights with TILES inputs. Nobody else needs its weights: they go from memory to
// its registers. What threads pass on to one another lies in shared memory so that vectors are read and no bank is asked twice:
// the planes of inputs are one vector apart beyond their points, and the vectors from sums to sums are odd in number.

constexpr int VECTOR = 16 / sizeof(real);
constexpr int POINTS = Y_POINTS * X_POINTS;
constexpr int PARTS = Y_BLOCKS * X_BLOCKS;
constexpr int THREADS = POINTS;
constexpr int WARPS = (THREADS + 31) / 32;
constexpr int BLOCKS_ON_A_PROCESSOR = sizeof(real) == 4 ? 12 / WARPS : 1;  // as registers and shared memory allow
constexpr int TILE_ROWS = (OUTPUT_HEIGHT + Y_OUTPUTS - 1) / Y_OUTPUTS;
constexpr int TILE_COLUMNS = (OUTPUT_WIDTH + X_OUTPUTS - 1) / X_OUTPUTS;
constexpr int RUNS = (TILE_COLUMNS + TILES - 1) / TILES;       // blocks side by side
constexpr int SHARES = (ALL_CHUNKS + CHUNKS - 1) / CHUNKS;     // of a group's kernels, each a block's
constexpr int WIDE = TILES * X_OUTPUTS;                        // pixels of a row of a block
constexpr int PIXELS = Y_OUTPUTS * WIDE;                       // of a kernel
constexpr int KERNEL_VECTOR = KERNELS < VECTOR ? KERNELS : VECTOR;
constexpr int PLANES = TILES / VECTOR;                         // of inputs, for each window
constexpr int INPUT_PITCH = (POINTS + 1) * VECTOR;             // from plane to plane
constexpr int SUM_VECTORS = (POINTS + VECTOR - 1) / VECTOR / 2 * 2 + 1;
constexpr int SUM_PITCH = SUM_VECTORS * VECTOR;                // from one tile's sums to the next one's
constexpr int SUMS = KERNELS * TILES * SUM_PITCH;
constexpr int STORES = (PIXELS + THREADS - 1) / THREADS;       // pixels of a kernel that a thread writes

template <int N>
struct alignas(N * sizeof(real)) Numbers {
    real v[N];
};

static_assert(SUM_PITCH >= POINTS, "a tile's sums fit");

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_ON_A_PROCESSOR) winograd(
    const real* __restrict__ x,        // (BATCH, GROUPS, HEIGHT, WIDTH)
    const real* __restrict__ weights,  // (GROUPS, ALL_CHUNKS, PARTS, KERNELS / KERNEL_VECTOR, POINTS, KERNEL_VECTOR)
    real* __restrict__ out,            // (BATCH, GROUPS * GROUP_KERNELS, OUTPUT_HEIGHT, OUTPUT_WIDTH)
    real* __restrict__ scratch)        // not used
{
    __shared__ Numbers<VECTOR> input_memory[PARTS * PLANES * INPUT_PITCH / VECTOR];
    __shared__ Numbers<VECTOR> sum_memory[(SUMS > KERNELS * PIXELS ? SUMS : KERNELS * PIXELS) / VECTOR];
    real* const passed_on = sum_memory[0].v;  // sums first, then pixels

    const int thread = threadIdx.x;
    const int run = blockIdx.x % RUNS, tile_row = blockIdx.x / RUNS % TILE_ROWS, rest = blockIdx.x / RUNS / TILE_ROWS;
    const int image = rest / SHARES / GROUPS, group = rest / SHARES % GROUPS;
    const int chunk_begin = rest % SHARES * CHUNKS;
    const int chunk_end = chunk_begin + CHUNKS < ALL_CHUNKS ? chunk_begin + CHUNKS : ALL_CHUNKS;
    const int first_row = tile_row * Y_OUTPUTS, first_column = run * WIDE;

    const real* plane = x + (size_t)(image * GROUPS + group) * HEIGHT * WIDTH;
    for (int i = thread; i < PARTS * TILES; i += THREADS) {
        const int tile = i % TILES, block = i / TILES;
        const int top = first_row + block / X_BLOCKS * Y_TAPS - TOP;
        const int left = first_column + tile * X_OUTPUTS + block % X_BLOCKS * X_TAPS - LEFT;
        real* const target = input_memory[0].v + (block * PLANES + tile / VECTOR) * INPUT_PITCH + tile % VECTOR;
        transform(plane, top, left, [=](int p, int q, real number) { target[(p * X_POINTS + q) * VECTOR] = number; });
    }

    int offsets[STORES];  // of the pixels that this thread writes, in a plane of the output; negative where there is none
#pragma unroll
    for (int i = 0; i < STORES; ++i) {
        const int place = thread + i * THREADS, row = first_row + place / WIDE, column = first_column + place % WIDE;
        const bool inside = place < PIXELS && row < OUTPUT_HEIGHT && column < OUTPUT_WIDTH;
        offsets[i] = inside ? row * OUTPUT_WIDTH + column : -1;
    }
    __syncthreads();

    for (int chunk = chunk_begin; chunk < chunk_end; ++chunk) {
        real sums[KERNELS][TILES] = {};
        const auto* own = (const Numbers<KERNEL_VECTOR>*)weights +
                          (size_t)(group * ALL_CHUNKS + chunk) * PARTS * (KERNELS / KERNEL_VECTOR) * POINTS + thread;
#pragma unroll
        for (int part = 0; part < PARTS; ++part) {
            real input[TILES];
#pragma unroll
            for (int i = 0; i < PLANES; ++i) {
                const Numbers<VECTOR> vector = input_memory[(part * PLANES + i) * (INPUT_PITCH / VECTOR) + thread];
#pragma unroll
                for (int e = 0; e < VECTOR; ++e) input[i * VECTOR + e] = vector.v[e];
            }
#pragma unroll
            for (int i = 0; i < KERNELS / KERNEL_VECTOR; ++i) {
                const Numbers<KERNEL_VECTOR> vector = own[(part * (KERNELS / KERNEL_VECTOR) + i) * POINTS];
#pragma unroll
                for (int e = 0; e < KERNEL_VECTOR; ++e)
#pragma unroll
                    for (int t = 0; t < TILES; ++t) sums[i * KERNEL_VECTOR + e][t] += vector.v[e] * input[t];
            }
        }

        __syncthreads();  // the pixels of the chunk before are written
#pragma unroll
        for (int k = 0; k < KERNELS; ++k)
#pragma unroll
            for (int t = 0; t < TILES; ++t) passed_on[(k * TILES + t) * SUM_PITCH + thread] = sums[k][t];
        __syncthreads();

        constexpr int ROUNDS = (KERNELS * TILES + THREADS - 1) / THREADS;  // tiles of a kernel for each thread
        Half halves[ROUNDS];
#pragma unroll
        for (int round = 0; round < ROUNDS; ++round)
#pragma unroll
            for (int i = 0; i < (POINTS + VECTOR - 1) / VECTOR; ++i) {
                const int tile = thread + round * THREADS;
                if (tile >= KERNELS * TILES) break;
                const Numbers<VECTOR> vector = sum_memory[tile * SUM_VECTORS + i];
#pragma unroll
                for (int e = 0; e < VECTOR; ++e) {
                    const int point = i * VECTOR + e;
                    if (point < POINTS) halves[round].add(point / X_POINTS, point % X_POINTS, vector.v[e]);
                }
            }
        __syncthreads();  // everybody has read what pixels are written over
#pragma unroll
        for (int round = 0; round < ROUNDS; ++round) {
            const int i = thread + round * THREADS;
            if (i < KERNELS * TILES)
#pragma unroll
                for (int r = 0; r < Y_OUTPUTS; ++r)
#pragma unroll
                    for (int c = 0; c < X_OUTPUTS; ++c)
                        passed_on[i / TILES * PIXELS + r * WIDE + i % TILES * X_OUTPUTS + c] = halves[round].pixel(r, c);
        }
        __syncthreads();

        real* target = out + (size_t)((image * GROUPS + group) * GROUP_KERNELS + chunk * KERNELS) * OUTPUT_HEIGHT * OUTPUT_WIDTH;
#pragma unroll
        for (int k = 0; k < KERNELS; ++k) {
            if (chunk * KERNELS + k >= GROUP_KERNELS) break;
#pragma unroll
            for (int i = 0; i < STORES; ++i)
                if (offsets[i] >= 0) target[offsets[i]] = passed_on[k * PIXELS + thread + i * THREADS];
            target += OUTPUT_HEIGHT * OUTPUT_WIDTH;
        }
    }
}
