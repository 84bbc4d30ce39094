// Direct convolution, compiled for one problem: every size is a macro (see direct_cuda.py).
//
// A block computes LAYERS * KERNELS kernels at a time over a patch of ROWS x COLUMNS outputs, CHUNKS times one after the
// other. The patch of the input that they read, with padding sorted out, and the kernels' weights lie in shared memory, for
// DEPTH channels at a time. The threads of a layer lie over the patch; each keeps KERNELS x 2 x 4 sums in registers: two runs
// of four neighbouring pixels of a row. For each row of the kernel it reads the run of inputs that its pixels need once, and
// the weights of a tap once for all of its pixels; every thread of a warp reads the same weights at the same time, which costs
// as much as one thread's read.
//
// Runs of four are no way to write a row whose first pixel may lie anywhere: each warp passes its sums through shared memory
// and writes them a pixel a thread, neighbours side by side.

constexpr int WARP = 32;
constexpr int RUN = 4;                                    // neighbouring pixels of a thread
constexpr int RUNS = 2;                                   // of them, COLUMNS / 2 apart
constexpr int LANES_X = COLUMNS / (RUN * RUNS);           // threads side by side
constexpr int LAYER_THREADS = LANES_X * ROWS;
constexpr int THREADS = LAYER_THREADS * LAYERS;
constexpr int CHUNK_KERNELS = KERNELS * LAYERS;
constexpr int TAPS = KERNEL_HEIGHT * KERNEL_WIDTH;
constexpr int TAP_PARTS = (KERNEL_HEIGHT + TAP_ROWS - 1) / TAP_ROWS;  // as many rows of the kernels at a time as there is room
constexpr int DEPTH_PARTS = (CHANNELS + DEPTH - 1) / DEPTH;           // DEPTH is 1 where there are several of those
constexpr int PATCH_ROWS = (ROWS - 1) * STRIDE_Y + (KERNEL_HEIGHT - 1) * DILATION_Y + 1;
constexpr int WINDOW = (RUN - 1) * STRIDE_X + (KERNEL_WIDTH - 1) * DILATION_X + 1;  // inputs of a run, for a kernel's row
constexpr int WINDOW_VECTORS = (WINDOW + RUN - 1) / RUN;
constexpr int PITCH = ((COLUMNS - RUN) * STRIDE_X + RUN * WINDOW_VECTORS + RUN - 1) / RUN * RUN;
constexpr int PATCH = PATCH_ROWS * PITCH;                 // numbers of a channel
constexpr int CHANNEL_TAPS = TAP_ROWS * KERNEL_WIDTH * CHUNK_KERNELS;
constexpr int COLUMN_TILES = (OUTPUT_WIDTH + COLUMNS - 1) / COLUMNS;
constexpr int PATCHES = (OUTPUT_HEIGHT + ROWS - 1) / ROWS * COLUMN_TILES;  // of an image
constexpr int SHARES = (ALL_CHUNKS + CHUNKS - 1) / CHUNKS;                 // of a group's kernels, each a block's
constexpr int TAP_VECTOR = CHUNK_KERNELS < RUN ? CHUNK_KERNELS : RUN;

template <int N>
struct alignas(N * sizeof(real) < 16 ? N * sizeof(real) : 16) Numbers {
    real v[N];
};

using Four = Numbers<RUN>;

extern "C" __global__ void __launch_bounds__(THREADS) direct(
    const real* __restrict__ x,        // (BATCH, GROUPS * CHANNELS, HEIGHT, WIDTH)
    const real* __restrict__ weights,  // (GROUPS, ALL_CHUNKS, CHANNELS, TAPS, CHUNK_KERNELS), zeros for what is not there
    real* __restrict__ out,            // (BATCH, GROUPS * GROUP_KERNELS, OUTPUT_HEIGHT, OUTPUT_WIDTH)
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
    const int chunk_begin = rest % SHARES * CHUNKS;
    const int chunk_end = chunk_begin + CHUNKS < ALL_CHUNKS ? chunk_begin + CHUNKS : ALL_CHUNKS;
    const real* const planes = x + (size_t)(image * GROUPS + group) * CHANNELS * HEIGHT * WIDTH;
    const int place_in_patch = lane_y * STRIDE_Y * PITCH + lane_x * RUN * STRIDE_X;

    for (int chunk = chunk_begin; chunk < chunk_end; ++chunk) {
        real sums[KERNELS][RUNS][RUN] = {};
        for (int part = 0; part < DEPTH_PARTS * TAP_PARTS; ++part) {  // some channels, or some rows of one channel's kernels
            const int first_channel = part / TAP_PARTS * DEPTH, first_tap_row = part % TAP_PARTS * TAP_ROWS;
            const int channels = DEPTH < CHANNELS - first_channel ? DEPTH : CHANNELS - first_channel;
            const int tap_rows = TAP_ROWS < KERNEL_HEIGHT - first_tap_row ? TAP_ROWS : KERNEL_HEIGHT - first_tap_row;
            __syncthreads();  // everybody is done with what lies in shared memory
            if (first_tap_row == 0 && (DEPTH_PARTS > 1 || chunk == chunk_begin)) {
                for (int i = thread; i < channels * PATCH; i += THREADS) {
                    const int row = first_row * STRIDE_Y - TOP + i % PATCH / PITCH;
                    const int column = first_column * STRIDE_X - LEFT + i % PITCH;
                    const bool inside = (unsigned)row < HEIGHT && (unsigned)column < WIDTH;
                    const real* plane = planes + (size_t)(first_channel + i / PATCH) * HEIGHT * WIDTH;
                    patch[i] = inside ? plane[row * WIDTH + column] : real(0);
                }
            }
            const auto* own = (const Numbers<TAP_VECTOR>*)weights +
                              (((size_t)(group * ALL_CHUNKS + chunk) * CHANNELS + first_channel) * TAPS +
                               first_tap_row * KERNEL_WIDTH) * (CHUNK_KERNELS / TAP_VECTOR);
            for (int i = thread; i < channels * tap_rows * KERNEL_WIDTH * (CHUNK_KERNELS / TAP_VECTOR); i += THREADS)
                taps[i] = own[i];
            __syncthreads();

            const Four* inputs = patch_memory + (place_in_patch + first_tap_row * DILATION_Y * PITCH) / RUN;
            const Numbers<TAP_VECTOR>* row_taps = taps + layer * KERNELS / TAP_VECTOR;
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
                        for (int k = 0; k < KERNELS; ++k) {
                            const real weight = row_taps[(b * CHUNK_KERNELS + k) / TAP_VECTOR].v[k % TAP_VECTOR];
#pragma unroll
                            for (int run = 0; run < RUNS; ++run)
#pragma unroll
                                for (int j = 0; j < RUN; ++j)
                                    sums[k][run][j] += weight * window[run][j * STRIDE_X + b * DILATION_X];
                        }
                    }
                    row_taps += KERNEL_WIDTH * CHUNK_KERNELS / TAP_VECTOR;
                }
            }
        }

        const int warp = thread / WARP, lane = thread % WARP;
        Four* const exchange = exchange_memory + warp * WARP * RUNS;
        int offsets[RUN * RUNS];  // of the pixels that this thread writes; negative where there is none
#pragma unroll
        for (int i = 0; i < RUN * RUNS; ++i) {
            const int place = lane + i * WARP;
            const int row = first_row + warp * WARP % LAYER_THREADS / LANES_X + place / COLUMNS;
            const int column = first_column + place % COLUMNS;
            offsets[i] = row < OUTPUT_HEIGHT && column < OUTPUT_WIDTH ? row * OUTPUT_WIDTH + column : -1;
        }
        const int first_kernel = chunk * CHUNK_KERNELS + layer * KERNELS;
        real* plane = out + (size_t)((image * GROUPS + group) * GROUP_KERNELS + first_kernel) * OUTPUT_HEIGHT * OUTPUT_WIDTH;
#pragma unroll
        for (int k = 0; k < KERNELS; ++k) {
            if (first_kernel + k >= GROUP_KERNELS) break;  // the same for every thread of a warp
            __syncwarp();
#pragma unroll
            for (int run = 0; run < RUNS; ++run) {
                Four four;
#pragma unroll
                for (int j = 0; j < RUN; ++j) four.v[j] = sums[k][run][j];
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
