// Unrolled convolution as an implicit matrix product by the tensor cores of compute capability 9.0, which read both factors from
// shared memory: see product_wgmma.cuh. It follows unrolled.cuh.
//
// A thread gathers the taps of one pixel, so that a warp reads neighbouring pixels and writes chunks of neighbouring rows. Where
// the channels are a multiple of DEPTH, a step has DEPTH channels of one place of the filters: the same places of all threads,
// inputs at constant distances, and places that follow one another read about the same inputs, which the first-level cache
// holds. Otherwise it has the next DEPTH taps, channel by channel.
//
// Weights are packed as they lie in shared memory, rounded, and are copied in the background; inputs pass through registers.
// While a step is multiplied, the inputs of the next one go from registers to shared memory, and those of the step after it are
// on their way to registers. Shared memory holds three steps, and at last the sums, so that whole rows of pixels are stored.

constexpr bool BY_PLACE = CHANNELS % DEPTH == 0;
constexpr int SHARES = THREADS / COLUMNS;        // threads of a pixel
constexpr int THREAD_CHUNKS = CHUNKS / SHARES;   // of each, SHARES apart
constexpr int WEIGHT_CHUNKS = FILTERS * CHUNKS, INPUT_CHUNKS = COLUMNS * CHUNKS;  // of a step
constexpr int STEP_CHUNKS = WEIGHT_CHUNKS + INPUT_CHUNKS;
constexpr int STAGES = 3;               // steps in shared memory
constexpr int SUM_PITCH = COLUMNS + 8;  // from a filter's sums to the next one's: four rows lie in different banks

static_assert(SHARES * COLUMNS == THREADS && THREAD_CHUNKS * SHARES == CHUNKS, "every thread has as much to gather");

// Where the weights of a step lie, counted from a thread block's first step; its inputs follow them.
static __device__ __forceinline__ Vector* stage(Vector* memory, int step) { return memory + step % STAGES * STEP_CHUNKS; }

struct Inputs {
    Vector at[THREAD_CHUNKS];
};

static __device__ __forceinline__ void load(Inputs& inputs, const Pixel& pixel, const real* x, int step, int thread)
{
    const int first = thread / COLUMNS;
    const real* own = x + pixel.offset;
    if (BY_PLACE) {
        const int tap = step % TAPS_OF_A_CHANNEL, channel = step / TAPS_OF_A_CHANNEL * DEPTH;
        const bool inside = has(pixel, tap);
        own += offset_of(channel + first * VECTOR, tap);
#pragma unroll
        for (int i = 0; i < THREAD_CHUNKS; ++i)
#pragma unroll
            for (int e = 0; e < VECTOR; ++e)
                inputs.at[i].v[e] = inside ? own[(i * SHARES * VECTOR + e) * (HEIGHT * WIDTH)] : real(0);
        return;
    }
#pragma unroll
    for (int i = 0; i < THREAD_CHUNKS; ++i)
#pragma unroll
        for (int e = 0; e < VECTOR; ++e) {
            const int tap = step * DEPTH + (first + i * SHARES) * VECTOR + e, inner = tap % TAPS_OF_A_CHANNEL;
            const bool inside = (TAPS % DEPTH == 0 || tap < TAPS) && has(pixel, inner);
            inputs.at[i].v[e] = inside ? own[offset_of(tap / TAPS_OF_A_CHANNEL, inner)] : real(0);
        }
}

static __device__ __forceinline__ void store(const Inputs& inputs, Vector* rows, int thread)
{
#pragma unroll
    for (int i = 0; i < THREAD_CHUNKS; ++i) {
        Vector vector;
#pragma unroll
        for (int e = 0; e < VECTOR; ++e) vector.v[e] = rounded_to_tf32(inputs.at[i].v[e]);
        rows[place_of_chunk(thread % COLUMNS, thread / COLUMNS + i * SHARES)] = vector;
    }
}

static __device__ __forceinline__ void copy_weights(Vector* rows, const Vector* from, int thread)
{
#pragma unroll
    for (int i = 0; i < WEIGHT_CHUNKS / THREADS; ++i) copy(rows + thread + i * THREADS, from + thread + i * THREADS);
}

// Finishes the sums and stores them, or stores them as a part: by way of shared memory, four neighbouring pixels a thread.
static __device__ __forceinline__ void write_rows(
    const Sums& sums, const Place& place, int thread, const real* weights, real* target, real* rows)
{
#pragma unroll
    for (int i = 0; i < ROWS; ++i) {
        const int row = first_row(thread) + row_offset(i), filter = place.filter_block * FILTERS + row;
        const real bias =
            SPLITS > 1 ? real(0) : bias_of(weights, place.group * GROUP_FILTERS + filter, filter < GROUP_FILTERS);
#pragma unroll
        for (int j = 0; j < RUNS; ++j) {
            Run run;
#pragma unroll
            for (int e = 0; e < RUN; ++e) run.v[e] = SPLITS > 1 ? sums.at[i][j][e] : finished(sums.at[i][j][e], bias);
            *(Run*)(rows + row * SUM_PITCH + first_column(thread) + column_offset(j)) = run;
        }
    }
    __syncthreads();
    const int column = thread % (COLUMNS / VECTOR) * VECTOR, first_pixel = place.first_pixel + column;
    size_t offsets[VECTOR];  // of the pixels that this thread stores, in the output of the group's first filter
#pragma unroll
    for (int e = 0; e < VECTOR; ++e) {
        const int pixel = first_pixel + e, image = pixel / IMAGE_PIXELS;
        offsets[e] = (size_t)(image * GROUPS + place.group) * GROUP_FILTERS * IMAGE_PIXELS + pixel % IMAGE_PIXELS;
    }
#pragma unroll 4
    for (int row = thread / (COLUMNS / VECTOR); row < FILTERS; row += THREADS / (COLUMNS / VECTOR)) {
        const int filter = place.filter_block * FILTERS + row;
        if (filter >= GROUP_FILTERS) break;
        const Vector four = *(const Vector*)(rows + row * SUM_PITCH + column);
        real* const plane = target + (size_t)filter * IMAGE_PIXELS;
        if (IMAGE_PIXELS % VECTOR == 0) {
            if (first_pixel < PIXELS) *(Vector*)(plane + offsets[0]) = four;
            continue;
        }
#pragma unroll
        for (int e = 0; e < VECTOR; ++e)
            if (first_pixel + e < PIXELS) plane[offsets[e]] = four.v[e];
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_PER_MULTIPROCESSOR) unrolled(
    const real* __restrict__ x,        // (BATCH, GROUPS * CHANNELS, HEIGHT, WIDTH)
    const real* __restrict__ weights,  // (GROUPS, FILTER_BLOCKS, STEPS, FILTERS, DEPTH), swizzled, zeros as padding; then bias
    real* __restrict__ out,            // (BATCH, GROUPS * GROUP_FILTERS, OUTPUT_HEIGHT, OUTPUT_WIDTH)
    real* __restrict__ scratch)        // (SPLITS, as out), where SPLITS > 1
{
#ifdef __CUDACC__
    extern __shared__ Vector memory[];  // begins at a multiple of 1024 bytes, since there is no other
#else
    static Vector memory[STAGES * STEP_CHUNKS];
#endif
    const int thread = threadIdx.x;
    const Place place = place_of(blockIdx.x);
    const Vector* own = (const Vector*)weights + (size_t)(place.group * FILTER_BLOCKS + place.filter_block) * STEPS * WEIGHT_CHUNKS;
    const Pixel pixel = pixel_of(place.first_pixel + thread % COLUMNS, place.group);

    Sums sums;
    Inputs next;
    copy_weights(stage(memory, 0), own + place.begin * WEIGHT_CHUNKS, thread);
    begun();
    if (place.begin + 1 < place.end) copy_weights(stage(memory, 1), own + (place.begin + 1) * WEIGHT_CHUNKS, thread);
    begun();
    load(next, pixel, x, place.begin, thread);
    store(next, stage(memory, 0) + WEIGHT_CHUNKS, thread);
    if (place.begin + 1 < place.end) load(next, pixel, x, place.begin + 1, thread);
    arrived();
    show();
    __syncthreads();
    for (int step = place.begin; step < place.end; ++step) {
        begin_to_multiply(sums, stage(memory, step - place.begin), stage(memory, step - place.begin) + WEIGHT_CHUNKS, thread);
        if (step + 1 < place.end) store(next, stage(memory, step + 1 - place.begin) + WEIGHT_CHUNKS, thread);
        const bool more = step + 2 < place.end;
        if (more) copy_weights(stage(memory, step + 2 - place.begin), own + (step + 2) * WEIGHT_CHUNKS, thread);
        begun();
        if (more) load(next, pixel, x, step + 2, thread);
        finish(sums);
        arrived();
        show();
        __syncthreads();
    }
    write_rows(sums, place, thread, weights, SPLITS > 1 ? scratch + place.split * OUTPUTS : out, memory->v);
}
