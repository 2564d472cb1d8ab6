"""From an ONNX graph to a C99 library: read, passes, layout, arena, text.

    read.py       the graph as a frozen Network of operations with whole attributes; anything else is refused by name
    passes/       Network -> Network: what is merged, and what becomes integers
    lower/        Network -> Program: one kernel call a step, weights packed, memory planned
    emit.py       Program -> lenet.c, lenet.h
    kernels/*.c   the kernels as they are compiled

Nothing here compiles or runs anything: `toolchain.py` does.
"""
