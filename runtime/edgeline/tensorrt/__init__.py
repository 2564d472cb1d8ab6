"""TensorRT and TensorRT-RTX: which is installed, how an engine is built, what a plan's header says.

The session that runs an engine is edgeline.backends.tensorrt. Nothing here imports TensorRT before it is asked to.
"""
