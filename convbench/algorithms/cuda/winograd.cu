// Nested minimal filtering, compiled for one problem: every size is a macro (see winograd_cuda.py), and INPUT, (points x
// points), and OUTPUT, (outputs x points), are the matrices of each direction.
//
// A block computes TILES tiles of a row of tiles, KERNELS kernels at a time. It transforms the input of its tiles once,
// Y_BLOCKS x X_BLOCKS windows for each tile, and keeps the points of all of them in shared memory; then, for chunk after
// chunk of kernels, it fetches their transformed weights, multiplies and sums at each point, transforms the sums back, and
// writes runs of TILES * X_OUTPUTS pixels. With several channels it does so channel by channel, and sums stay in registers.
//
// A thread multiplies at one point, KERNELS weights with TILES inputs, so that it reads KERNELS + TILES numbers for as many
// sums as their product. The points of one number lie side by side, so that a warp's reads hit every bank once; the pitch is
// one more than the points, so that the transforms, which go through the points of a number, do so too.

constexpr int POINTS = Y_POINTS * X_POINTS;
constexpr int PARTS_OF_A_KERNEL = Y_BLOCKS * X_BLOCKS;
constexpr int PITCH = POINTS + 1;
constexpr int THREADS = POINTS;
constexpr int TILE_ROWS = (OUTPUT_HEIGHT + Y_OUTPUTS - 1) / Y_OUTPUTS;
constexpr int TILE_COLUMNS = (OUTPUT_WIDTH + X_OUTPUTS - 1) / X_OUTPUTS;
constexpr int RUNS = (TILE_COLUMNS + TILES - 1) / TILES;    // blocks side by side
constexpr int PARTS = (ALL_CHUNKS + CHUNKS - 1) / CHUNKS;   // of a group's kernels, each a block's
constexpr int WIDE = TILES * X_OUTPUTS;                     // pixels of a row of a block
constexpr int WEIGHTS = PARTS_OF_A_KERNEL * KERNELS * POINTS;
constexpr int SUMS = KERNELS * TILES * PITCH;
constexpr int PIXELS = KERNELS * Y_OUTPUTS * WIDE;
constexpr int LARGER = WEIGHTS > SUMS ? WEIGHTS : SUMS;

// weights and sums are never needed at the same time, nor are sums and pixels once every thread has read its sums
extern "C" __global__ void __launch_bounds__(THREADS) winograd(
    const real* __restrict__ x,        // (BATCH, GROUPS * CHANNELS, HEIGHT, WIDTH)
    const real* __restrict__ weights,  // (GROUPS, ALL_CHUNKS, CHANNELS, PARTS_OF_A_KERNEL, KERNELS, POINTS)
    real* __restrict__ out,            // (BATCH, GROUPS * GROUP_KERNELS, OUTPUT_HEIGHT, OUTPUT_WIDTH)
    real* __restrict__ scratch)        // not used
{
    __shared__ real inputs[PARTS_OF_A_KERNEL * TILES * PITCH];
    __shared__ real shared[LARGER > PIXELS ? LARGER : PIXELS];

    const int thread = threadIdx.x;
    const int run = blockIdx.x % RUNS, tile_row = blockIdx.x / RUNS % TILE_ROWS, rest = blockIdx.x / RUNS / TILE_ROWS;
    const int image = rest / PARTS / GROUPS, group = rest / PARTS % GROUPS;
    const int chunk_begin = rest % PARTS * CHUNKS;
    const int chunk_end = chunk_begin + CHUNKS < ALL_CHUNKS ? chunk_begin + CHUNKS : ALL_CHUNKS;

    for (int chunk = chunk_begin; chunk < chunk_end; ++chunk) {
        real sums[KERNELS][TILES] = {};
        for (int channel = 0; channel < CHANNELS; ++channel) {
            __syncthreads();  // everybody is done with what lies in shared memory
            if (CHANNELS > 1 || chunk == chunk_begin) {
                const real* plane = x + (size_t)(image * GROUPS * CHANNELS + group * CHANNELS + channel) * HEIGHT * WIDTH;
                for (int i = thread; i < PARTS_OF_A_KERNEL * TILES; i += THREADS) {
                    const int tile = i % TILES, block = i / TILES;
                    const int top = tile_row * Y_OUTPUTS + block / X_BLOCKS * Y_TAPS - TOP;
                    const int left = (run * TILES + tile) * X_OUTPUTS + block % X_BLOCKS * X_TAPS - LEFT;
                    real half[Y_POINTS][X_POINTS] = {};  // vertically transformed
#pragma unroll
                    for (int r = 0; r < Y_POINTS; ++r) {
#pragma unroll
                        for (int c = 0; c < X_POINTS; ++c) {
                            const int row = top + r, column = left + c;
                            const bool inside = 0 <= row && row < HEIGHT && 0 <= column && column < WIDTH;
                            const real pixel = inside ? plane[(size_t)row * WIDTH + column] : real(0);
#pragma unroll
                            for (int p = 0; p < Y_POINTS; ++p)
                                if (INPUT_Y[p][r] != 0) half[p][c] += INPUT_Y[p][r] * pixel;
                        }
                    }
#pragma unroll
                    for (int p = 0; p < Y_POINTS; ++p)
#pragma unroll
                        for (int q = 0; q < X_POINTS; ++q) {
                            real sum = 0;
#pragma unroll
                            for (int c = 0; c < X_POINTS; ++c)
                                if (INPUT_X[q][c] != 0) sum += INPUT_X[q][c] * half[p][c];
                            inputs[(block * TILES + tile) * PITCH + p * X_POINTS + q] = sum;
                        }
                }
            }
            const real* own = weights + (size_t)((group * ALL_CHUNKS + chunk) * CHANNELS + channel) * WEIGHTS;
            for (int i = thread; i < WEIGHTS; i += THREADS) shared[i] = own[i];
            __syncthreads();

#pragma unroll
            for (int block = 0; block < PARTS_OF_A_KERNEL; ++block) {
                real input[TILES];
#pragma unroll
                for (int t = 0; t < TILES; ++t) input[t] = inputs[(block * TILES + t) * PITCH + thread];
#pragma unroll
                for (int k = 0; k < KERNELS; ++k) {
                    const real weight = shared[(block * KERNELS + k) * POINTS + thread];
#pragma unroll
                    for (int t = 0; t < TILES; ++t) sums[k][t] += weight * input[t];
                }
            }
        }

        __syncthreads();
#pragma unroll
        for (int k = 0; k < KERNELS; ++k)
#pragma unroll
            for (int t = 0; t < TILES; ++t) shared[(k * TILES + t) * PITCH + thread] = sums[k][t];
        __syncthreads();

        constexpr int ROUNDS = (KERNELS * TILES + THREADS - 1) / THREADS;  // tiles of a kernel for each thread
        real pixels[ROUNDS][Y_OUTPUTS][X_OUTPUTS] = {};
#pragma unroll
        for (int round = 0; round < ROUNDS; ++round) {
            const int i = thread + round * THREADS;
            if (i < KERNELS * TILES) {
                real half[Y_OUTPUTS][X_POINTS] = {};  // vertically transformed
#pragma unroll
                for (int p = 0; p < Y_POINTS; ++p)
#pragma unroll
                    for (int q = 0; q < X_POINTS; ++q) {
                        const real sum = shared[i * PITCH + p * X_POINTS + q];
#pragma unroll
                        for (int r = 0; r < Y_OUTPUTS; ++r)
                            if (OUTPUT_Y[r][p] != 0) half[r][q] += OUTPUT_Y[r][p] * sum;
                    }
#pragma unroll
                for (int r = 0; r < Y_OUTPUTS; ++r)
#pragma unroll
                    for (int c = 0; c < X_OUTPUTS; ++c)
#pragma unroll
                        for (int q = 0; q < X_POINTS; ++q)
                            if (OUTPUT_X[c][q] != 0) pixels[round][r][c] += OUTPUT_X[c][q] * half[r][q];
            }
        }
        __syncthreads();
#pragma unroll
        for (int round = 0; round < ROUNDS; ++round) {
            const int i = thread + round * THREADS, k = i / TILES, tile = i % TILES;
            if (i < KERNELS * TILES)
#pragma unroll
                for (int r = 0; r < Y_OUTPUTS; ++r)
#pragma unroll
                    for (int c = 0; c < X_OUTPUTS; ++c)
                        shared[(k * Y_OUTPUTS + r) * WIDE + tile * X_OUTPUTS + c] = pixels[round][r][c];
        }
        __syncthreads();
        for (int i = thread; i < PIXELS; i += THREADS) {
            const int kernel = chunk * KERNELS + i / (Y_OUTPUTS * WIDE);
            const int row = tile_row * Y_OUTPUTS + i / WIDE % Y_OUTPUTS, column = run * WIDE + i % WIDE;
            if (kernel < GROUP_KERNELS && row < OUTPUT_HEIGHT && column < OUTPUT_WIDTH)
                out[((size_t)((image * GROUPS + group) * GROUP_KERNELS + kernel) * OUTPUT_HEIGHT + row) * OUTPUT_WIDTH + column] =
                    shared[i];
        }
    }
}
