// The tile of a matrix product that a thread block computes; the source that follows brings the factors to shared memory.
//
// sums (FILTERS x COLUMNS) += weights (FILTERS x DEPTH) * inputs (DEPTH x COLUMNS). Shared memory holds both factors, one row
// for each of the DEPTH terms. A thread keeps 8 rows times 2 vectors of neighbouring columns in registers. The lanes of a warp
// are LANES_Y x LANES_X; a thread's rows and columns lie in two runs each, half a warp's tile apart, so that the lanes of a row
// read neighbouring vectors, and every read of 16 bytes serves a row or a column of lanes at once.

constexpr int WARP = 32;
constexpr int VECTOR = 16 / sizeof(real);  // elements of a read
constexpr int ROWS = 8;                    // of a thread
constexpr int ROW_RUN = 4;                 // neighbouring rows
constexpr int RUN = VECTOR;                // neighbouring columns
constexpr int RUNS = 2;                    // runs of a thread
constexpr int LANES_X = WARP / LANES_Y;
constexpr int WARP_ROWS = LANES_Y * ROWS, WARP_COLUMNS = LANES_X * RUNS * RUN;
constexpr int WARPS_X = COLUMNS / WARP_COLUMNS;
constexpr int WARPS = WARPS_X * (FILTERS / WARP_ROWS);
constexpr int THREADS = WARPS * WARP;
constexpr int WEIGHT_PITCH = FILTERS, INPUT_PITCH = COLUMNS;  // elements from one term to the next
constexpr int BLOCKS_PER_MULTIPROCESSOR = sizeof(real) == 4 ? 512 / THREADS : 1;  // that registers allow

struct alignas(16) Vector {
    real v[VECTOR];
};

using Run = Vector;

struct Sums {
    real at[ROWS][RUNS][RUN] = {};
};

// The first row of a thread, and the distance of its row i from the first.
static __device__ __forceinline__ int first_row(int thread)
{
    return thread / WARP / WARPS_X * WARP_ROWS + thread % WARP / LANES_X * ROW_RUN;
}
static __device__ constexpr int row_offset(int i) { return i / ROW_RUN * LANES_Y * ROW_RUN + i % ROW_RUN; }

// The first column of a thread, and the distance of its run j from the first.
static __device__ __forceinline__ int first_column(int thread)
{
    return thread / WARP % WARPS_X * WARP_COLUMNS + thread % LANES_X * RUN;
}
static __device__ constexpr int column_offset(int j) { return j * LANES_X * RUN; }

// A factor as shared memory holds it.
static __device__ __forceinline__ real as_factor(real number) { return number; }

static __device__ __forceinline__ void multiply(Sums& sums, const Vector* weights, const Vector* inputs, int thread)
{
    weights += first_row(thread) / VECTOR;
    inputs += first_column(thread) / VECTOR;
#pragma unroll
    for (int term = 0; term < DEPTH; ++term) {
        real weight[ROWS];
#pragma unroll
        for (int i = 0; i < ROWS; i += VECTOR) {
            const Vector vector = weights[(term * WEIGHT_PITCH + row_offset(i)) / VECTOR];
#pragma unroll
            for (int e = 0; e < VECTOR; ++e) weight[i + e] = vector.v[e];
        }
#pragma unroll
        for (int j = 0; j < RUNS; ++j) {
            const Vector input = inputs[(term * INPUT_PITCH + column_offset(j)) / VECTOR];
#pragma unroll
            for (int i = 0; i < ROWS; ++i)
#pragma unroll
                for (int e = 0; e < RUN; ++e) sums.at[i][j][e] += weight[i] * input.v[e];
        }
    }
}
