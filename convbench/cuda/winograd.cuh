// The transforms of nested minimal filtering, in registers. INPUT, (points x points), and OUTPUT, (outputs x points), are the
// matrices of each direction; their zeros emit no instructions.

// Transforms a window of the input; `store(p, q, number)` takes the number of each point.
template <typename Store>
static __device__ __forceinline__ void transform(const real* plane, int top, int left, Store store)
{
    real half[Y_POINTS][X_POINTS] = {};  // vertically transformed
#pragma unroll
    for (int r = 0; r < Y_POINTS; ++r)
#pragma unroll
        for (int c = 0; c < X_POINTS; ++c) {
            const int row = top + r, column = left + c;
            const bool inside = (unsigned)row < HEIGHT && (unsigned)column < WIDTH;
            const real pixel = inside ? plane[(size_t)row * WIDTH + column] : real(0);
#pragma unroll
            for (int p = 0; p < Y_POINTS; ++p)
                if (INPUT_Y[p][r] != 0) half[p][c] += INPUT_Y[p][r] * pixel;
        }
#pragma unroll
    for (int p = 0; p < Y_POINTS; ++p)
#pragma unroll
        for (int q = 0; q < X_POINTS; ++q) {
            real sum = 0;
#pragma unroll
            for (int c = 0; c < X_POINTS; ++c)
                if (INPUT_X[q][c] != 0) sum += INPUT_X[q][c] * half[p][c];
            store(p, q, sum);
        }
}

// The transform of a tile's sums to pixels: vertically point by point as sums are added, horizontally by `pixel`.
struct Half {
    real at[Y_OUTPUTS][X_POINTS] = {};

    __device__ __forceinline__ void add(int p, int q, real sum)
    {
#pragma unroll
        for (int r = 0; r < Y_OUTPUTS; ++r)
            if (OUTPUT_Y[r][p] != 0) at[r][q] += OUTPUT_Y[r][p] * sum;
    }

    __device__ __forceinline__ real pixel(int r, int c) const
    {
        real sum = 0;
#pragma unroll
        for (int q = 0; q < X_POINTS; ++q)
            if (OUTPUT_X[c][q] != 0) sum += OUTPUT_X[c][q] * at[r][q];
        return sum;
    }
};
