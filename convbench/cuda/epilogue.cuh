// The epilogue of a convolution, applied to sums while they are in registers: the bias of the output channel, then ReLU.
//
// BIAS is the place of the first output channel's bias in the packed weights, -1 without a bias; RELU is 1 with ReLU, 0
// without. Neither emits an instruction where there is none.

// The bias of an output channel; `there` is false where the channel only fills a block.
static __device__ __forceinline__ real bias_of(const real* weights, int channel, bool there)
{
    return BIAS >= 0 && there ? weights[(long long)BIAS + channel] : real(0);
}

// The output that a sum becomes; NaN stays NaN.
static __device__ __forceinline__ real finished(real sum, real bias)
{
    if (BIAS >= 0) sum += bias;
    if (RELU) sum = sum < 0 ? real(0) : sum;
    return sum;
}
