// Direct convolution, compiled for one problem: every size is a macro (see convbench/algorithms/direct/gpu.py). It follows
// epilogue.cuh.
//
// A thread block computes one patch of ROWS x COLUMNS outputs for FILTER_BLOCKS_EACH filter blocks, one after the other. A
// filter block has BLOCK_FILTERS = LAYERS * FILTERS filters. Shared memory holds the input that the patch reads, zeros in
// place of padding, and the weights of a filter block, DEPTH channels at a time. The threads of a layer cover the patch; each
// keeps FILTERS x 2 x 4 sums in registers: two runs of four neighbouring pixels of a row. For each row of the filters, a thread
// reads the inputs of its runs once, and the weights of a tap once for all of its pixels; all threads of a warp read the same
// weights at the same time, which costs one read (a broadcast).
//
// The first pixel of a row may have any alignment, so that runs of four cannot be stored as vectors: each warp exchanges its
// sums through shared memory and stores one pixel a thread, neighbours side by side.

constexpr int WARP = 32;
constexpr int RUN = 4;                                    // neighbouring pixels of a thread
constexpr int RUNS = 2;                                   // runs of a thread, COLUMNS / 2 apart
constexpr int LANES_X = COLUMNS / (RUN * RUNS);           // threads of a row
constexpr int LAYER_THREADS = LANES_X * ROWS;
constexpr int THREADS = LAYER_THREADS * LAYERS;
constexpr int BLOCK_FILTERS = FILTERS * LAYERS;
constexpr int TAPS = KERNEL_HEIGHT * KERNEL_WIDTH;
constexpr int TAP_PARTS = (KERNEL_HEIGHT + TAP_ROWS - 1) / TAP_ROWS;  // shared memory holds TAP_ROWS rows of the filters
constexpr int DEPTH_PARTS = (CHANNELS + DEPTH - 1) / DEPTH;           // DEPTH is 1 where TAP_PARTS > 1
constexpr int PATCH_ROWS = (ROWS - 1) * STRIDE_Y + (KERNEL_HEIGHT - 1) * DILATION_Y + 1;
constexpr int WINDOW = (RUN - 1) * STRIDE_X + (KERNEL_WIDTH - 1) * DILATION_X + 1;  // inputs of a run for a filter's row
constexpr int WINDOW_VECTORS = (WINDOW + RUN - 1) / RUN;
constexpr int PITCH = ((COLUMNS - RUN) * STRIDE_X + RUN * WINDOW_VECTORS + RUN - 1) / RUN * RUN;
constexpr int PATCH = PATCH_ROWS * PITCH;                 // elements of a channel
constexpr int CHANNEL_TAPS = TAP_ROWS * KERNEL_WIDTH * BLOCK_FILTERS;
constexpr int COLUMN_TILES = (OUTPUT_WIDTH + COLUMNS - 1) / COLUMNS;
constexpr int PATCHES = (OUTPUT_HEIGHT + ROWS - 1) / ROWS * COLUMN_TILES;  // of an image
constexpr int SHARES = (FILTER_BLOCKS + FILTER_BLOCKS_EACH - 1) / FILTER_BLOCKS_EACH;  // thread blocks of a patch and group
constexpr int TAP_VECTOR = BLOCK_FILTERS < RUN ? BLOCK_FILTERS : RUN;

// Where sums and windows leave room in 128 registers, four warps a scheduler hide more than three with registers to spare.
constexpr bool FEW_REGISTERS = sizeof(real) == 4 && FILTERS * RUNS * RUN + RUNS * RUN * WINDOW_VECTORS <= 96;
constexpr int BLOCKS_PER_MULTIPROCESSOR = FEW_REGISTERS ? 512 / THREADS : 1;

template <int N>
struct alignas(N * sizeof(real) < 16 ? N * sizeof(real) : 16) Numbers {
    real v[N];
};

using Four = Numbers<RUN>;

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_PER_MULTIPROCESSOR) direct(
    const real* __restrict__ x,        // (BATCH, GROUPS * CHANNELS, HEIGHT, WIDTH)
    const real* __restrict__ weights,  // (GROUPS, FILTER_BLOCKS, CHANNELS, TAPS, BLOCK_FILTERS), zeros as padding; then bias
    real* __restrict__ out,            // (BATCH, GROUPS * GROUP_FILTERS, OUTPUT_HEIGHT, OUTPUT_WIDTH)
    real* __restrict__ scratch)        // not used
{
    __shared__ Four patch_memory[DEPTH * PATCH / RUN];
    __shared__ Four tap_memory[(DEPTH * CHANNEL_TAPS + RUN - 1) / RUN];
    __shared__ Four exchange_memory[THREADS * RUNS];
    real* const patch = patch_memory[0].v;
    auto* const taps = (Numbers<TAP_VECTOR>*)tap_memory;

    const int thread = threadIdx.x;
    const int layer = thread / LAYER_THREADS, lane_x = thread % LANES_X, lane_y = thread % LAYER_THREADS / LANES_X;
    const int patch_index = blockIdx.x % PATCHES, rest = blockIdx.x / PATCHES;
    const int first_row = patch_index / COLUMN_TILES * ROWS, first_column = patch_index % COLUMN_TILES * COLUMNS;
    const int image = rest / SHARES / GROUPS, group = rest / SHARES % GROUPS;
    const int begin = rest % SHARES * FILTER_BLOCKS_EACH;
    const int end = begin + FILTER_BLOCKS_EACH < FILTER_BLOCKS ? begin + FILTER_BLOCKS_EACH : FILTER_BLOCKS;
    const real* const planes = x + (size_t)(image * GROUPS + group) * CHANNELS * HEIGHT * WIDTH;
    const int place_in_patch = lane_y * STRIDE_Y * PITCH + lane_x * RUN * STRIDE_X;

    for (int filter_block = begin; filter_block < end; ++filter_block) {
        real sums[FILTERS][RUNS][RUN] = {};
        for (int part = 0; part < DEPTH_PARTS * TAP_PARTS; ++part) {  // DEPTH channels, or TAP_ROWS rows of one
            const int first_channel = part / TAP_PARTS * DEPTH, first_tap_row = part % TAP_PARTS * TAP_ROWS;
            const int channels = DEPTH < CHANNELS - first_channel ? DEPTH : CHANNELS - first_channel;
            const int tap_rows = TAP_ROWS < KERNEL_HEIGHT - first_tap_row ? TAP_ROWS : KERNEL_HEIGHT - first_tap_row;
            __syncthreads();  // all threads have read what shared memory holds
            if (first_tap_row == 0 && (DEPTH_PARTS > 1 || filter_block == begin)) {
                for (int i = thread; i < channels * PATCH; i += THREADS) {
                    const int row = first_row * STRIDE_Y - TOP + i % PATCH / PITCH;
                    const int column = first_column * STRIDE_X - LEFT + i % PITCH;
                    const bool inside = (unsigned)row < HEIGHT && (unsigned)column < WIDTH;
                    const real* plane = planes + (size_t)(first_channel + i / PATCH) * HEIGHT * WIDTH;
                    patch[i] = inside ? plane[row * WIDTH + column] : real(0);
                }
            }
            const auto* own = (const Numbers<TAP_VECTOR>*)weights +
                              (((size_t)(group * FILTER_BLOCKS + filter_block) * CHANNELS + first_channel) * TAPS +
                               first_tap_row * KERNEL_WIDTH) * (BLOCK_FILTERS / TAP_VECTOR);
            for (int i = thread; i < channels * tap_rows * KERNEL_WIDTH * (BLOCK_FILTERS / TAP_VECTOR); i += THREADS)
                taps[i] = own[i];
            __syncthreads();

            const Four* inputs = patch_memory + (place_in_patch + first_tap_row * DILATION_Y * PITCH) / RUN;
            const Numbers<TAP_VECTOR>* row_taps = taps + layer * FILTERS / TAP_VECTOR;
            for (int channel = 0; channel < channels; ++channel, inputs += PATCH / RUN) {
                for (int a = 0; a < tap_rows; ++a) {
                    real window[RUNS][RUN * WINDOW_VECTORS];
#pragma unroll
                    for (int run = 0; run < RUNS; ++run)
#pragma unroll
                        for (int i = 0; i < WINDOW_VECTORS; ++i) {
                            const Four four = inputs[a * (DILATION_Y * PITCH / RUN) + run * LANES_X * STRIDE_X + i];
#pragma unroll
                            for (int j = 0; j < RUN; ++j) window[run][RUN * i + j] = four.v[j];
                        }
#pragma unroll
                    for (int b = 0; b < KERNEL_WIDTH; ++b) {
#pragma unroll
                        for (int h = 0; h < FILTERS; h += TAP_VECTOR) {
                            const Numbers<TAP_VECTOR> four = row_taps[(b * BLOCK_FILTERS + h) / TAP_VECTOR];
#pragma unroll
                            for (int run = 0; run < RUNS; ++run)
#pragma unroll
                                for (int i = 0; i < TAP_VECTOR * RUN; ++i) {  // to and fro, so that operands are used again
                                    const int k = i / RUN, j = k % 2 ? RUN - 1 - i % RUN : i % RUN;
                                    sums[h + k][run][j] += four.v[k] * window[run][j * STRIDE_X + b * DILATION_X];
                                }
                        }
                    }
                    row_taps += KERNEL_WIDTH * BLOCK_FILTERS / TAP_VECTOR;
                }
            }
        }

        const int warp = thread / WARP, lane = thread % WARP;
        Four* const exchange = exchange_memory + warp * WARP * RUNS;
        int offsets[RUN * RUNS];  // of the pixels that this thread stores; -1: none
#pragma unroll
        for (int i = 0; i < RUN * RUNS; ++i) {
            const int place = lane + i * WARP;
            const int row = first_row + warp * WARP % LAYER_THREADS / LANES_X + place / COLUMNS;
            const int column = first_column + place % COLUMNS;
            offsets[i] = row < OUTPUT_HEIGHT && column < OUTPUT_WIDTH ? row * OUTPUT_WIDTH + column : -1;
        }
        const int first_filter = filter_block * BLOCK_FILTERS + layer * FILTERS;
        real* plane = out + (size_t)((image * GROUPS + group) * GROUP_FILTERS + first_filter) * OUTPUT_HEIGHT * OUTPUT_WIDTH;
#pragma unroll
        for (int k = 0; k < FILTERS; ++k) {
            if (first_filter + k >= GROUP_FILTERS) break;  // uniform in a warp
            const real bias = bias_of(weights, group * GROUP_FILTERS + first_filter + k, true);
            __syncwarp();
#pragma unroll
            for (int run = 0; run < RUNS; ++run) {
                Four four;
#pragma unroll
                for (int j = 0; j < RUN; ++j) four.v[j] = finished(sums[k][run][j], bias);
                exchange[lane / LANES_X * (COLUMNS / RUN) + run * LANES_X + lane % LANES_X] = four;
            }
            __syncwarp();
#pragma unroll
            for (int i = 0; i < RUN * RUNS; ++i)
                if (offsets[i] >= 0) plane[offsets[i]] = exchange[(lane + i * WARP) / RUN].v[lane % RUN];
            plane += OUTPUT_HEIGHT * OUTPUT_WIDTH;
        }
    }
}
