// Runs a CUDA kernel on the host, for tests: a block's threads are std::threads, blocks come one after the other.
//
// Included before the kernel's source, which is compiled as C++20. KERNEL, BLOCKS and THREADS_OF_A_BLOCK are macros. The
// program reads x, weights, out and scratch from the files that its arguments name, and writes out back.

#include <barrier>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <memory>
#include <thread>
#include <vector>

struct Index {
    unsigned x = 0, y = 0, z = 0;
};

inline thread_local Index threadIdx;
inline Index blockIdx;  // the same for all threads; set while none runs

inline std::barrier<> block_barrier(THREADS_OF_A_BLOCK);
inline std::vector<std::unique_ptr<std::barrier<>>> warp_barriers;

#define __global__
#define __device__
#define __forceinline__ inline
#define __shared__ static
#define __launch_bounds__(...)
#define __restrict__

inline void __syncthreads() { block_barrier.arrive_and_wait(); }
inline void __syncwarp() { warp_barriers[threadIdx.x / 32]->arrive_and_wait(); }

// Tensor cores, see product_tf32.cuh: lanes lay what they hold on a table, and each computes its sums from all of it.
struct Tile {
    float weights[4], inputs[2];
};
inline std::vector<Tile> table(THREADS_OF_A_BLOCK);

inline float rounded_to_tf32(float number) {
    const auto bits = std::bit_cast<std::uint32_t>(number);
    return std::bit_cast<float>((bits + 0x1000u) & 0xffffe000u);
}

inline void multiply_tiles(float (&upper)[2], float (&lower)[2], const float (&weights)[4], const float (&inputs)[2]) {
    Tile* const warp = &table[threadIdx.x / 32 * 32];
    const int lane = threadIdx.x % 32;
    warp[lane] = {{weights[0], weights[1], weights[2], weights[3]}, {inputs[0], inputs[1]}};
    __syncwarp();
    for (int term = 0; term < 8; ++term)
        for (int column = 0; column < 2; ++column) {
            const Tile& row = warp[lane / 4 * 4 + term % 4];
            const float input = warp[(lane % 4 * 2 + column) * 4 + term % 4].inputs[term / 4];
            upper[column] += row.weights[term / 4 * 2] * input;
            lower[column] += row.weights[term / 4 * 2 + 1] * input;
        }
    __syncwarp();
}

extern "C" void KERNEL(const real*, const real*, real*, real*);

inline std::vector<real> read_file(const char* name) {
    std::ifstream file(name, std::ios::binary | std::ios::ate);
    std::vector<real> numbers(file.tellg() / sizeof(real));
    file.seekg(0);
    file.read(reinterpret_cast<char*>(numbers.data()), numbers.size() * sizeof(real));
    return numbers;
}

int main(int, char** files) {
    const auto x = read_file(files[1]), weights = read_file(files[2]);
    auto out = read_file(files[3]), scratch = read_file(files[4]);
    for (int warp = 0; warp < (THREADS_OF_A_BLOCK + 31) / 32; ++warp) {
        const int left = THREADS_OF_A_BLOCK - 32 * warp;
        warp_barriers.push_back(std::make_unique<std::barrier<>>(left < 32 ? left : 32));
    }
    std::vector<std::thread> threads;
    for (unsigned thread = 0; thread < THREADS_OF_A_BLOCK; ++thread)
        threads.emplace_back([&, thread] {
            threadIdx.x = thread;
            for (unsigned block = 0; block < BLOCKS; ++block) {
                __syncthreads();  // everybody has left the block before
                if (thread == 0) blockIdx.x = block;
                __syncthreads();
                KERNEL(x.data(), weights.data(), out.data(), scratch.data());
            }
        });
    for (auto& thread : threads) thread.join();
    for (const auto& [name, numbers] : {std::pair{files[3], &out}, std::pair{files[4], &scratch}}) {
        std::ofstream file(name, std::ios::binary);
        file.write(reinterpret_cast<const char*>(numbers->data()), numbers->size() * sizeof(real));
    }
}
