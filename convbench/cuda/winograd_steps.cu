// Nested minimal filtering in three kernels, compiled for one problem: every size is a macro (see
// convbench/algorithms/winograd/gpu_steps.py). It follows epilogue.cuh, product.cuh, weights.cuh and winograd.cuh.
//
// The first kernel transforms tiles of the input, a window for each block of taps. The second computes one matrix product for
// each point, (filters x terms) times (terms x tiles), where the terms are the blocks of all channels. The third transforms the
// products back. `scratch` holds what one kernel leaves for the next, the tiles of all images side by side, so that
// neighbouring threads have neighbouring tiles. That traffic to memory and back pays where many filters and channels share it.

constexpr int POINTS = Y_POINTS * X_POINTS;
constexpr int PARTS_OF_A_FILTER = Y_BLOCKS * X_BLOCKS;
constexpr int TERMS = CHANNELS * PARTS_OF_A_FILTER;
constexpr int STEPS = (TERMS + DEPTH - 1) / DEPTH;
constexpr int TILE_ROWS = (OUTPUT_HEIGHT + Y_OUTPUTS - 1) / Y_OUTPUTS;
constexpr int TILE_COLUMNS = (OUTPUT_WIDTH + X_OUTPUTS - 1) / X_OUTPUTS;
constexpr int IMAGE_TILES = TILE_ROWS * TILE_COLUMNS;
constexpr int TILES = BATCH * IMAGE_TILES;
constexpr int TILE_BLOCKS = (TILES + COLUMNS - 1) / COLUMNS;
constexpr int PITCH = TILE_BLOCKS * COLUMNS;  // tiles, those included that fill the last block
constexpr int FILTER_BLOCKS = (GROUP_FILTERS + FILTERS - 1) / FILTERS;
constexpr size_t TRANSFORMED = (size_t)GROUPS * POINTS * TERMS * PITCH;  // elements, which precede the products
constexpr int TRANSFORM_PARTS = (TILES + TRANSFORM_THREADS - 1) / TRANSFORM_THREADS;

extern "C" __global__ void __launch_bounds__(TRANSFORM_THREADS) transform_input(
    const real* __restrict__ x,        // (BATCH, GROUPS * CHANNELS, HEIGHT, WIDTH)
    const real* __restrict__ weights,  // not used
    real* __restrict__ out,            // not used
    real* __restrict__ scratch)        // (GROUPS, POINTS, TERMS, PITCH)
{
    const int tile = blockIdx.x % TRANSFORM_PARTS * TRANSFORM_THREADS + threadIdx.x, rest = blockIdx.x / TRANSFORM_PARTS;
    if (tile >= TILES) return;
    const int block = rest % PARTS_OF_A_FILTER, channel = rest / PARTS_OF_A_FILTER % CHANNELS;
    const int group = rest / PARTS_OF_A_FILTER / CHANNELS;
    const int top = tile % IMAGE_TILES / TILE_COLUMNS * Y_OUTPUTS + block / X_BLOCKS * Y_TAPS - TOP;
    const int left = tile % TILE_COLUMNS * X_OUTPUTS + block % X_BLOCKS * X_TAPS - LEFT;
    const real* plane = x + ((size_t)(tile / IMAGE_TILES * GROUPS + group) * CHANNELS + channel) * HEIGHT * WIDTH;
    real* target = scratch + ((size_t)group * POINTS * TERMS + channel * PARTS_OF_A_FILTER + block) * PITCH + tile;
    transform(plane, top, left, [=](int p, int q, real number) {
        target[(size_t)(p * X_POINTS + q) * TERMS * PITCH] = number;
    });
}

// The transformed inputs of the next step, prefetched into registers.
constexpr int INPUT_VECTORS = DEPTH * COLUMNS / VECTOR;
constexpr int INPUT_LOADS = (INPUT_VECTORS + THREADS - 1) / THREADS;

struct Inputs {
    Vector at[INPUT_LOADS];
};

static __device__ __forceinline__ void load(Inputs& inputs, const real* source, int step, int thread)
{
#pragma unroll
    for (int i = 0; i < INPUT_LOADS; ++i) {
        const int place = thread + i * THREADS, term = step * DEPTH + place / (COLUMNS / VECTOR);
        inputs.at[i] = Vector{};
        if (place < INPUT_VECTORS && (TERMS % DEPTH == 0 || term < TERMS))
            inputs.at[i] = *(const Vector*)(source + (size_t)term * PITCH + place % (COLUMNS / VECTOR) * VECTOR);
    }
}

static __device__ __forceinline__ void store(const Inputs& inputs, Vector* rows, int thread)
{
#pragma unroll
    for (int i = 0; i < INPUT_LOADS; ++i) {
        const int place = thread + i * THREADS, term = place / (COLUMNS / VECTOR), vector = place % (COLUMNS / VECTOR);
        if (place < INPUT_VECTORS) rows[term * (INPUT_PITCH / VECTOR) + vector] = as_factor(inputs.at[i]);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_PER_MULTIPROCESSOR) products(
    const real* __restrict__ x,        // not used
    const real* __restrict__ weights,  // (GROUPS, POINTS, FILTER_BLOCKS, STEPS * DEPTH, FILTERS), zeros as padding
    real* __restrict__ out,            // not used
    real* __restrict__ scratch)        // as above, and behind it (GROUPS, POINTS, GROUP_FILTERS, PITCH)
{
    __shared__ Vector weight_rows[2][DEPTH * WEIGHT_PITCH / VECTOR];
    __shared__ Vector input_rows[2][DEPTH * INPUT_PITCH / VECTOR];

    const int thread = threadIdx.x;
    const int filter_block = blockIdx.x % FILTER_BLOCKS, rest = blockIdx.x / FILTER_BLOCKS;
    const int first_tile = rest % TILE_BLOCKS * COLUMNS, product = rest / TILE_BLOCKS;  // of a group at a point
    const Vector* own = (const Vector*)weights + (size_t)(product * FILTER_BLOCKS + filter_block) * STEPS * WEIGHT_VECTORS;
    const real* source = scratch + (size_t)product * TERMS * PITCH + first_tile;

    Sums sums;
    Weights next_weights;
    Inputs next_inputs;
    load(next_weights, own, thread);
    load(next_inputs, source, 0, thread);
    store(next_weights, weight_rows[0], thread);
    store(next_inputs, input_rows[0], thread);
    __syncthreads();
    for (int step = 0; step < STEPS; ++step) {
        const int now = step % 2;
        if (step + 1 < STEPS) {
            load(next_weights, own + (step + 1) * WEIGHT_VECTORS, thread);
            load(next_inputs, source, step + 1, thread);
        }
        multiply(sums, weight_rows[now], input_rows[now], thread);
        if (step + 1 < STEPS) {
            store(next_weights, weight_rows[1 - now], thread);
            store(next_inputs, input_rows[1 - now], thread);
        }
        __syncthreads();
    }

    real* const target = scratch + TRANSFORMED + (size_t)product * GROUP_FILTERS * PITCH + first_tile;
#pragma unroll
    for (int i = 0; i < ROWS; ++i) {
        const int filter = filter_block * FILTERS + first_row(thread) + row_offset(i);
        if (filter >= GROUP_FILTERS) continue;
#pragma unroll
        for (int j = 0; j < RUNS; ++j) {
            Run run;
#pragma unroll
            for (int e = 0; e < RUN; ++e) run.v[e] = sums.at[i][j][e];
            *(Run*)(target + (size_t)filter * PITCH + first_column(thread) + column_offset(j)) = run;
        }
    }
}

extern "C" __global__ void __launch_bounds__(TRANSFORM_THREADS) transform_output(
    const real* __restrict__ x,        // not used
    const real* __restrict__ weights,  // for the bias alone
    real* __restrict__ out,            // (BATCH, GROUPS * GROUP_FILTERS, OUTPUT_HEIGHT, OUTPUT_WIDTH)
    real* __restrict__ scratch)        // as above
{
    __shared__ real pixels[TRANSFORM_THREADS * X_OUTPUTS];  // a row of each tile, stored one pixel a thread

    const int thread = threadIdx.x, first_tile = blockIdx.x % TRANSFORM_PARTS * TRANSFORM_THREADS, tile = first_tile + thread;
    const int channel = blockIdx.x / TRANSFORM_PARTS;  // of the output
    const int group = channel / GROUP_FILTERS, filter = channel % GROUP_FILTERS;
    const real bias = bias_of(weights, channel, true);
    Half half;
    if (tile < TILES) {
        const real* source = scratch + TRANSFORMED + ((size_t)group * POINTS * GROUP_FILTERS + filter) * PITCH + tile;
#pragma unroll
        for (int p = 0; p < Y_POINTS; ++p)
#pragma unroll
            for (int q = 0; q < X_POINTS; ++q) half.add(p, q, source[(size_t)(p * X_POINTS + q) * GROUP_FILTERS * PITCH]);
    }
#pragma unroll
    for (int r = 0; r < Y_OUTPUTS; ++r) {
        __syncthreads();  // the row before is stored
#pragma unroll
        for (int c = 0; c < X_OUTPUTS; ++c) pixels[thread * X_OUTPUTS + c] = finished(half.pixel(r, c), bias);
        __syncthreads();
#pragma unroll
        for (int i = 0; i < X_OUTPUTS; ++i) {
            const int place = thread + i * TRANSFORM_THREADS, other = first_tile + place / X_OUTPUTS;
            const int row = other % IMAGE_TILES / TILE_COLUMNS * Y_OUTPUTS + r;
            const int column = other % TILE_COLUMNS * X_OUTPUTS + place % X_OUTPUTS;
            const size_t plane = (size_t)(other / IMAGE_TILES * GROUPS * GROUP_FILTERS + channel) * OUTPUT_HEIGHT;
            if (other < TILES && row < OUTPUT_HEIGHT && column < OUTPUT_WIDTH)
                out[(plane + row) * OUTPUT_WIDTH + column] = pixels[place];
        }
    }
}
