// Runs a CUDA kernel on the host: a block's threads are std::threads, blocks come one after the other.
//
// The program reads x, weights, out and scratch from the files that its arguments name, and writes the last two back.

#include "cuda_on_cpu.hpp"

#include <barrier>
#include <bit>
#include <cstdint>
#include <fstream>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

constinit thread_local Index threadIdx;
Index blockIdx;

static std::barrier<> block_barrier(host::threads);
static std::vector<std::unique_ptr<std::barrier<>>> warp_barriers;

void __syncthreads() { block_barrier.arrive_and_wait(); }
void __syncwarp() { warp_barriers[threadIdx.x / 32]->arrive_and_wait(); }

// Lanes lay what they hold on a table, and each computes its sums from all of it.
struct Tile {
    float weights[4], inputs[2];
};
static std::vector<Tile> table(host::threads);

float rounded_to_tf32(float number)
{
    const auto bits = std::bit_cast<std::uint32_t>(number);
    return std::bit_cast<float>((bits + 0x1000u) & 0xffffe000u);
}

void multiply_tiles(float (&upper)[2], float (&lower)[2], const float (&weights)[4], const float (&inputs)[2])
{
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

static std::vector<char> read_file(const char* name)
{
    std::ifstream file(name, std::ios::binary | std::ios::ate);
    std::vector<char> bytes(file.tellg());
    file.seekg(0);
    file.read(bytes.data(), bytes.size());
    return bytes;
}

int main(int, char** files)
{
    const auto x = read_file(files[1]), weights = read_file(files[2]);
    auto out = read_file(files[3]), scratch = read_file(files[4]);
    for (unsigned first = 0; first < host::threads; first += 32)
        warp_barriers.push_back(std::make_unique<std::barrier<>>(std::min(32u, host::threads - first)));
    std::vector<std::thread> threads;
    for (unsigned thread = 0; thread < host::threads; ++thread)
        threads.emplace_back([&, thread] {
            threadIdx.x = thread;
            for (unsigned block = 0; block < host::blocks; ++block) {
                __syncthreads();  // everybody has left the block before
                if (thread == 0) blockIdx.x = block;
                __syncthreads();
                host::kernel(x.data(), weights.data(), out.data(), scratch.data());
            }
        });
    for (auto& thread : threads) thread.join();
    for (const auto& [name, bytes] : {std::pair{files[3], &out}, std::pair{files[4], &scratch}})
        std::ofstream(name, std::ios::binary).write(bytes->data(), bytes->size());
}
