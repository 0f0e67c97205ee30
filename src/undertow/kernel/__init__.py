"""The outer problem in the space of a kernel: wide networks, or any kernel function, at every signed rate."""

from undertow.kernel.blocks import KernelBlocks
from undertow.kernel.path import KernelPath, kernel_path
from undertow.kernel.relu import linear_kernel, relu_nngp, relu_ntk

__all__ = ["KernelBlocks", "KernelPath", "kernel_path", "linear_kernel", "relu_nngp", "relu_ntk"]
