// Runs a CUDA kernel on the host, block after block.
//
// A block's threads are fibers: they take turns at barriers, each time in the other order, so that a barrier that is
// missing shows whichever thread was to go first, and where nobody can go on the program says so. Under the thread
// sanitizer, which looks for races between threads, they are std::threads.
//
// The program reads x, weights, out and scratch from the files that its arguments name, and writes the last two back.

#undef _FORTIFY_SOURCE  // it takes a jump to another fiber's stack for a mistake
#include "cuda_on_cpu.hpp"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <fstream>
#include <memory>
#include <utility>
#include <vector>

#ifdef __SANITIZE_THREAD__

#include <barrier>
#include <thread>

constinit thread_local Index threadIdx;

using Barrier = std::barrier<>;

static void run_threads(void (*body)())
{
    std::vector<std::thread> threads;
    for (unsigned thread = 0; thread < host::threads; ++thread)
        threads.emplace_back([=] {
            threadIdx.x = thread;
            body();
        });
    for (auto& thread : threads) thread.join();
}

#else

#include <cstdio>
#include <cstdlib>

#include <setjmp.h>
#include <ucontext.h>

constinit thread_local Index threadIdx;

constexpr std::size_t STACK = 1 << 18;  // bytes; what is not touched takes no memory

struct Fiber {
    std::unique_ptr<char[]> stack;
    ucontext_t start;
    jmp_buf place;
    bool started = false;
};
static std::vector<Fiber> fibers(host::threads);
static std::vector<unsigned> ready;  // the last one is next
static unsigned ended = 0;
static jmp_buf scheduler;
static void (*body_of_all)();

// Let others go on; returns when this fiber is the next of those that are ready.
static void leave()
{
    if (!_setjmp(fibers[threadIdx.x].place)) _longjmp(scheduler, 1);
}

class Barrier {
public:
    explicit Barrier(unsigned members) : members_(members) {}

    void arrive_and_wait()
    {
        waiting_.push_back(threadIdx.x);
        if (waiting_.size() == members_) {
            ready.insert(ready.end(), waiting_.begin(), waiting_.end());
            waiting_.clear();
        }
        leave();
    }

private:
    unsigned members_;
    std::vector<unsigned> waiting_;
};

static void run_fiber()
{
    body_of_all();
    ++ended;
    _longjmp(scheduler, 1);  // and nobody comes back
}

static void run_threads(void (*body)())
{
    body_of_all = body;
    for (unsigned thread = host::threads; thread-- > 0;) ready.push_back(thread);
    while (!ready.empty()) {
        threadIdx.x = ready.back();
        ready.pop_back();
        Fiber& fiber = fibers[threadIdx.x];
        if (_setjmp(scheduler)) continue;
        if (fiber.started) _longjmp(fiber.place, 1);
        fiber.started = true;
        fiber.stack = std::make_unique_for_overwrite<char[]>(STACK);
        getcontext(&fiber.start);
        fiber.start.uc_stack.ss_sp = fiber.stack.get();
        fiber.start.uc_stack.ss_size = STACK;
        makecontext(&fiber.start, run_fiber, 0);
        setcontext(&fiber.start);
    }
    if (ended < host::threads) {
        std::fprintf(stderr, "%u threads of a block wait at a barrier that the others never reach\n", host::threads - ended);
        std::exit(1);
    }
}

#endif

Index blockIdx;

static Barrier block_barrier(host::threads);
static std::vector<std::unique_ptr<Barrier>> warp_barriers;

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

static std::vector<char> x, weights, out, scratch;

static void run_blocks()
{
    for (unsigned block = 0; block < host::blocks; ++block) {
        __syncthreads();  // everybody has left the block before
        if (threadIdx.x == 0) blockIdx.x = block;
        __syncthreads();
        host::kernel(x.data(), weights.data(), out.data(), scratch.data());
    }
}

int main(int, char** files)
{
    x = read_file(files[1]), weights = read_file(files[2]), out = read_file(files[3]), scratch = read_file(files[4]);
    for (unsigned first = 0; first < host::threads; first += 32)
        warp_barriers.push_back(std::make_unique<Barrier>(std::min(32u, host::threads - first)));
    run_threads(run_blocks);
    for (const auto& [name, bytes] : {std::pair{files[3], &out}, std::pair{files[4], &scratch}})
        std::ofstream(name, std::ios::binary).write(bytes->data(), bytes->size());
}
