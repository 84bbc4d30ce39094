// How a thread block of a matrix product brings its weights to shared memory. It follows product.cuh or product_tf32.cuh.

// The weights of the next step, prefetched into registers.
constexpr int WEIGHT_VECTORS = DEPTH * FILTERS / VECTOR;
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

static __device__ __forceinline__ Vector as_factor(Vector vector)
{
#pragma unroll
    for (int e = 0; e < VECTOR; ++e) vector.v[e] = as_factor(vector.v[e]);
    return vector;
}

static __device__ __forceinline__ void store(const Weights& weights, Vector* rows, int thread)
{
#pragma unroll
    for (int i = 0; i < WEIGHT_LOADS; ++i) {
        const int place = thread + i * THREADS, term = place / (FILTERS / VECTOR), vector = place % (FILTERS / VECTOR);
        if (place < WEIGHT_VECTORS) rows[term * (WEIGHT_PITCH / VECTOR) + vector] = as_factor(weights.at[i]);
    }
}
