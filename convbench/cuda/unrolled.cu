// Unrolled convolution as an implicit matrix product by the tile of a thread block in which warps read both factors from shared
// memory. It follows unrolled.cuh and weights.cuh.
//
// The elements of the next step are prefetched into registers during the multiplication. Shared memory holds two steps, so that
// one barrier a step is enough.

constexpr int INPUT_LOADS = DEPTH * COLUMNS / THREADS;
constexpr int LEAST_PIXELS = (COLUMNS + THREADS - 1) / THREADS;  // at most one warp reads a part of a tap's columns
constexpr int MOST_PIXELS = LEAST_PIXELS > 4 ? LEAST_PIXELS : 4;  // each pixel of a thread takes registers
constexpr int ALL_PIXELS = COLUMNS / WARP < INPUT_LOADS ? COLUMNS / WARP : INPUT_LOADS;
constexpr int LANE_PIXELS = ALL_PIXELS < MOST_PIXELS ? ALL_PIXELS : MOST_PIXELS;  // pixels of one tap, WARP apart
constexpr int LANE_TAPS = INPUT_LOADS / LANE_PIXELS;
constexpr int SPANS = COLUMNS / (WARP * LANE_PIXELS);  // warps that share a tap

struct Pixels {
    Pixel at[LANE_PIXELS];
};

// The inputs of the next step, prefetched into registers.
struct Inputs {
    real at[LANE_TAPS][LANE_PIXELS];
};

static __device__ __forceinline__ Pixels pixels_of(int first_pixel, int group, int thread)
{
    Pixels pixels;
#pragma unroll
    for (int j = 0; j < LANE_PIXELS; ++j)
        pixels.at[j] = pixel_of(first_pixel + (thread / WARP % SPANS * LANE_PIXELS + j) * WARP + thread % WARP, group);
    return pixels;
}

static __device__ __forceinline__ void load(Inputs& inputs, const Pixels& pixels, const real* x, int step, int thread)
{
#pragma unroll
    for (int i = 0; i < LANE_TAPS; ++i) {
        const int tap = step * DEPTH + thread / WARP / SPANS + i * (WARPS / SPANS), inner = tap % TAPS_OF_A_CHANNEL;
        const int offset = offset_of(tap / TAPS_OF_A_CHANNEL, inner);
#pragma unroll
        for (int j = 0; j < LANE_PIXELS; ++j) {
            const bool inside = (TAPS % DEPTH == 0 || tap < TAPS) && has(pixels.at[j], inner);
            inputs.at[i][j] = inside ? x[pixels.at[j].offset + offset] : real(0);
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
    const Place place = place_of(blockIdx.x);
    const Vector* own = (const Vector*)weights + (size_t)(place.group * FILTER_BLOCKS + place.filter_block) * STEPS * WEIGHT_VECTORS;

    const Pixels pixels = pixels_of(place.first_pixel, place.group, thread);
    Sums sums;
    Weights next_weights;
    Inputs next_inputs;
    load(next_weights, own + place.begin * WEIGHT_VECTORS, thread);
    load(next_inputs, pixels, x, place.begin, thread);
    store(next_weights, weight_rows[0], thread);
    store(next_inputs, input_rows[0], thread);
    __syncthreads();
    for (int step = place.begin; step < place.end; ++step) {
        const int now = (step - place.begin) % 2;
        if (step + 1 < place.end) {
            load(next_weights, own + (step + 1) * WEIGHT_VECTORS, thread);
            load(next_inputs, pixels, x, step + 1, thread);
        }
        multiply(sums, weight_rows[now], input_rows[now], thread);
        if (step + 1 < place.end) {
            store(next_weights, weight_rows[1 - now], thread);
            store(next_inputs, input_rows[1 - now], thread);
        }
        __syncthreads();
    }
    write(sums, place, thread, weights, out, scratch);
}
