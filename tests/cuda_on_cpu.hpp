// What a CUDA kernel finds when it is compiled as C++20 to run on the host, for tests; cuda_on_cpu.cpp runs it.
//
// Included before the kernel's source. KERNEL, BLOCKS and THREADS_OF_A_BLOCK are macros.

#include <cstddef>

struct Index {
    unsigned x = 0, y = 0, z = 0;
};

extern constinit thread_local Index threadIdx;
extern Index blockIdx;  // the same for all threads; set while none runs

#define __global__
#define __device__
#define __forceinline__ inline
#define __shared__ static
#define __launch_bounds__(...)
#define __restrict__

void __syncthreads();
void __syncwarp();

// Tensor cores, see product_tf32.cuh and product_wgmma.cuh.
float rounded_to_tf32(float number);
void multiply_tiles(float (&upper)[2], float (&lower)[2], const float (&weights)[4], const float (&inputs)[2]);

#ifdef KERNEL
extern "C" void KERNEL(const real*, const real*, real*, real*);
#endif

namespace host {
extern const unsigned blocks, threads;
void kernel(const void* x, const void* weights, void* out, void* scratch);

#ifdef KERNEL
const unsigned blocks = BLOCKS, threads = THREADS_OF_A_BLOCK;
void kernel(const void* x, const void* weights, void* out, void* scratch)
{
    KERNEL((const real*)x, (const real*)weights, (real*)out, (real*)scratch);
}
#endif
}  // namespace host
