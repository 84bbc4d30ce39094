// Nested minimal filtering of one channel in one kernel, compiled for one problem: every size is a macro (see
// convbench/algorithms/winograd/gpu_fused.py). It follows winograd.cuh and epilogue.cuh.
//
// A thread block computes TILES tiles of a row of tiles for FILTER_BLOCKS_EACH filter blocks, one after the other. A filter
// block has FILTERS filters. The thread block transforms the input of its tiles once, PARTS windows for each tile, one for each
// block of taps, and stores their points to shared memory. For each filter block it multiplies and sums at each point,
// transforms the sums back, and stores runs of TILES * X_OUTPUTS pixels. Memory holds nothing but input, weights and output.
//
// A thread multiplies at one point, FILTERS weights with TILES inputs. No other thread needs its weights, which are loaded from
// memory to registers. The layout of shared memory avoids bank conflicts of vector reads: the planes of inputs are one vector
// longer than their points, and the sums of a tile take an odd number of vectors.

constexpr int VECTOR = 16 / sizeof(real);
constexpr int POINTS = Y_POINTS * X_POINTS;
constexpr int PARTS = Y_BLOCKS * X_BLOCKS;
constexpr int THREADS = POINTS;
constexpr int WARPS = (THREADS + 31) / 32;
constexpr int BLOCKS_PER_MULTIPROCESSOR = sizeof(real) == 4 ? 12 / WARPS : 1;  // that registers and shared memory allow
constexpr int TILE_ROWS = (OUTPUT_HEIGHT + Y_OUTPUTS - 1) / Y_OUTPUTS;
constexpr int TILE_COLUMNS = (OUTPUT_WIDTH + X_OUTPUTS - 1) / X_OUTPUTS;
constexpr int RUNS = (TILE_COLUMNS + TILES - 1) / TILES;       // thread blocks of a row of tiles
constexpr int SHARES = (FILTER_BLOCKS + FILTER_BLOCKS_EACH - 1) / FILTER_BLOCKS_EACH;  // thread blocks of a place and group
constexpr int WIDE = TILES * X_OUTPUTS;                        // pixels of a row of a thread block
constexpr int PIXELS = Y_OUTPUTS * WIDE;                       // of a filter
constexpr int FILTER_VECTOR = FILTERS < VECTOR ? FILTERS : VECTOR;
constexpr int PLANES = TILES / VECTOR;                         // of inputs, for each window
constexpr int INPUT_PITCH = (POINTS + 1) * VECTOR;             // from plane to plane
constexpr int SUM_VECTORS = (POINTS + VECTOR - 1) / VECTOR / 2 * 2 + 1;
constexpr int SUM_PITCH = SUM_VECTORS * VECTOR;                // from one tile's sums to the next one's
constexpr int SUMS = FILTERS * TILES * SUM_PITCH;
constexpr int STORES = (PIXELS + THREADS - 1) / THREADS;       // pixels of a filter that a thread stores

template <int N>
struct alignas(N * sizeof(real)) Numbers {
    real v[N];
};

static_assert(SUM_PITCH >= POINTS, "a tile's sums fit");

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_PER_MULTIPROCESSOR) winograd(
    const real* __restrict__ x,        // (BATCH, GROUPS, HEIGHT, WIDTH)
    const real* __restrict__ weights,  // (GROUPS, FILTER_BLOCKS, PARTS, FILTERS / FILTER_VECTOR, POINTS, FILTER_VECTOR), bias
    real* __restrict__ out,            // (BATCH, GROUPS * GROUP_FILTERS, OUTPUT_HEIGHT, OUTPUT_WIDTH)
    real* __restrict__ scratch)        // not used
{
    __shared__ Numbers<VECTOR> input_memory[PARTS * PLANES * INPUT_PITCH / VECTOR];
    __shared__ Numbers<VECTOR> sum_memory[(SUMS > FILTERS * PIXELS ? SUMS : FILTERS * PIXELS) / VECTOR];
    real* const exchange = sum_memory[0].v;  // of sums first, then of pixels

    const int thread = threadIdx.x;
    const int run = blockIdx.x % RUNS, tile_row = blockIdx.x / RUNS % TILE_ROWS, rest = blockIdx.x / RUNS / TILE_ROWS;
    const int image = rest / SHARES / GROUPS, group = rest / SHARES % GROUPS;
    const int begin = rest % SHARES * FILTER_BLOCKS_EACH;
    const int end = begin + FILTER_BLOCKS_EACH < FILTER_BLOCKS ? begin + FILTER_BLOCKS_EACH : FILTER_BLOCKS;
    const int first_row = tile_row * Y_OUTPUTS, first_column = run * WIDE;

    const real* plane = x + (size_t)(image * GROUPS + group) * HEIGHT * WIDTH;
    for (int i = thread; i < PARTS * TILES; i += THREADS) {
        const int tile = i % TILES, block = i / TILES;
        const int top = first_row + block / X_BLOCKS * Y_TAPS - TOP;
        const int left = first_column + tile * X_OUTPUTS + block % X_BLOCKS * X_TAPS - LEFT;
        real* const target = input_memory[0].v + (block * PLANES + tile / VECTOR) * INPUT_PITCH + tile % VECTOR;
        transform(plane, top, left, [=](int p, int q, real number) { target[(p * X_POINTS + q) * VECTOR] = number; });
    }

    int offsets[STORES];  // of the pixels that this thread stores, in a plane of the output; -1: none
#pragma unroll
    for (int i = 0; i < STORES; ++i) {
        const int place = thread + i * THREADS, row = first_row + place / WIDE, column = first_column + place % WIDE;
        const bool inside = place < PIXELS && row < OUTPUT_HEIGHT && column < OUTPUT_WIDTH;
        offsets[i] = inside ? row * OUTPUT_WIDTH + column : -1;
    }
    __syncthreads();

    for (int filter_block = begin; filter_block < end; ++filter_block) {
        real sums[FILTERS][TILES] = {};
        const auto* own = (const Numbers<FILTER_VECTOR>*)weights +
                          (size_t)(group * FILTER_BLOCKS + filter_block) * PARTS * (FILTERS / FILTER_VECTOR) * POINTS + thread;
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
            for (int i = 0; i < FILTERS / FILTER_VECTOR; ++i) {
                const Numbers<FILTER_VECTOR> vector = own[(part * (FILTERS / FILTER_VECTOR) + i) * POINTS];
#pragma unroll
                for (int e = 0; e < FILTER_VECTOR; ++e)
#pragma unroll
                    for (int t = 0; t < TILES; ++t) sums[i * FILTER_VECTOR + e][t] += vector.v[e] * input[t];
            }
        }

        __syncthreads();  // the pixels of the filter block before are stored
#pragma unroll
        for (int k = 0; k < FILTERS; ++k)
#pragma unroll
            for (int t = 0; t < TILES; ++t) exchange[(k * TILES + t) * SUM_PITCH + thread] = sums[k][t];
        __syncthreads();

        constexpr int ROUNDS = (FILTERS * TILES + THREADS - 1) / THREADS;  // tiles of a filter block for each thread
        Half halves[ROUNDS];
#pragma unroll
        for (int round = 0; round < ROUNDS; ++round)
#pragma unroll
            for (int i = 0; i < (POINTS + VECTOR - 1) / VECTOR; ++i) {
                const int tile = thread + round * THREADS;
                if (tile >= FILTERS * TILES) break;
                const Numbers<VECTOR> vector = sum_memory[tile * SUM_VECTORS + i];
#pragma unroll
                for (int e = 0; e < VECTOR; ++e) {
                    const int point = i * VECTOR + e;
                    if (point < POINTS) halves[round].add(point / X_POINTS, point % X_POINTS, vector.v[e]);
                }
            }
        __syncthreads();  // all threads have read the sums, which pixels overwrite
#pragma unroll
        for (int round = 0; round < ROUNDS; ++round) {
            const int i = thread + round * THREADS, filter = filter_block * FILTERS + i / TILES;
            const real bias = bias_of(weights, group * GROUP_FILTERS + filter, filter < GROUP_FILTERS);
            if (i < FILTERS * TILES)
#pragma unroll
                for (int r = 0; r < Y_OUTPUTS; ++r)
#pragma unroll
                    for (int c = 0; c < X_OUTPUTS; ++c)
                        exchange[i / TILES * PIXELS + r * WIDE + i % TILES * X_OUTPUTS + c] =
                            finished(halves[round].pixel(r, c), bias);
        }
        __syncthreads();

        const int first_filter = filter_block * FILTERS;
        real* target = out + (size_t)((image * GROUPS + group) * GROUP_FILTERS + first_filter) * OUTPUT_HEIGHT * OUTPUT_WIDTH;
#pragma unroll
        for (int k = 0; k < FILTERS; ++k) {
            if (first_filter + k >= GROUP_FILTERS) break;
#pragma unroll
            for (int i = 0; i < STORES; ++i)
                if (offsets[i] >= 0) target[offsets[i]] = exchange[k * PIXELS + thread + i * THREADS];
            target += OUTPUT_HEIGHT * OUTPUT_WIDTH;
        }
    }
}
