"""PyTorch's convolution on the host and on a GPU, and the layer that both call."""
