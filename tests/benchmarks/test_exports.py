"""benchmark-model --formats: what is exported, what is used as it is, and what is left out with which reason."""

import shutil
from dataclasses import replace

import pytest

import edgeline_bench.cli
from edgeline.artefact import open_artefact
from edgeline.backends import ENGINES
from edgeline.errors import InputError, MissingCapabilityError, UnknownNameError
from edgeline_bench import exports
from edgeline_bench.exports import Wanted, forms_of
from edgeline_bench.footprint import deployed_bytes, engine_bytes
from edgeline_bench.points import PointOptions, baseline_points, compiled_points, points_of_artefact
from edgeline_bench.report import read_report
from edgeline_bench.rounds import Plan, run_rounds
from edgeline_export.formats import FORMATS
from edgeline_export.formats.interface import Availability

MAIN = edgeline_bench.cli.main
FEW = {name: FORMATS[name] for name in ("onnx", "trt", "trt-rtx")}


@pytest.fixture
def few(monkeypatch):
    """Only the formats that need no other project's converter."""
    monkeypatch.setattr(exports, "FORMATS", FEW)


@pytest.fixture
def wanted(weights_folder, tmp_path):
    return Wanted("lenet", ("onnx",), ("fp32",), (1, 8), weights_folder, tmp_path / "artifacts")


def test_what_is_missing_is_exported_and_then_used(wanted, capfd):
    (artefact,), left_out = forms_of(wanted)
    assert (artefact.name, left_out) == ("lenet-mnist-10k.fp32.onnx", [])
    assert (artefact.manifest.batch.min, artefact.manifest.batch.max) == (1, 64)
    assert "exporting lenet fp32 as onnx" in capfd.readouterr().err
    (again,), _ = forms_of(wanted)
    assert again.manifest.created == artefact.manifest.created
    assert "exporting" not in capfd.readouterr().err


@pytest.mark.slow
def test_one_of_other_weights_is_exported_again(wanted, exported, edit_manifest, capfd):
    folder = wanted.out / exported.name
    shutil.copytree(exported, folder)
    source = open_artefact(folder).manifest.source
    edit_manifest(folder, source={**source, "weights_sha256": "0" * 64})
    (artefact,), _ = forms_of(wanted)
    assert artefact.manifest.source["weights_sha256"] == source["weights_sha256"]
    assert "exported again: it was made from other weights" in capfd.readouterr().err


@pytest.mark.slow
def test_a_damaged_one_is_exported_again(wanted, exported, capfd):
    shutil.copytree(exported, wanted.out / exported.name)
    (wanted.out / exported.name / "model.onnx").write_bytes(b"")
    forms_of(wanted)
    assert "is exported again" in capfd.readouterr().err


def test_one_that_was_compiled_for_other_batch_sizes_does_not_fit(exported, edit_manifest, tmp_path):
    folder = tmp_path / exported.name
    shutil.copytree(exported, folder)
    weights = open_artefact(folder).manifest.source["weights_sha256"]
    edit_manifest(folder, compilation={"batches": [1, 8]})
    assert exports._fits(folder, weights, (1, 8))
    assert not exports._fits(folder, weights, (1, 64))


@pytest.mark.slow
def test_with_all_formats_what_cannot_be_had_is_left_out_with_its_reason(wanted, few, monkeypatch):
    gone = Availability(False, "its converter is not installed", "pip install it")
    monkeypatch.setattr(type(FEW["trt-rtx"]), "availability", lambda self: gone)
    found, left_out = forms_of(replace(wanted, formats=("all",), precisions=("fp32", "bf16")))
    assert [artefact.name for artefact in found] == ["lenet-mnist-10k.fp32.onnx"]
    whys = {(form.format, form.precision): form.why for form in left_out}
    assert whys["trt", "fp32"] == "no NVIDIA GPU to run on"
    assert whys["trt-rtx", "fp32"] == "its converter is not installed: pip install it"
    assert "onnx has no bf16 here, but fp32, fp16" in whys["onnx", "bf16"]


def test_an_export_that_fails_says_why(wanted, few, monkeypatch):
    monkeypatch.setattr(exports, "_precisions", lambda chosen, wanted: ["int8"] if chosen.name == "onnx" else [])
    monkeypatch.setattr(exports.Wanted, "sizes", property(lambda self: (8, 1)))  # not ascending: refused
    with pytest.raises(MissingCapabilityError, match="no form of lenet can be measured here"):
        forms_of(replace(wanted, formats=("all",)))
    with pytest.raises(exports.EdgelineError, match="a list like 1,8,64"):
        forms_of(wanted if wanted.precisions == ("int8",) else replace(wanted, precisions=("int8",)))


def test_bf16_is_added_beside_fp32_where_a_format_has_it(wanted):
    class WithBf16:
        precisions = ("fp32", "bf16", "int8")

    every = replace(wanted, formats=("all",))
    assert exports._precisions(WithBf16(), every) == ["fp32", "bf16"]
    assert exports._precisions(WithBf16(), replace(every, precisions=("int8",))) == ["int8"]
    assert exports._precisions(WithBf16(), wanted) == ["fp32"]
    assert exports._precisions(FORMATS["onnx"], every) == ["fp32"]


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"formats": ("trt",)}, MissingCapabilityError, "no NVIDIA GPU to run on"),
        ({"formats": ("onnxx",)}, UnknownNameError, "onnx"),
        ({"model": "lenett"}, UnknownNameError, "lenet"),
        ({"precisions": ("fp8",)}, InputError, "onnx has no fp8 here, but fp32"),
    ],
)
def test_what_is_asked_for_by_name_must_be_had(wanted, change, error, words):
    with pytest.raises(error, match=words):
        forms_of(replace(wanted, **change))


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["lenet", "--precision", "fp32"], "--precision goes with --formats"),
        (["lenet", "--artifacts", "x"], "--artifacts goes with --formats"),
        (["lenet", "--formats", "all,onnx"], "--formats all takes them all already"),
        (["lenet", "--formats", "onnx", "--engine", "native"], "--engine is for artefacts"),
        (["lenet", "--formats", "on nx"], "expected names like fp32,int8"),
    ],
)
def test_wrong_calls_are_one_line(command, argv, words):
    code, out, err = command(MAIN, *argv)
    assert (code, out) == (2, "")
    assert words in err


def test_the_report_tells_what_was_left_out(command, few, weights_folder, tmp_path):
    out = tmp_path / "r.json"
    code, stdout, err = command(
        MAIN, "lenet", "--formats", "all", "--batch", 1, "--rounds", 1, "--seconds", 0.02, "--no-roofline",
        "--baseline", "none", "--weights", weights_folder, "--artifacts", tmp_path / "artifacts", "--out", out,
    )  # fmt: skip
    assert code == 0, err
    report = read_report(out)
    assert {(form["format"], form["precision"]) for form in report["left_out"]} >= {("trt", "fp32")}
    (result,) = report["results"]
    graph = tmp_path / "artifacts" / "lenet-mnist-10k.fp32.onnx" / "model.onnx"
    assert result["deployed_bytes"] == graph.stat().st_size < result["artefact_bytes"]
    assert result["engine_bytes"] > 10e6  # onnxruntime's wheel unpacked
    assert "no NVIDIA GPU to run on" in stdout
    assert "## Left out" in out.with_suffix(".md").read_text()
    assert "What to choose" in out.with_suffix(".html").read_text()


# --- footprint, torch.compile, and what does not start ----------------------------------------------------------------


def test_a_c_library_needs_no_engine_and_its_sources_stay_behind(exported_c):
    artefact = open_artefact(exported_c)
    library = exported_c / "liblenet.so"
    assert deployed_bytes(artefact, "native", 1) == library.stat().st_size
    assert engine_bytes("native") == 0
    assert engine_bytes("tensorrt") is None


def test_torch_compile_has_the_baselines_points(exported, weights_folder):
    options = PointOptions((1, 8), 1, (), weights_folder, None)
    baseline = baseline_points([open_artefact(exported)], options)
    compiled = compiled_points(baseline)
    assert [(p.engine, p.host, p.batch, p.optional) for p in compiled] == [
        ("torch-compile", "torch-compile", 1, True), ("torch-compile", "torch-compile", 8, True),
    ]  # fmt: skip
    assert [p.source for p in compiled] == [p.source for p in baseline]


@pytest.mark.slow
def test_torch_compile_gives_the_networks_logits(exported, weights_folder):
    """Its worker checks its first output against the self-test's logits."""
    (point,) = compiled_points(
        baseline_points([open_artefact(exported)], PointOptions((1,), 1, (), weights_folder, None))
    )
    run = run_rounds([replace(point, optional=False)], Plan(1, 0.02), lambda step: None)
    assert run.measured[0].point.engine == "torch-compile"


def test_an_optional_point_that_does_not_start_is_left_out(exported, tmp_path):
    options = PointOptions((1,), 1, (), None, None)
    (point,) = points_of_artefact(open_artefact(exported), options)
    broken = replace(point, folder=str(tmp_path / "gone"), optional=True)
    run = run_rounds([broken, point], Plan(1, 0.02), lambda step: None)
    assert [measured.point for measured in run.measured] == [point]
    ((left, why),) = run.left_out
    assert left == broken
    assert "there is no artefact at" in why
    with pytest.raises(InputError, match="no engine started; the last one: .*there is no artefact"):
        run_rounds([broken], Plan(1, 0.02), lambda step: None)


def test_of_files_for_several_batch_sizes_one_counts(exported, edit_manifest, tmp_path):
    folder = tmp_path / exported.name
    shutil.copytree(exported, folder)
    sizes = {"model.b1.vmfb": 10, "model.b64.vmfb": 200, "model.irpa": 3_000, "model-batch1.pt2": 7}
    for name, size in sizes.items():
        (folder / name).write_bytes(b"x" * size)
    files = dict.fromkeys([*sizes, *(path.name for path in exported.iterdir() if path.name != "manifest.json")])
    edit_manifest(folder, files={name: {} for name in files})
    artefact = open_artefact(folder)
    assert deployed_bytes(artefact, "iree", 1) == 3_010
    assert deployed_bytes(artefact, "iree", 64) == 3_200
    assert deployed_bytes(artefact, "iree", 8) == 3_210  # it runs in pieces of both
    assert deployed_bytes(artefact, "aot-inductor", 1) == 7
    assert deployed_bytes(artefact, "openvino", 1) is None


def test_every_engine_says_what_it_reads_of_an_artefact():
    """An engine without it would have no size in the table, and on the front none would be smaller."""
    assert [name for name, engine in ENGINES.items() if not engine.reads] == []
