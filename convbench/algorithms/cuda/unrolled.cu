// Unrolled convolution as an implicit matrix product, compiled for one problem: every size is a macro (see unrolled_cuda.py).
//
// out (kernels x pixels) = weights (kernels x taps) * unrolled (taps x pixels). The unrolled matrix, one column for each
// pixel with the inputs that it needs, is never in memory as a whole: a block makes the DEPTH rows of its PIXELS columns that
// come next in shared memory, beside as many columns of KERNELS rows of weights, multiplies, and goes on. What it needs for
// the next step is on its way from memory to registers meanwhile.
//
// A thread sums 8 kernels times PIXELS / LANES_X pixels, which lie LANES_X apart: neighbours in a warp read neighbours from
// shared memory and write neighbours to the output. Pixels are counted through, so no width of an image wastes anything.

constexpr int LANES_X = 16;
constexpr int OWN_KERNELS = 8, OWN_PIXELS = PIXELS / LANES_X;
constexpr int LANES_Y = KERNELS / OWN_KERNELS;
constexpr int THREADS = LANES_X * LANES_Y;
constexpr int TAPS = CHANNELS * KERNEL_HEIGHT * KERNEL_WIDTH;
constexpr int BLOCKS_ON_A_PROCESSOR = sizeof(real) == 4 ? 2 : 1;  // with the registers that sums take
constexpr int STEPS = (TAPS + DEPTH - 1) / DEPTH;
constexpr int ALL_PIXELS = OUTPUT_HEIGHT * OUTPUT_WIDTH;
constexpr int PIXEL_BLOCKS = (ALL_PIXELS + PIXELS - 1) / PIXELS;
constexpr int KERNEL_BLOCKS = (GROUP_KERNELS + KERNELS - 1) / KERNELS;
constexpr int WEIGHT_LOADS = (DEPTH * KERNELS + THREADS - 1) / THREADS;
constexpr int INPUT_LOADS = (DEPTH * PIXELS + THREADS - 1) / THREADS;

struct Loads {
    real weights[WEIGHT_LOADS];
    real inputs[INPUT_LOADS];
};

// Read a step's weights and inputs into registers.
static __device__ __forceinline__ void load(
    Loads& loads, const real* plane, const real* weights, int step, int first_pixel, int thread)
{
#pragma unroll
    for (int i = 0; i < WEIGHT_LOADS; ++i) {
        const int place = thread + i * THREADS;
        loads.weights[i] = place < DEPTH * KERNELS ? weights[step * DEPTH * KERNELS + place] : real(0);
    }
#pragma unroll
    for (int i = 0; i < INPUT_LOADS; ++i) {
        const int place = thread + i * THREADS, tap = step * DEPTH + place / PIXELS, pixel = first_pixel + place % PIXELS;
        const int channel = tap / (KERNEL_HEIGHT * KERNEL_WIDTH), inner = tap % (KERNEL_HEIGHT * KERNEL_WIDTH);
        const int row = pixel / OUTPUT_WIDTH * STRIDE_Y - TOP + inner / KERNEL_WIDTH * DILATION_Y;
        const int column = pixel % OUTPUT_WIDTH * STRIDE_X - LEFT + inner % KERNEL_WIDTH * DILATION_X;
        const bool inside = place < DEPTH * PIXELS && tap < TAPS && pixel < ALL_PIXELS && 0 <= row && row < HEIGHT &&
                            0 <= column && column < WIDTH;
        loads.inputs[i] = inside ? plane[((size_t)channel * HEIGHT + row) * WIDTH + column] : real(0);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_ON_A_PROCESSOR) unrolled(
    const real* __restrict__ x,        // (BATCH, GROUPS * CHANNELS, HEIGHT, WIDTH)
    const real* __restrict__ weights,  // (GROUPS, KERNEL_BLOCKS, STEPS * DEPTH, KERNELS), zeros for what is not there
    real* __restrict__ out,            // (BATCH, GROUPS * GROUP_KERNELS, OUTPUT_HEIGHT, OUTPUT_WIDTH)
    real* __restrict__ scratch)        // not used
{
    __shared__ real weight_rows[DEPTH * KERNELS];
    __shared__ real input_rows[DEPTH * PIXELS];

    const int thread = threadIdx.x;
    const int lane_x = thread % LANES_X, first_kernel = thread / LANES_X * OWN_KERNELS;
    const int kernel_block = blockIdx.x % KERNEL_BLOCKS, rest = blockIdx.x / KERNEL_BLOCKS;
    const int first_pixel = rest % PIXEL_BLOCKS * PIXELS;
    const int group = rest / PIXEL_BLOCKS % GROUPS, image = rest / PIXEL_BLOCKS / GROUPS;
    const real* plane = x + (size_t)(image * GROUPS + group) * CHANNELS * HEIGHT * WIDTH;
    const real* own = weights + (size_t)(group * KERNEL_BLOCKS + kernel_block) * STEPS * DEPTH * KERNELS;

    real sums[OWN_KERNELS][OWN_PIXELS] = {};
    Loads loads;
    load(loads, plane, own, 0, first_pixel, thread);
    for (int step = 0; step < STEPS; ++step) {
        __syncthreads();  // everybody is done with the step before
#pragma unroll
        for (int i = 0; i < WEIGHT_LOADS; ++i)
            if (thread + i * THREADS < DEPTH * KERNELS) weight_rows[thread + i * THREADS] = loads.weights[i];
#pragma unroll
        for (int i = 0; i < INPUT_LOADS; ++i)
            if (thread + i * THREADS < DEPTH * PIXELS) input_rows[thread + i * THREADS] = loads.inputs[i];
        __syncthreads();
        if (step + 1 < STEPS) load(loads, plane, own, step + 1, first_pixel, thread);
#pragma unroll
        for (int tap = 0; tap < DEPTH; ++tap) {
            real inputs[OWN_PIXELS];
#pragma unroll
            for (int j = 0; j < OWN_PIXELS; ++j) inputs[j] = input_rows[tap * PIXELS + lane_x + j * LANES_X];
#pragma unroll
            for (int k = 0; k < OWN_KERNELS; ++k) {
                const real weight = weight_rows[tap * KERNELS + first_kernel + k];
#pragma unroll
                for (int j = 0; j < OWN_PIXELS; ++j) sums[k][j] += weight * inputs[j];
            }
        }
    }

#pragma unroll
    for (int k = 0; k < OWN_KERNELS; ++k) {
        const int kernel = kernel_block * KERNELS + first_kernel + k;
        if (kernel >= GROUP_KERNELS) break;
        real* target = out + (size_t)((image * GROUPS + group) * GROUP_KERNELS + kernel) * ALL_PIXELS;
#pragma unroll
        for (int j = 0; j < OWN_PIXELS; ++j) {
            const int pixel = first_pixel + lane_x + j * LANES_X;
            if (pixel < ALL_PIXELS) target[pixel] = sums[k][j];
        }
    }
}
