"""What the double of TensorRT and CUDA must catch, each proven by a program that does it."""

import contextlib
import threading

import numpy as np
import pytest

from edgeline.cuda import gpu
from edgeline.errors import EdgelineError
from edgeline.manifest import BatchRange
from edgeline.tensorrt.builder import BuildSettings, build_engine
from edgeline.tensorrt.device import DeviceBuffer, PinnedBuffer, Stream, open_cuda
from edgeline.tensorrt.products import load_product
from tests.doubles import gpu_double
from tests.doubles.artefacts import expected, images, small_graph

INPUT, OUTPUT = (1, 1, 6, 6), (1, 3)
IN_BYTES, OUT_BYTES = 36 * 4, 3 * 4


class Desk:
    """An engine and all it needs, opened by hand on the double, so that a test can do one thing wrong."""

    def __init__(self, world, stack):
        self.world = world
        self.cuda = open_cuda(gpu())
        self.api = self.cuda.api
        self.stream = Stream(self.cuda)
        stack.callback(self.stream.free)
        self.input, self.output = DeviceBuffer(self.cuda, IN_BYTES, "in"), DeviceBuffer(self.cuda, OUT_BYTES, "out")
        self.host_in, self.host_out = PinnedBuffer(self.cuda, IN_BYTES, "in"), PinnedBuffer(self.cuda, OUT_BYTES, "out")
        for buffer in (self.input, self.output, self.host_in, self.host_out):
            stack.callback(buffer.free)
        self.memory = DeviceBuffer(self.cuda, 4096, "memory")
        stack.callback(self.memory.free)
        product = load_product("trt")
        plan = build_engine(product, small_graph(), BuildSettings("fp32", BatchRange(1, 2, 4))).plan
        self.module = product.module
        self.runtime = product.module.Runtime(product.log.handle)
        stack.callback(delattr, self, "runtime")
        self.engine = self.runtime.deserialize_cuda_engine(plan)
        stack.callback(delattr, self, "engine")
        self.context = self.engine.create_execution_context(self.user_managed)
        stack.callback(delattr, self, "context")

    @property
    def user_managed(self):
        return self.module.ExecutionContextAllocationStrategy.USER_MANAGED

    def ready(self):
        """Set all that a run needs."""
        self.context.set_device_memory(self.memory.address, self.memory.nbytes)
        assert self.context.set_input_shape("input", INPUT)
        assert self.context.set_tensor_address("input", self.input.address)
        assert self.context.set_tensor_address("logits", self.output.address)

    def run(self):
        """Queue copy in, run, copy out."""
        self.stream.copy_to_device(self.input, self.host_in, IN_BYTES)
        assert self.context.execute_async_v3(self.stream.address)
        self.stream.copy_to_host(self.host_out, self.output, OUT_BYTES)

    def result(self):
        return self.host_out.array(np.float32, OUTPUT)


@pytest.fixture
def desk():
    with gpu_double("trt10") as world, contextlib.ExitStack() as stack:
        yield Desk(world, stack)


def seen(desk, *words):
    """Take what the double has seen: one thing, with these words."""
    taken = desk.world.take_violations()
    assert taken
    assert all(any(word in violation for violation in taken) for word in words), taken


def test_done_right_nothing_is_seen(desk):
    desk.ready()
    desk.host_in.array(np.float32, INPUT)[:] = images(1)
    desk.run()
    desk.stream.synchronise()
    graph = desk.stream.capture(desk.run)
    graph.launch(desk.stream)
    desk.stream.synchronise()
    np.testing.assert_allclose(desk.result(), expected(small_graph(), images(1)), atol=1e-6)
    graph.free()


def test_memory_begins_as_nan_and_work_waits(desk):
    assert np.isnan(desk.result()).all()
    desk.ready()
    desk.host_in.array(np.float32, INPUT)[:] = images(1)
    desk.run()
    assert np.isnan(desk.result()).all()  # not synchronised: nothing has happened
    desk.stream.synchronise()
    assert np.isfinite(desk.result()).all()
    desk.stream.copy_to_host(desk.host_out, desk.output, OUT_BYTES)
    assert np.isnan(desk.result()).all()  # from here on the old result is not to be relied on
    desk.stream.synchronise()


def test_a_run_before_the_shape(desk):
    desk.context.set_tensor_address("input", desk.input.address)
    assert not desk.context.execute_async_v3(desk.stream.address)
    seen(desk, "before the shape of input was set")


def test_a_run_before_an_address(desk):
    desk.ready()
    desk.context.set_tensor_address("logits", 0)
    assert not desk.context.execute_async_v3(desk.stream.address)
    seen(desk, "before the address of logits was set")


@pytest.mark.parametrize("wrong", ["host", "freed", "small", "none of ours"])
def test_a_run_at_an_address_without_enough_device_memory(wrong, desk):
    desk.ready()
    freed = DeviceBuffer(desk.cuda, 4096, "a test")
    address = {
        "host": desk.host_in.address,
        "freed": freed.address,
        "small": desk.output.address,
        "none of ours": 0xD000_0FFF_0000,
    }[wrong]
    freed.free()
    desk.context.set_tensor_address("input", address)
    assert not desk.context.execute_async_v3(desk.stream.address)
    seen(desk, f"with input at an address that has no {IN_BYTES} live bytes")


def test_a_run_without_working_memory(desk):
    desk.ready()
    desk.memory.free()
    assert not desk.context.execute_async_v3(desk.stream.address)
    seen(desk, "without working memory")


def test_working_memory_that_is_too_small(desk):
    desk.context.set_device_memory(desk.memory.address, 100)
    seen(desk, "100 bytes at", "are not 4096 live bytes")


def test_a_second_context_without_a_profile(desk):
    second = desk.engine.create_execution_context(desk.user_managed)
    assert second.active_optimization_profile == -1
    assert not second.execute_async_v3(desk.stream.address)
    seen(desk, "without an optimization profile")
    del second


def test_a_profile_that_does_not_exist_is_an_exception_as_with_the_real_bindings(desk):
    with pytest.raises(RuntimeError, match="Error in set optimization profile async"):
        desk.context.set_optimization_profile_async(1, desk.stream.address)


@pytest.mark.parametrize("shape", [(5, 1, 6, 6), (0, 1, 6, 6), (1, 1, 6, 7), (1, 1, 6)])
def test_a_shape_outside_the_profile_is_refused_as_tensorrt_refuses_it(shape, desk):
    assert not desk.context.set_input_shape("input", shape)
    assert not desk.context.set_input_shape("logits", (1, 3))


def test_a_capture_before_a_plain_run(desk):
    desk.ready()
    with pytest.raises(AssertionError):
        desk.stream.capture(desk.run)
    seen(desk, "while the stream captures, before a plain run of this shape")


def test_a_capture_after_the_shape_was_changed(desk):
    desk.ready()
    desk.run()
    desk.stream.synchronise()
    desk.context.set_input_shape("input", (2, 1, 6, 6))
    desk.context.set_input_shape("input", INPUT)
    with pytest.raises(AssertionError):
        desk.stream.capture(desk.run)
    seen(desk, "before a plain run of this shape")


def test_a_capture_before_the_work_was_waited_for(desk):
    desk.ready()
    desk.run()
    graph = desk.stream.capture(desk.run)
    seen(desk, "before the work in the stream was waited for")
    desk.stream.synchronise()
    graph.free()


def test_host_memory_that_is_not_pinned_within_a_capture(desk):
    desk.ready()
    desk.run()
    desk.stream.synchronise()
    ordinary = np.zeros(36, np.float32)
    kind = desk.api.cudaMemcpyKind.cudaMemcpyHostToDevice
    arguments = (desk.input.address, ordinary.ctypes.data, IN_BYTES, kind, desk.stream.handle)
    assert int(desk.api.cudaMemcpyAsync(*arguments)[0]) == 0  # outside it is slow, and right
    with pytest.raises(EdgelineError, match="cudaErrorStreamCaptureUnsupported"):
        desk.stream.capture(lambda: desk.cuda.call("cudaMemcpyAsync", *arguments))
    seen(desk, "host memory that is not pinned is copied within a capture")


@pytest.mark.parametrize("what", ["malloc", "free", "wait"])
def test_what_must_not_be_called_within_a_capture(what, desk):
    def work():
        if what == "malloc":
            DeviceBuffer(desk.cuda, 16, "a test")
        elif what == "free":
            desk.cuda.call("cudaFree", desk.input.address)
        else:
            desk.stream.synchronise()

    with pytest.raises(EdgelineError, match="cudaErrorStreamCaptureUnsupported"):
        desk.stream.capture(work)
    seen(desk, "captur")


def test_a_graph_after_its_context_was_changed(desk):
    desk.ready()
    desk.run()
    desk.stream.synchronise()
    graph = desk.stream.capture(desk.run)
    desk.context.set_input_shape("input", (2, 1, 6, 6))
    graph.launch(desk.stream)
    desk.stream.synchronise()
    seen(desk, "after the context it was captured from was changed")
    graph.free()


def test_a_source_that_changes_before_it_was_read(desk):
    desk.stream.copy_to_device(desk.input, desk.host_in, IN_BYTES)
    desk.host_in.array(np.float32, INPUT)[:] = 1
    desk.stream.synchronise()
    seen(desk, "pinned memory was changed while a queued copy was to read it")


def test_a_copy_that_leaves_its_memory(desk):
    with pytest.raises(EdgelineError, match="cudaErrorInvalidValue"):
        desk.stream.copy_to_device(desk.output, desk.host_in, IN_BYTES)
    seen(desk, f"a copy of {IN_BYTES} bytes leaves the device's memory")


def test_memory_freed_while_work_uses_it(desk):
    desk.stream.copy_to_device(desk.input, desk.host_in, IN_BYTES)
    desk.input.free()
    desk.stream.synchronise()
    seen(desk, "freed while queued work uses it", "runs on memory that was freed")


def test_memory_freed_twice_or_as_the_other_kind(desk):
    address = desk.input.address
    desk.input.free()
    desk.input.free()  # the wrapper sees to it that this is no second time
    assert desk.world.take_violations() == []
    assert int(desk.api.cudaFree(address)[0]) != 0
    seen(desk, "freed twice")
    assert int(desk.api.cudaFree(desk.host_in.address)[0]) != 0
    seen(desk, "never allocated")


@pytest.mark.parametrize("function", ["cudaStreamDestroy", "cudaStreamSynchronize", "cudaGraphExecDestroy"])
def test_handles_that_were_given_back(function, desk):
    graph = desk.stream.capture(lambda: None)
    other = Stream(desk.cuda)
    handle = graph._executable if "Graph" in function else other.handle
    graph.free()
    other.free()
    assert int(getattr(desk.api, function)(handle)[0]) != 0
    seen(desk, "never made or is already given back")


def test_a_stream_destroyed_with_work_in_it(desk):
    other = Stream(desk.cuda)
    other.copy_to_device(desk.input, desk.host_in, IN_BYTES)
    other.free()
    seen(desk, "destroyed while work waits in it")


@pytest.mark.parametrize("name", ["runtime", "engine", "context"])
def test_an_object_freed_before_what_needs_it(name, desk):
    if name == "context":
        desk.ready()
        desk.run()
    setattr(desk, name, None)
    words = {"runtime": "before its engine", "engine": "before its context", "context": "before its queued work"}
    seen(desk, f"freed {words[name]}")
    if name == "engine":
        desk.context.set_input_shape("input", INPUT)
        seen(desk, "after the engine was freed")
    desk.stream.synchronise()


def test_a_context_freed_before_its_graph(desk):
    desk.ready()
    desk.run()
    desk.stream.synchronise()
    graph = desk.stream.capture(desk.run)
    desk.context = None
    seen(desk, "freed before a graph that was captured from it")
    graph.free()


def test_work_for_the_first_device_where_another_is_current(desk):
    """In this thread alone: each has a current device of its own."""
    desk.ready()
    desk.run()
    desk.stream.synchronise()
    graph = desk.stream.capture(desk.run)
    assert [int(desk.api.cudaSetDevice(device)[0]) for device in (1, 2)] == [0, 101]
    steps = {
        "device memory is allocated": lambda: DeviceBuffer(desk.cuda, 16, "a test").free(),
        "pinned memory is allocated": lambda: PinnedBuffer(desk.cuda, 16, "a test").free(),
        "a stream is made": lambda: Stream(desk.cuda).free(),
        "create_execution_context": lambda: desk.engine.create_execution_context(desk.user_managed) and None,
        "deserialize_cuda_engine": lambda: desk.runtime.deserialize_cuda_engine(b""),
        "set_input_shape": lambda: desk.context.set_input_shape("input", INPUT),
        "execute_async_v3": lambda: desk.context.execute_async_v3(desk.stream.address),
        "a graph is launched": lambda: graph.launch(desk.stream),
        "a capture begins": lambda: (desk.stream.synchronise(), desk.stream.capture(lambda: None).free()),
    }
    for words, step in steps.items():
        step()
        assert desk.world.take_violations() == [f"{words} while device 1 is current"]
        in_another_thread = threading.Thread(target=step)
        in_another_thread.start()
        in_another_thread.join()
        assert desk.world.take_violations() == []
    desk.api.cudaSetDevice(0)
    desk.stream.synchronise()
    graph.free()


def test_host_code_switched_on(desk):
    desk.runtime.engine_host_code_allowed = True
    seen(desk, "engine_host_code_allowed was switched on")


def test_what_is_left_over_fails_the_block():
    words = "(?s)device memory at .*pinned memory at .*stream .*a reference to Runtime"
    with pytest.raises(AssertionError, match=words), gpu_double("trt10"):
        cuda, product = open_cuda(gpu()), load_product("trt")
        kept = (DeviceBuffer(cuda, 16, "it"), PinnedBuffer(cuda, 16, "it"), Stream(cuda))
        kept += (product.module.Runtime(product.log.handle),)
    assert len(kept) == 4
