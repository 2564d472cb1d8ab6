"""ONNX's own tests of its operators, as the onnx package ships them, for all that the C format takes.

Every input but the first becomes an initializer, and the opset becomes the project's. A test that does not apply stands
in REFUSED with a part of the message that the generator refuses it with, so that none is left out in silence.
"""

import warnings

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.backend.test.case.node import collect_testcases

from edgeline.errors import InputError
from edgeline_export.c.operators import OPERATORS
from edgeline_export.graph import OPSET
from tests.export.c.harness import program_of
from tests.export.c.suite import build_suite

REFUSED = {
    f"test_{name}": reason
    for reason, names in {
        # Other types than float32: read, and refused.
        "where float32 is taken": """
            add_int8 add_uint8 clip_default_int8_min clip_default_int8_max clip_default_int8_inbounds div_int8
            div_int32_trunc div_uint8 max_int8 max_int32 max_int64 max_uint8 maxpool_2d_uint8 min_int8 min_int32
            min_int64 min_uint8 mul_int8 mul_uint8 edge_pad reflect_pad wrap_pad pow_types_int64_float32
            pow_types_int32_float32 pow_types_int64_int64 pow_types_int32_int32 sub_int8 sub_uint8
        """,
        # Types that no graph of ours has.
        "has the type": """
            add_int16 add_uint16 add_uint32 add_uint64 div_int16 div_uint16 div_uint32 div_uint64
            identity_sequence identity_opt max_int16 max_uint16 max_uint32 max_uint64 max_float64 min_int16
            min_uint16 min_uint32 min_uint64 min_float64 mul_int16 mul_uint16 mul_uint32 mul_uint64
            reduce_max_bool_inputs reduce_max_empty_set_bool reduce_min_bool_inputs sub_int16 sub_uint16
            sub_uint32 sub_uint64
        """,
        # Three spatial dimensions.
        "3 spatial dimensions": """
            averagepool_3d_default averagepool_3d_dilations_small
            averagepool_3d_dilations_large_count_include_pad_is_0_ceil_mode_is_True
            averagepool_3d_dilations_large_count_include_pad_is_0_ceil_mode_is_False
            averagepool_3d_dilations_large_count_include_pad_is_1_ceil_mode_is_True
            averagepool_3d_dilations_large_count_include_pad_is_1_ceil_mode_is_False maxpool_3d_default
            maxpool_3d_dilations maxpool_3d_dilations_use_ref_impl maxpool_3d_dilations_use_ref_impl_large
        """,
        # From opset 22 on, a last window with nothing of the input is not counted: the test's shape is not opset 20's.
        "Inferred shape and existing shape differ": """
            averagepool_2d_ceil_last_window_starts_on_pad maxpool_2d_ceil_output_size_reduce_by_one
        """,
        "1 input and 3 outputs": "batchnorm_example_training_mode batchnorm_epsilon_training_mode",
        "0 inputs and 1 output": "constant",
        "1 input and 2 outputs": """
            dropout_default_mask dropout_default_mask_ratio training_dropout_default_mask training_dropout_mask
            training_dropout_zero_ratio_mask maxpool_with_argmax_2d_precomputed_pads
            maxpool_with_argmax_2d_precomputed_strides
        """,
        # Training.
        "training_mode is 1": "training_dropout_default training_dropout training_dropout_zero_ratio",
        r"has the shape \[\]": "matmul_1d_1d",
        # One or three operands.
        "operands, where 2 are taken": "max_example max_one_input min_example min_one_input",
        "is float16": "max_float16 min_float16",
        # Empty tensors.
        "there is nothing to compute": """
            reduce_l1_empty_set_expanded reduce_max_empty_set reduce_min_empty_set reduce_sum_empty_set
            reduce_sum_empty_set_non_reduced_axis_zero reduce_sum_square_empty_set_expanded
            reshape_allowzero_reordered slice_start_out_of_bounds
        """,
    }.items()
    for name in names.split()
}


# Bytes are held against ONNX Runtime in test_integers.py: ONNX's tests of these two scale each channel, or are of other
# types.
TESTED_HERE = {*OPERATORS, "Constant"} - {"QuantizeLinear", "DequantizeLinear"}


def cases():
    """The tests whose operators are all in the table: {name: (model with one input, input, output)}."""
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's, from overflows in tests of other operators
        collected = collect_testcases(None)
    for case in collected:
        if all(node.op_type in TESTED_HERE and not node.domain for node in case.model.graph.node):
            (inputs, outputs), *_ = case.data_sets
            found[case.name] = (with_one_input(case.model, inputs), inputs[0] if inputs else None, outputs[0])
    return found


def with_one_input(model, values):
    """A copy in which all inputs but the first are initializers, with the project's opset."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for value, array in list(zip(changed.graph.input, values, strict=True))[1:]:
        if isinstance(array, (np.ndarray, np.generic)):
            array = np.asarray(array)
            changed.graph.initializer.append(numpy_helper.from_array(array, value.name))
            changed.graph.input.remove(value)
    if changed.opset_import[0].version < OPSET:
        return onnx.version_converter.convert_version(changed, OPSET)
    changed.opset_import[0].version = OPSET  # what these operators take has not changed since
    return changed


CASES = cases()
TAKEN = [name for name in CASES if name not in REFUSED]


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    programs = {name: program_of(CASES[name][0], name=name) for name in TAKEN}
    return build_suite(tmp_path_factory.mktemp("suite"), programs)


@pytest.mark.parametrize("name", TAKEN)
def test_operator_equals_onnx(suite, name):
    _, given, expected = CASES[name]
    found = suite[name].run(given)
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_apply_is_refused_by_name(name):
    with pytest.raises(InputError, match=REFUSED[name]):
        program_of(CASES[name][0], name=name)
