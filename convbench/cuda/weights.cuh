// How a block of a matrix product brings its weights to shared memory; it follows product.cuh or product_tf32.cuh.

// The weights of a step on their way.
constexpr int WEIGHT_VECTORS = DEPTH * KERNELS / VECTOR;
constexpr int WEIGHT_LOADS = (WEIGHT_VECTORS + THREADS - 1) / THREADS;

struct Weights {
    Vector at[WEIGHT_LOADS];
};

static __device__ __forceinline__ void load(Weights& weights, const Vector* source, int thread)
{
#pragma unroll
    for (int i = 0; i < WEIGHT_LOADS; ++i)
        if (thread + i * THREADS < WEIGHT_VECTORS) weights.at[i] = source[thread + i * THREADS];
}

static __device__ __forceinline__ Vector kept(Vector vector)
{
#pragma unroll
    for (int e = 0; e < VECTOR; ++e) vector.v[e] = kept(vector.v[e]);
    return vector;
}

static __device__ __forceinline__ void keep(const Weights& weights, Vector* rows, int thread)
{
#pragma unroll
    for (int i = 0; i < WEIGHT_LOADS; ++i) {
        const int place = thread + i * THREADS, term = place / (KERNELS / VECTOR), vector = place % (KERNELS / VECTOR);
        if (place < WEIGHT_VECTORS) rows[term * (WEIGHT_PITCH / VECTOR) + vector] = kept(weights.at[i]);
    }
}
