"""The configurations of Triton models: each value against what its backend documents, and rules that bite."""

import pytest

from edgeline.errors import InputError, MissingCapabilityError
from edgeline_export.triton import schema as schema_module
from edgeline_export.triton.config import model_config, model_name, remarks
from edgeline_export.triton.rules import check_config
from edgeline_export.triton.schema import config_from_text, schema, text_of
from tests.export.triton_repositories import FILES, made_by_hand

pytest.importorskip("tritonclient", reason="tritonclient: pip install 'edgeline[triton]'")

ONNX = """
name: "small-fp32-onnx"
backend: "onnxruntime"
default_model_filename: "model.onnx"
max_batch_size: 4
version_policy { latest { num_versions: 1 } }
input [ { name: "input" data_type: TYPE_FP32 dims: [ 1, 6, 6 ] } ]
output [ { name: "logits" data_type: TYPE_FP32 dims: [ 3 ] label_filename: "labels.txt" } ]
instance_group [ { kind: KIND_AUTO count: 1 } ]
dynamic_batching { preferred_batch_size: [ 2, 4 ] max_queue_delay_microseconds: 100 }
parameters { key: "intra_op_thread_count" value { string_value: "0" } }
"""
TRT = """
name: "small-int8-fp16-trt"
backend: "tensorrt"
default_model_filename: "model.plan"
max_batch_size: 4
version_policy { latest { num_versions: 1 } }
input [ { name: "input" data_type: TYPE_FP32 dims: [ 1, 6, 6 ] } ]
output [ { name: "logits" data_type: TYPE_FP32 dims: [ 3 ] } ]
instance_group [ { kind: KIND_GPU count: 1 } ]
dynamic_batching { preferred_batch_size: [ 2, 4 ] max_queue_delay_microseconds: 100 }
"""
# max_batch_size 0 and the batch among the dimensions: what the backend's own tests/configs/dynamic.pbtxt has.
OPENVINO = """
name: "small-digits-bf16-openvino"
backend: "openvino"
default_model_filename: "model.xml"
version_policy { latest { num_versions: 1 } }
input [ { name: "input" data_type: TYPE_FP32 dims: [ -1, 1, 6, 6 ] } ]
output [ { name: "logits" data_type: TYPE_FP32 dims: [ -1, 3 ] } ]
instance_group [ { kind: KIND_CPU count: 1 } ]
parameters { key: "NUM_STREAMS" value { string_value: "1" } }
parameters { key: "PERFORMANCE_HINT" value { string_value: "LATENCY" } }
parameters { key: "HINT_BF16" value { string_value: "YES" } }
"""


@pytest.mark.parametrize(
    ("format_name", "changes", "expected"),
    [
        ("onnx", {"labels": ["a", "b", "c"]}, ONNX),
        ("trt", {"precision": "int8+fp16"}, TRT),
        ("openvino", {"precision": "bf16", "dataset": "digits"}, OPENVINO),
    ],
)
def test_the_configuration_of_each_backend(tmp_path, format_name, changes, expected):
    from google.protobuf import text_format

    artefact = made_by_hand(tmp_path / "a", format_name, **changes)
    config = model_config(artefact.manifest)
    assert config == text_format.Parse(expected, schema().ModelConfig())
    assert text_format.Parse(text_of(config), schema().ModelConfig()) == config


@pytest.mark.parametrize("format_name", ["onnx", "trt", "openvino"])
def test_a_fixed_batch_is_a_dimension_like_the_others(tmp_path, format_name):
    config = model_config(made_by_hand(tmp_path / "a", format_name, fixed=4).manifest)
    assert config.max_batch_size == 0
    assert not config.HasField("dynamic_batching")
    assert (list(config.input[0].dims), list(config.output[0].dims)) == ([4, 1, 6, 6], [4, 3])


def test_a_batch_of_one_is_not_put_together(tmp_path):
    artefact = made_by_hand(tmp_path / "a", batch={"min": 1, "opt": 1, "max": 1})
    config = model_config(artefact.manifest)
    assert config.max_batch_size == 1
    assert not config.HasField("dynamic_batching")


def test_one_preferred_size_where_the_usual_batch_is_the_largest(tmp_path):
    config = model_config(made_by_hand(tmp_path / "a", batch={"min": 1, "opt": 8, "max": 8}).manifest)
    assert list(config.dynamic_batching.preferred_batch_size) == [8]


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("float16", "TYPE_FP16"), ("uint8", "TYPE_UINT8"), ("int8", "TYPE_INT8"), ("int32", "TYPE_INT32"),
     ("int64", "TYPE_INT64")],
)  # fmt: skip
def test_data_types(tmp_path, dtype, expected):
    inputs = [{"name": "x", "shape": [-1, 7], "dtype": dtype, "layout": None}]
    config = model_config(made_by_hand(tmp_path / "a", inputs=inputs).manifest)
    assert schema().DataType.Name(config.input[0].data_type) == expected


@pytest.mark.parametrize(("name", "shown"), [("my net", "my net-fp32-onnx"), ("ä", "ä-fp32-onnx"), ("../x", "../x-")])
def test_a_name_that_triton_cannot_take(tmp_path, name, shown):
    with pytest.raises(InputError, match="give another with --name") as caught:
        model_name(made_by_hand(tmp_path / "a", name=name).manifest)
    assert shown in str(caught.value)


def test_what_openvino_does_not_keep_is_said(tmp_path):
    said = remarks(made_by_hand(tmp_path / "a", "openvino").manifest)
    assert "cannot put requests together" in said[0]
    assert "computes the float32 of this fp32 model in bfloat16" in said[1]
    assert len(remarks(made_by_hand(tmp_path / "b", "openvino", precision="bf16").manifest)) == 1
    assert remarks(made_by_hand(tmp_path / "c").manifest) == []


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('max_batch_sizes: 8', "max_batch_sizes"),
        ('input { name: "x" datatype: TYPE_FP32 }', "datatype"),
        ("input { data_type: TYPE_FLOAT }", "TYPE_FLOAT"),
        ('max_batch_size: "8"', "8"),
        ("dynamic_batching { preferred_batch_size: [ 4, }", "2:47"),
    ],
)  # fmt: skip
def test_the_schema_refuses_what_it_does_not_know(tmp_path, text, words):
    with pytest.raises(InputError, match="does not fit Triton's schema") as caught:
        config_from_text(f"name: 'x'\n{text}", tmp_path / "config.pbtxt")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('name: "other"', "the name 'other' is not that of its folder"),
        ('name: "a b"', "has other characters"),
        ('backend: ""', "names no backend"),
        ("input { name: 'more' data_type: TYPE_FP32 dims: 0 }", "expected sizes above 0, or -1"),
        ("input { name: 'more' data_type: TYPE_FP32 dims: -2 }", "expected sizes above 0, or -1"),
        ("input { name: 'more' data_type: TYPE_FP32 }", "'more' has no dimension besides the batch"),
        ("output { name: 'more' dims: 3 }", "'more' has no data type"),
        ("output { data_type: TYPE_FP32 dims: 3 }", "has no name"),
        ("max_batch_size: -1", "max_batch_size is -1"),
        ("max_batch_size: 0", "dynamic batching needs a max_batch_size above 0"),
        ("dynamic_batching { preferred_batch_size: 5 }", "the preferred batch size 5 is not in 1 to 4"),
        ("dynamic_batching { preferred_batch_size: 0 }", "the preferred batch size 0 is not in 1 to 4"),
        ("default_model_filename: 'model.plan'", "its file 'model.plan' is not among model.onnx"),
    ],
)
def test_rules_that_the_schema_does_not_know(tmp_path, text, words):
    from google.protobuf import text_format

    good = model_config(made_by_hand(tmp_path / "a").manifest)
    check_config(good, "small-fp32-onnx", {"model.onnx"})
    bad = schema().ModelConfig()
    bad.CopyFrom(good)
    text_format.Merge(text, bad)
    if text == "max_batch_size: 0":
        bad.max_batch_size = 0
    with pytest.raises(InputError, match="Triton would not load small-fp32-onnx") as caught:
        check_config(bad, "small-fp32-onnx", {"model.onnx"})
    assert words in str(caught.value)


def test_a_tensor_with_nothing_but_the_batch_is_refused(tmp_path):
    outputs = [{"name": "y", "shape": [-1], "dtype": "float32", "layout": None}]
    config = model_config(made_by_hand(tmp_path / "a", outputs=outputs, labels=None).manifest)
    with pytest.raises(InputError, match="'y' has no dimension besides the batch"):
        check_config(config, config.name, FILES["trt"] | {"model.onnx": b""})


@pytest.mark.parametrize("missing", ["tritonclient", "grpc"])
def test_without_the_schemas_package(monkeypatch, missing):
    monkeypatch.setattr(schema_module, "find_spec", lambda name: None if name == missing else object())
    with pytest.raises(MissingCapabilityError, match=rf"{missing} not installed.*pip install 'edgeline\[triton\]'"):
        schema()
