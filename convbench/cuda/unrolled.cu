// Unrolled convolution as an implicit matrix product, compiled for one problem: every size is a macro (see
// convbench/algorithms/unrolled/gpu.py). It follows epilogue.cuh, product.cuh or product_tf32.cuh, and weights.cuh.
//
// out (filters x pixels) = weights (filters x taps) * unrolled (taps x pixels). The unrolled matrix has one column for each
// pixel, with the inputs that the pixel needs; it is never in memory as a whole. In each step a thread block gathers the next
// DEPTH rows of its COLUMNS columns in shared memory, beside as many rows of weights, and multiplies. The elements of the next
// step are prefetched into registers during the multiplication. Shared memory holds two steps, so that one barrier a step is
// enough.
//
// Pixels are counted through all images, so that no thread idles at the end of a row or of an image. Where there are few pixels
// and many taps, SPLITS thread blocks sum a part of the taps each, and add_parts adds the parts.

constexpr int TAPS_OF_A_CHANNEL = KERNEL_HEIGHT * KERNEL_WIDTH;
constexpr int TAPS = CHANNELS * TAPS_OF_A_CHANNEL;
constexpr int STEPS = (TAPS + DEPTH - 1) / DEPTH;
constexpr int STEPS_OF_A_SPLIT = (STEPS + SPLITS - 1) / SPLITS;
constexpr int IMAGE_PIXELS = OUTPUT_HEIGHT * OUTPUT_WIDTH;
constexpr int PIXELS = BATCH * IMAGE_PIXELS;
constexpr int PIXEL_BLOCKS = (PIXELS + COLUMNS - 1) / COLUMNS;
constexpr int FILTER_BLOCKS = (GROUP_FILTERS + FILTERS - 1) / FILTERS;
constexpr size_t OUTPUTS = (size_t)PIXELS * GROUPS * GROUP_FILTERS;
constexpr bool WHOLE_RUNS = IMAGE_PIXELS % RUN == 0;  // every run of pixels lies in one image

constexpr int INPUT_LOADS = DEPTH * COLUMNS / THREADS;
constexpr int LEAST_PIXELS = (COLUMNS + THREADS - 1) / THREADS;  // at most one warp reads a part of a tap's columns
constexpr int MOST_PIXELS = LEAST_PIXELS > 4 ? LEAST_PIXELS : 4;  // each pixel of a thread takes registers
constexpr int ALL_PIXELS = COLUMNS / WARP < INPUT_LOADS ? COLUMNS / WARP : INPUT_LOADS;
constexpr int LANE_PIXELS = ALL_PIXELS < MOST_PIXELS ? ALL_PIXELS : MOST_PIXELS;  // pixels of one tap, WARP apart
constexpr int LANE_TAPS = INPUT_LOADS / LANE_PIXELS;
constexpr int SPANS = COLUMNS / (WARP * LANE_PIXELS);  // warps that share a tap

// The inputs of a thread's pixels: their offsets, and which of them lie in the image. The latter is a bit for each tap of a
// channel, or, with more taps than a word has bits, the position to compare with the image's bounds.
constexpr bool MASKED = PADDED && TAPS_OF_A_CHANNEL <= 32;

struct Pixels {
    int offset[LANE_PIXELS];
    unsigned mask[LANE_PIXELS];
    int row[LANE_PIXELS], column[LANE_PIXELS];
};

static __device__ __forceinline__ bool in_image(int row, int column)
{
    return (unsigned)row < HEIGHT && (unsigned)column < WIDTH;
}

// The inputs of the next step, prefetched into registers.
struct Inputs {
    real at[LANE_TAPS][LANE_PIXELS];
};

static __device__ __forceinline__ Pixels pixels_of(int first_pixel, int group, int thread)
{
    Pixels pixels;
#pragma unroll
    for (int j = 0; j < LANE_PIXELS; ++j) {
        const int wanted = first_pixel + (thread / WARP % SPANS * LANE_PIXELS + j) * WARP + thread % WARP;
        const int pixel = wanted < PIXELS ? wanted : PIXELS - 1;  // read, never stored
        const int image = pixel / IMAGE_PIXELS, inner = pixel % IMAGE_PIXELS;
        const int row = inner / OUTPUT_WIDTH * STRIDE_Y - TOP, column = inner % OUTPUT_WIDTH * STRIDE_X - LEFT;
        pixels.offset[j] = (image * GROUPS + group) * CHANNELS * HEIGHT * WIDTH + row * WIDTH + column;
        pixels.row[j] = row;
        pixels.column[j] = column;
        pixels.mask[j] = 0;
        if (MASKED)
#pragma unroll
            for (int tap = 0; tap < TAPS_OF_A_CHANNEL; ++tap)
                if (in_image(row + tap / KERNEL_WIDTH * DILATION_Y, column + tap % KERNEL_WIDTH * DILATION_X))
                    pixels.mask[j] |= 1u << tap % 32;
    }
    return pixels;
}

static __device__ __forceinline__ void load(Inputs& inputs, const Pixels& pixels, const real* x, int step, int thread)
{
#pragma unroll
    for (int i = 0; i < LANE_TAPS; ++i) {
        const int tap = step * DEPTH + thread / WARP / SPANS + i * (WARPS / SPANS);
        const int channel = tap / TAPS_OF_A_CHANNEL, inner = tap % TAPS_OF_A_CHANNEL;
        const int row = inner / KERNEL_WIDTH * DILATION_Y, column = inner % KERNEL_WIDTH * DILATION_X;
        const int offset = (channel * HEIGHT + row) * WIDTH + column;
#pragma unroll
        for (int j = 0; j < LANE_PIXELS; ++j) {
            bool inside = TAPS % DEPTH == 0 || tap < TAPS;
            if (MASKED)
                inside = inside && (pixels.mask[j] & 1u << inner % 32);
            else if (PADDED)
                inside = inside && in_image(pixels.row[j] + row, pixels.column[j] + column);
            inputs.at[i][j] = inside ? x[pixels.offset[j] + offset] : real(0);
        }
    }
}

static __device__ __forceinline__ void store(const Inputs& inputs, Vector* rows, int thread)
{
    real* const numbers = rows->v;
#pragma unroll
    for (int i = 0; i < LANE_TAPS; ++i) {
        const int term = thread / WARP / SPANS + i * (WARPS / SPANS);
        const int first = thread / WARP % SPANS * LANE_PIXELS * WARP + thread % WARP;
#pragma unroll
        for (int j = 0; j < LANE_PIXELS; ++j) numbers[term * INPUT_PITCH + first + j * WARP] = as_factor(inputs.at[i][j]);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_PER_MULTIPROCESSOR) unrolled(
    const real* __restrict__ x,        // (BATCH, GROUPS * CHANNELS, HEIGHT, WIDTH)
    const real* __restrict__ weights,  // (GROUPS, FILTER_BLOCKS, STEPS * DEPTH, FILTERS), zeros as padding; then bias
    real* __restrict__ out,            // (BATCH, GROUPS * GROUP_FILTERS, OUTPUT_HEIGHT, OUTPUT_WIDTH)
    real* __restrict__ scratch)        // (SPLITS, as out), where SPLITS > 1
{
    __shared__ Vector weight_rows[2][DEPTH * WEIGHT_PITCH / VECTOR];
    __shared__ Vector input_rows[2][DEPTH * INPUT_PITCH / VECTOR];

    const int thread = threadIdx.x;
    const int filter_block = blockIdx.x % FILTER_BLOCKS, rest = blockIdx.x / FILTER_BLOCKS;
    const int first_pixel = rest % PIXEL_BLOCKS * COLUMNS;
    const int group = rest / PIXEL_BLOCKS % GROUPS, split = rest / PIXEL_BLOCKS / GROUPS;
    const int begin = split * STEPS_OF_A_SPLIT;
    const int end = begin + STEPS_OF_A_SPLIT < STEPS ? begin + STEPS_OF_A_SPLIT : STEPS;
    const Vector* own = (const Vector*)weights + (size_t)(group * FILTER_BLOCKS + filter_block) * STEPS * WEIGHT_VECTORS;

    const Pixels pixels = pixels_of(first_pixel, group, thread);
    Sums sums;
    Weights next_weights;
    Inputs next_inputs;
    load(next_weights, own + begin * WEIGHT_VECTORS, thread);
    load(next_inputs, pixels, x, begin, thread);
    store(next_weights, weight_rows[0], thread);
    store(next_inputs, input_rows[0], thread);
    __syncthreads();
    for (int step = begin; step < end; ++step) {
        const int now = (step - begin) % 2;
        if (step + 1 < end) {
            load(next_weights, own + (step + 1) * WEIGHT_VECTORS, thread);
            load(next_inputs, pixels, x, step + 1, thread);
        }
        multiply(sums, weight_rows[now], input_rows[now], thread);
        if (step + 1 < end) {
            store(next_weights, weight_rows[1 - now], thread);
            store(next_inputs, input_rows[1 - now], thread);
        }
        __syncthreads();
    }

    real* const target = SPLITS > 1 ? scratch + split * OUTPUTS : out;
    real bias[ROWS];
#pragma unroll
    for (int i = 0; i < ROWS; ++i) {
        const int filter = filter_block * FILTERS + first_row(thread) + row_offset(i);
        bias[i] = SPLITS > 1 ? real(0) : bias_of(weights, group * GROUP_FILTERS + filter, filter < GROUP_FILTERS);
    }
#pragma unroll
    for (int j = 0; j < RUNS; ++j) {
        const int pixel = first_pixel + first_column(thread) + column_offset(j);
#pragma unroll
        for (int i = 0; i < ROWS; ++i) {
            const int filter = filter_block * FILTERS + first_row(thread) + row_offset(i);
            if (filter >= GROUP_FILTERS) continue;
            Run run;
#pragma unroll
            for (int e = 0; e < RUN; ++e) run.v[e] = SPLITS > 1 ? sums.at[i][j][e] : finished(sums.at[i][j][e], bias[i]);
            const size_t plane = ((size_t)(pixel / IMAGE_PIXELS * GROUPS + group) * GROUP_FILTERS + filter) * IMAGE_PIXELS;
            if (WHOLE_RUNS) {
                if (pixel < PIXELS) *(Run*)(target + plane + pixel % IMAGE_PIXELS) = run;
                continue;
            }
#pragma unroll
            for (int e = 0; e < RUN; ++e) {
                const int one = pixel + e, image = one / IMAGE_PIXELS;
                const size_t own_plane = ((size_t)(image * GROUPS + group) * GROUP_FILTERS + filter) * IMAGE_PIXELS;
                if (one < PIXELS) target[own_plane + one % IMAGE_PIXELS] = run.v[e];
            }
        }
    }
}

constexpr int ADDING_THREADS = 256;

extern "C" __global__ void __launch_bounds__(ADDING_THREADS) add_parts(
    const real* __restrict__ x,        // not used
    const real* __restrict__ weights,  // for the bias alone
    real* __restrict__ out, real* __restrict__ scratch)  // as above
{
    const size_t place = (size_t)blockIdx.x * ADDING_THREADS + threadIdx.x;
    if (place >= OUTPUTS) return;
    real sum = 0;
#pragma unroll
    for (int split = 0; split < SPLITS; ++split) sum += scratch[split * OUTPUTS + place];
    const int channel = place / IMAGE_PIXELS % (GROUPS * GROUP_FILTERS);
    out[place] = finished(sum, bias_of(weights, channel, true));
}
