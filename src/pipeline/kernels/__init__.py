"""Own compute kernels for what PyTorch does in more passes over memory than it takes.

`build` compiles them once per machine; without a C++ compiler PyTorch's own operations are used,
which give the same numbers up to rounding. `accelerate` is the one call that brings them into a
network.
"""
