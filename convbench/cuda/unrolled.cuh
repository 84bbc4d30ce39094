// What the kernels of unrolled convolution share, compiled for one problem: every size is a macro (see
// convbench/algorithms/unrolled). It follows epilogue.cuh and the source of a product's tile.
//
// out (filters x pixels) = weights (filters x taps) * unrolled (taps x pixels). The unrolled matrix has one column for each
// pixel, with the inputs that the pixel needs; it is never in memory as a whole: in each step a thread block gathers the next
// DEPTH taps of its COLUMNS pixels in shared memory, beside as many taps of its FILTERS filters, and multiplies.
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

// Which taps of a pixel lie in the image is a bit for each tap of a channel, or, with more taps than a word has bits, the
// position to compare with the image's bounds.
constexpr bool MASKED = PADDED && TAPS_OF_A_CHANNEL <= 32;

static __device__ __forceinline__ bool in_image(int row, int column)
{
    return (unsigned)row < HEIGHT && (unsigned)column < WIDTH;
}

// The first input of a pixel, and which of its taps lie in the image.
struct Pixel {
    int offset, row, column;
    unsigned mask;
};

static __device__ __forceinline__ Pixel pixel_of(int wanted, int group)
{
    const int number = wanted < PIXELS ? wanted : PIXELS - 1;  // read, never stored
    const int image = number / IMAGE_PIXELS, inner = number % IMAGE_PIXELS;
    Pixel pixel;
    pixel.row = inner / OUTPUT_WIDTH * STRIDE_Y - TOP;
    pixel.column = inner % OUTPUT_WIDTH * STRIDE_X - LEFT;
    pixel.offset = (image * GROUPS + group) * CHANNELS * HEIGHT * WIDTH + pixel.row * WIDTH + pixel.column;
    pixel.mask = 0;
    if (MASKED)
#pragma unroll
        for (int tap = 0; tap < TAPS_OF_A_CHANNEL; ++tap)
            if (in_image(pixel.row + tap / KERNEL_WIDTH * DILATION_Y, pixel.column + tap % KERNEL_WIDTH * DILATION_X))
                pixel.mask |= 1u << tap % 32;
    return pixel;
}

// Whether a tap of a channel lies in the image.
static __device__ __forceinline__ bool has(const Pixel& pixel, int tap)
{
    if (MASKED) return pixel.mask & 1u << tap % 32;
    return !PADDED || in_image(pixel.row + tap / KERNEL_WIDTH * DILATION_Y, pixel.column + tap % KERNEL_WIDTH * DILATION_X);
}

// The offset of a tap of a channel from a pixel's first input.
static __device__ __forceinline__ int offset_of(int channel, int tap)
{
    return (channel * HEIGHT + tap / KERNEL_WIDTH * DILATION_Y) * WIDTH + tap % KERNEL_WIDTH * DILATION_X;
}

// What a thread block computes: filters, pixels, and steps of its part of the taps.
struct Place {
    int filter_block, first_pixel, group, split, begin, end;
};

static __device__ __forceinline__ Place place_of(int block)
{
    const int rest = block / FILTER_BLOCKS, split = rest / PIXEL_BLOCKS / GROUPS, begin = split * STEPS_OF_A_SPLIT;
    return {block % FILTER_BLOCKS, rest % PIXEL_BLOCKS * COLUMNS, rest / PIXEL_BLOCKS % GROUPS, split, begin,
            begin + STEPS_OF_A_SPLIT < STEPS ? begin + STEPS_OF_A_SPLIT : STEPS};
}

// Finishes the sums of a thread and stores them, or stores them as a part.
static __device__ __forceinline__ void write(
    const Sums& sums, const Place& place, int thread, const real* weights, real* out, real* scratch)
{
    real* const target = SPLITS > 1 ? scratch + place.split * OUTPUTS : out;
    real bias[ROWS];
#pragma unroll
    for (int i = 0; i < ROWS; ++i) {
        const int filter = place.filter_block * FILTERS + first_row(thread) + row_offset(i);
        bias[i] = SPLITS > 1 ? real(0) : bias_of(weights, place.group * GROUP_FILTERS + filter, filter < GROUP_FILTERS);
    }
#pragma unroll
    for (int j = 0; j < RUNS; ++j) {
        const int pixel = place.first_pixel + first_column(thread) + column_offset(j);
#pragma unroll
        for (int i = 0; i < ROWS; ++i) {
            const int filter = place.filter_block * FILTERS + first_row(thread) + row_offset(i);
            if (filter >= GROUP_FILTERS) continue;
            Run run;
#pragma unroll
            for (int e = 0; e < RUN; ++e) run.v[e] = SPLITS > 1 ? sums.at[i][j][e] : finished(sums.at[i][j][e], bias[i]);
            const size_t plane = ((size_t)(pixel / IMAGE_PIXELS * GROUPS + place.group) * GROUP_FILTERS + filter) * IMAGE_PIXELS;
            if (WHOLE_RUNS) {
                if (pixel < PIXELS) *(Run*)(target + plane + pixel % IMAGE_PIXELS) = run;
                continue;
            }
#pragma unroll
            for (int e = 0; e < RUN; ++e) {
                const int one = pixel + e, image = one / IMAGE_PIXELS;
                const size_t own_plane = ((size_t)(image * GROUPS + place.group) * GROUP_FILTERS + filter) * IMAGE_PIXELS;
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
