// Direct convolution, compiled for one problem: every size is a macro (see direct_cuda.py).
//
// A block computes KERNELS kernels at a time over a patch of ROWS x COLUMNS outputs, CHUNKS times one after the other. The
// patch of the input that they read, with padding sorted out, and the kernels' weights lie in shared memory, a channel at a
// time. A thread keeps KERNELS x 2 x 4 sums in registers: two runs of four neighbouring pixels of a row. For each row of the
// kernel it reads the run of inputs that its pixels need once, and the weights of a tap once for all of its pixels; every
// thread of a warp reads the same weights at the same time, which costs as much as one thread's read.
//
// Runs of four are no way to write a row whose first pixel may lie anywhere: each warp passes its sums through shared memory
// and writes them a pixel a thread, neighbours side by side.

constexpr int RUN = 4;                                   // neighbouring pixels of a thread
constexpr int RUNS = 2;                                  // of them, COLUMNS / 2 apart
constexpr int LANES_X = COLUMNS / (RUN * RUNS);          // threads side by side
constexpr int THREADS = LANES_X * ROWS;
constexpr int TAPS = KERNEL_HEIGHT * KERNEL_WIDTH;
constexpr int TAP_PARTS = (KERNEL_HEIGHT + TAP_ROWS - 1) / TAP_ROWS;  // as many rows of the kernels at a time as there is room
constexpr int PATCH_ROWS = (ROWS - 1) * STRIDE_Y + (KERNEL_HEIGHT - 1) * DILATION_Y + 1;
constexpr int WINDOW = (RUN - 1) * STRIDE_X + (KERNEL_WIDTH - 1) * DILATION_X + 1;  // inputs of a run, for a kernel's row
constexpr int WINDOW_VECTORS = (WINDOW + 3) / 4;
constexpr int PITCH = ((COLUMNS - RUN) * STRIDE_X + 4 * WINDOW_VECTORS + 3) / 4 * 4;
constexpr int COLUMN_TILES = (OUTPUT_WIDTH + COLUMNS - 1) / COLUMNS;
constexpr int PATCHES = (OUTPUT_HEIGHT + ROWS - 1) / ROWS * COLUMN_TILES;  // of an image
constexpr int PARTS = (ALL_CHUNKS + CHUNKS - 1) / CHUNKS;                  // of a group's kernels, each a block's
constexpr int WARP = 32;

struct alignas(16) Four {
    real v[4];
};

extern "C" __global__ void __launch_bounds__(THREADS) direct(
    const real* __restrict__ x,        // (BATCH, GROUPS * CHANNELS, HEIGHT, WIDTH)
    const real* __restrict__ weights,  // (GROUPS, ALL_CHUNKS, CHANNELS, TAPS, KERNELS), zeros for kernels that are not there
    real* __restrict__ out,            // (BATCH, GROUPS * GROUP_KERNELS, OUTPUT_HEIGHT, OUTPUT_WIDTH)
    real* __restrict__ scratch)        // not used
{
    __shared__ Four patch_memory[PATCH_ROWS * PITCH / 4];
    __shared__ Four weight_memory[(TAP_ROWS * KERNEL_WIDTH * KERNELS + 3) / 4];
    __shared__ Four exchange_memory[THREADS * RUNS];
    real* const patch = patch_memory[0].v;
    real* const taps = weight_memory[0].v;
    real* const exchange = exchange_memory[0].v;

    const int thread = threadIdx.x;
    const int lane_x = thread % LANES_X, lane_y = thread / LANES_X;
    const int patch_index = blockIdx.x % PATCHES, rest = blockIdx.x / PATCHES;
    const int first_row = patch_index / COLUMN_TILES * ROWS, first_column = patch_index % COLUMN_TILES * COLUMNS;
    const int image = rest / PARTS / GROUPS, group = rest / PARTS % GROUPS;
    const int chunk_begin = rest % PARTS * CHUNKS;
    const int chunk_end = chunk_begin + CHUNKS < ALL_CHUNKS ? chunk_begin + CHUNKS : ALL_CHUNKS;

    for (int chunk = chunk_begin; chunk < chunk_end; ++chunk) {
        real sums[KERNELS][RUNS][RUN] = {};
        for (int part = 0; part < CHANNELS * TAP_PARTS; ++part) {  // some rows of one channel's kernels
            const int channel = part / TAP_PARTS, first_tap_row = part % TAP_PARTS * TAP_ROWS;
            const int rows_left = KERNEL_HEIGHT - first_tap_row, tap_rows = TAP_ROWS < rows_left ? TAP_ROWS : rows_left;
            __syncthreads();  // everybody is done with what lies in shared memory
            if (first_tap_row == 0 && (CHANNELS > 1 || chunk == chunk_begin)) {
                const real* plane = x + (size_t)(image * GROUPS * CHANNELS + group * CHANNELS + channel) * HEIGHT * WIDTH;
                for (int i = thread; i < PATCH_ROWS * PITCH; i += THREADS) {
                    const int row = first_row * STRIDE_Y - TOP + i / PITCH;
                    const int column = first_column * STRIDE_X - LEFT + i % PITCH;
                    const bool inside = 0 <= row && row < HEIGHT && 0 <= column && column < WIDTH;
                    patch[i] = inside ? plane[(size_t)row * WIDTH + column] : real(0);
                }
            }
            const real* own = weights + (size_t)((group * ALL_CHUNKS + chunk) * CHANNELS + channel) * TAPS * KERNELS;
            for (int i = thread; i < tap_rows * KERNEL_WIDTH * KERNELS; i += THREADS)
                taps[i] = own[first_tap_row * KERNEL_WIDTH * KERNELS + i];
            __syncthreads();

            for (int a = 0; a < tap_rows; ++a) {
                real window[RUNS][4 * WINDOW_VECTORS];
#pragma unroll
                for (int run = 0; run < RUNS; ++run) {
                    const int row = lane_y * STRIDE_Y + (first_tap_row + a) * DILATION_Y;
                    const int start = row * PITCH + (run * LANES_X + lane_x) * RUN * STRIDE_X;
#pragma unroll
                    for (int i = 0; i < WINDOW_VECTORS; ++i) {
                        const Four four = patch_memory[start / 4 + i];
#pragma unroll
                        for (int j = 0; j < 4; ++j) window[run][4 * i + j] = four.v[j];
                    }
                }
#pragma unroll
                for (int b = 0; b < KERNEL_WIDTH; ++b) {
#pragma unroll
                    for (int k = 0; k < KERNELS; ++k) {
                        const real weight = taps[(a * KERNEL_WIDTH + b) * KERNELS + k];
#pragma unroll
                        for (int run = 0; run < RUNS; ++run)
#pragma unroll
                            for (int j = 0; j < RUN; ++j)
                                sums[k][run][j] += weight * window[run][j * STRIDE_X + b * DILATION_X];
                    }
                }
            }
        }

        const int warp = thread / WARP, lane = thread % WARP;
        real* const shared_run = exchange + warp * WARP * RUN * RUNS;
#pragma unroll
        for (int k = 0; k < KERNELS; ++k) {
            const int kernel = chunk * KERNELS + k;
            if (kernel >= GROUP_KERNELS) break;  // the same for every thread
            __syncwarp();
#pragma unroll
            for (int run = 0; run < RUNS; ++run) {
                Four four;
#pragma unroll
                for (int j = 0; j < RUN; ++j) four.v[j] = sums[k][run][j];
                const int place = lane / LANES_X * COLUMNS + (run * LANES_X + lane % LANES_X) * RUN;
                exchange_memory[(warp * WARP * RUN * RUNS + place) / 4] = four;
            }
            __syncwarp();
            real* plane = out + (size_t)((image * GROUPS + group) * GROUP_KERNELS + kernel) * OUTPUT_HEIGHT * OUTPUT_WIDTH;
#pragma unroll
            for (int i = 0; i < RUN * RUNS; ++i) {
                const int place = lane + i * WARP;
                const int row = first_row + warp * (WARP / LANES_X) + place / COLUMNS, column = first_column + place % COLUMNS;
                if (row < OUTPUT_HEIGHT && column < OUTPUT_WIDTH) plane[(size_t)row * OUTPUT_WIDTH + column] = shared_run[place];
            }
        }
    }
}
