// The tile of a matrix product that a thread block computes, by tensor cores in TF32 (compute capability 8.0 and later). It
// defines the same names as product.cuh; factors are rounded to 11 bits of significand when they are stored to shared memory.
//
// A warp multiplies tiles of 16 rows x 8 terms with tiles of 8 terms x 8 columns. The instruction prescribes the elements of
// each lane (PTX ISA, "mma.m16n8k8"): rows lane / 4 and lane / 4 + 8, terms lane % 4 and lane % 4 + 4, column lane / 4 of the
// second factor, and the two columns of the sums at lane % 4 * 2. Rows in shared memory are 8 elements longer than a multiple
// of 16, so that the 4 x 8 elements that a warp reads at once lie in different banks.

constexpr int WARP = 32;
constexpr int VECTOR = 4;  // elements of a read
constexpr int TILE_HEIGHT = 16, TILE_TERMS = 8, TILE_WIDTH = 8;
constexpr int WARP_ROWS = LANES_Y * 8, WARP_COLUMNS = WARP / LANES_Y * 8;
constexpr int TILES_Y = WARP_ROWS / TILE_HEIGHT, TILES_X = WARP_COLUMNS / TILE_WIDTH;
constexpr int ROWS = 2 * TILES_Y;  // of a thread
constexpr int RUN = 2;             // neighbouring columns
constexpr int RUNS = TILES_X;      // runs of a thread
constexpr int WARPS_X = COLUMNS / WARP_COLUMNS;
constexpr int WARPS = WARPS_X * (FILTERS / WARP_ROWS);
constexpr int THREADS = WARPS * WARP;
constexpr int WEIGHT_PITCH = FILTERS + 8, INPUT_PITCH = COLUMNS + 8;  // elements from one term to the next
constexpr int BLOCKS_PER_MULTIPROCESSOR = 512 / THREADS;              // that registers allow

struct alignas(16) Vector {
    float v[VECTOR];
};

struct alignas(8) Run {
    float v[RUN];
};

struct Sums {
    float at[ROWS][RUNS][RUN] = {};
};

#ifdef __CUDACC__
static __device__ __forceinline__ float rounded_to_tf32(float number)
{
    unsigned bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(number));
    return __uint_as_float(bits);
}

// sums += weights * inputs, for the tiles of a warp.
static __device__ __forceinline__ void multiply_tiles(
    float (&upper)[RUN], float (&lower)[RUN], const float (&weights)[4], const float (&inputs)[2])
{
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(upper[0]), "+f"(upper[1]), "+f"(lower[0]), "+f"(lower[1])
        : "r"(__float_as_uint(weights[0])), "r"(__float_as_uint(weights[1])), "r"(__float_as_uint(weights[2])),
          "r"(__float_as_uint(weights[3])), "r"(__float_as_uint(inputs[0])), "r"(__float_as_uint(inputs[1])));
}
#endif  // a compiler for the host is given both functions from elsewhere

// The first row of a thread, and the distance of its row i from the first.
static __device__ __forceinline__ int first_row(int thread)
{
    return thread / WARP / WARPS_X * WARP_ROWS + thread % WARP / 4;
}
static __device__ constexpr int row_offset(int i) { return i * (TILE_HEIGHT / 2); }

// The first column of a thread, and the distance of its run j from the first.
static __device__ __forceinline__ int first_column(int thread)
{
    return thread / WARP % WARPS_X * WARP_COLUMNS + thread % 4 * RUN;
}
static __device__ constexpr int column_offset(int j) { return j * TILE_WIDTH; }

// A factor as shared memory holds it.
static __device__ __forceinline__ float as_factor(float number) { return rounded_to_tf32(number); }

static __device__ __forceinline__ void multiply(Sums& sums, const Vector* weights, const Vector* inputs, int thread)
{
    const int group = thread % WARP / 4, term = thread % 4;
    const float* weight = weights->v + term * WEIGHT_PITCH + thread / WARP / WARPS_X * WARP_ROWS + group;
    const float* input = inputs->v + term * INPUT_PITCH + thread / WARP % WARPS_X * WARP_COLUMNS + group;
#pragma unroll
    for (int step = 0; step < DEPTH; step += TILE_TERMS) {
        float tiles[TILES_Y][4];
#pragma unroll
        for (int i = 0; i < TILES_Y; ++i)
#pragma unroll
            for (int part = 0; part < 4; ++part)
                tiles[i][part] = weight[(step + part / 2 * 4) * WEIGHT_PITCH + i * TILE_HEIGHT + part % 2 * 8];
#pragma unroll
        for (int j = 0; j < TILES_X; ++j) {
            const float tile[2] = {
                input[step * INPUT_PITCH + j * TILE_WIDTH], input[(step + 4) * INPUT_PITCH + j * TILE_WIDTH]};
#pragma unroll
            for (int i = 0; i < TILES_Y; ++i) multiply_tiles(sums.at[2 * i][j], sums.at[2 * i + 1][j], tiles[i], tile);
        }
    }
}
