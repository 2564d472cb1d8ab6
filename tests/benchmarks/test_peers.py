"""Peers: that each gives the right answers, who is compared with whom, and what the table says of it."""

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import edgeline_bench.peers.cases as cases_module
from edgeline.artefact import open_artefact
from edgeline.errors import EdgelineError, InputError, MissingCapabilityError
from edgeline_bench.c_compiler import compile_c
from edgeline_bench.peers import PEERS, Peer, peer_from_name, program
from edgeline_bench.peers.cases import CASES, EAGER, OURS, Case, Outcome, Row, Setting, judge, measure, points_of
from edgeline_bench.peers.engine import peer_engine
from edgeline_bench.peers.judge import Judgement, judged
from edgeline_bench.peers.models import model_of, tflite_name, weights_of
from edgeline_bench.peers.page import page_of, record_of
from edgeline_bench.peers.program import Floor, Start
from edgeline_bench.peers.requirements import SPEEDS, floor_line, speed_lines, start_lines
from edgeline_bench.worker_handle import WorkerHandle
from edgeline_train.data import DATASETS, load_split
from edgeline_train.models import MODELS
from edgeline_train.models.weights import load_weights
from tests.benchmarks.tflite_files import write_linear
from tests.conftest import one_line

RIGHT = Judgement(0.98, 1.0, None)
CASE = Case("lenet", "fp32")
SCRIPTS = Path(__file__).parents[2] / "benchmarks" / "experiments"


def row(engine, seconds, rounds=20, why=None):
    return Row(engine, (seconds,) * rounds, replace(RIGHT, why=why), why)


def outcome(*rows, case=CASE, remarks=()):
    return Outcome(case, rows, remarks)


def need(peer):
    if not peer.installed:
        pytest.skip(f"{peer.module} is not installed: pip install 'edgeline[peers]'")


@pytest.fixture
def setting(weights_file, tmp_path):
    return Setting({"lenet": weights_file}, tmp_path / "tflite", tmp_path / "work", 50, 1, 0.01, (0,))


# What each peer answers


@pytest.fixture(scope="module")
def expected(weights_file):
    """Eager PyTorch's logits of the first 50 test digits."""
    model = MODELS["lenet"]
    network = model.build().eval()
    load_weights(weights_file, network, model)
    from edgeline.preprocessing import input_from_pixels
    from edgeline_train.data import preprocessing_for

    dataset = DATASETS["mnist-10k"]
    preprocessing = preprocessing_for(dataset, model.input_shape, model.pad)
    digits = input_from_pixels(load_split(dataset, "test").images[:50], preprocessing, model.input_shape)
    with torch.inference_mode():
        return network(torch.from_numpy(digits)).numpy()


@pytest.mark.parametrize("batch", [1, 16])
@pytest.mark.parametrize("name", [OURS, EAGER, *(peer.name for peer in PEERS if peer.source == "graph")])
def test_an_engine_in_its_worker_answers_as_pytorch_does(name, batch, exported, setting, expected, tmp_path):
    """16 does not divide 50: the last piece is filled up, and its surplus is dropped."""
    if name not in (OURS, EAGER):
        need(peer_from_name(name))
    points, _ = points_of(Case("lenet", "fp32", batch=batch), open_artefact(exported), setting)
    (point,) = [point for point in points if point.engine == name]
    with WorkerHandle(point) as worker:
        worker.ask("answers", count=50, out=str(tmp_path / "found.npy"))
    found = np.load(tmp_path / "found.npy")
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", [peer.name for peer in PEERS if peer.source in ("graph", "nncf")])
def test_an_int8_peer_is_nearly_as_right_as_pytorch(name, weights_folder, setting, expected, tmp_path):
    need(peer_from_name(name))
    import edgeline_export.cli

    for precision in ("fp32", "int8"):
        argv = ["lenet", "--weights", str(weights_folder), "--precision", precision, "--out", str(setting.work)]
        assert edgeline_export.cli.main(argv) == 0
    artefact = open_artefact(setting.work / "lenet-mnist-10k.int8.onnx")
    points, _ = points_of(Case("lenet", "int8"), artefact, setting)
    (point,) = [point for point in points if point.engine == name]
    with WorkerHandle(point) as worker:
        worker.ask("answers", count=50, out=str(tmp_path / "found.npy"))
    found = np.load(tmp_path / "found.npy")
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).mean() >= 0.9
    assert 1e-4 < np.abs(found - expected).max() < 0.2 * np.abs(expected).max()  # int8 rounds, fp32 would not


@pytest.mark.parametrize("name", [peer.name for peer in PEERS if peer.source == "tflite"])
@pytest.mark.parametrize("batch", [1, 3])
def test_litert_computes_what_is_in_its_file(name, batch, tmp_path):
    peer = peer_from_name(name)
    need(peer)
    random = np.random.default_rng(0)
    weights, bias = (random.standard_normal(shape).astype(np.float32) for shape in ((4, 6), (4,)))
    path = tmp_path / "linear.tflite"
    write_linear(path, weights, bias, (batch, 6))
    engine = peer_engine(
        {"engine": name, "batch": batch, "threads": 1, "source": {"model": str(path), "precision": "fp32"}}
    )
    engine.import_packages()
    engine.load()
    samples = random.standard_normal((7, 6)).astype(np.float32)
    np.testing.assert_allclose(engine.infer(samples), samples @ weights.T + bias, rtol=1e-5, atol=1e-5)
    call = engine.bind(samples[:batch])
    engine.check(call())
    np.testing.assert_allclose(call(), samples[:batch] @ weights.T + bias, rtol=1e-5, atol=1e-5)


def test_what_is_no_logits_is_refused():
    engine = peer_engine({"engine": "litert", "batch": 2, "threads": 1, "source": {"precision": "fp32"}})
    engine.check(np.zeros((2, 10), np.float32))
    for wrong in (np.zeros((1, 10), np.float32), np.zeros((2, 10)), np.full((2, 10), np.nan, np.float32)):
        with pytest.raises(InputError, match="expected 2 rows of finite float32"):
            engine.check(wrong)


# Who can be compared


def test_a_missing_package_is_named_and_the_others_stay(exported, setting, monkeypatch, capsys):
    ghost = Peer("ghost", "nowhere:Ghost", "no_such_package", "no-such", "graph", ("fp32",), "not at all")
    monkeypatch.setattr(cases_module, "PEERS", (PEERS[0], ghost))
    points, missing = points_of(CASE, open_artefact(exported), setting)
    assert [point.engine for point in points] == [OURS, "onnxruntime", EAGER]
    assert [(row.engine, row.compared) for row in missing] == [("ghost", False)]
    assert "no_such_package is not installed: pip install 'edgeline[peers]'" in missing[0].why
    assert "ghost is left out" in capsys.readouterr().err


def test_a_litert_model_must_be_there_and_of_the_same_weights(exported, setting, tmp_path):
    peer, artefact = replace(peer_from_name("litert"), module="json"), open_artefact(exported)
    with pytest.raises(MissingCapabilityError, match="litert_models.py makes it"):
        model_of(peer, 1, artefact, tmp_path, tmp_path)
    path = tmp_path / tflite_name("lenet", "fp32", 1)
    path.write_bytes(b"TFL3")
    path.with_suffix(".weights").write_text("0" * 64 + "\n")
    with pytest.raises(MissingCapabilityError, match="was made from other weights"):
        model_of(peer, 1, artefact, tmp_path, tmp_path)
    path.with_suffix(".weights").write_text(artefact.manifest.source["weights_sha256"] + "\n")
    assert model_of(peer, 1, artefact, tmp_path, tmp_path) == path


def test_weights_are_found_in_folders_or_named(weights_file, tmp_path):
    assert weights_of("lenet", [tmp_path, weights_file.parent]) == weights_file
    assert weights_of("lenet", [weights_file]) == weights_file
    with pytest.raises(InputError, match="train-model alexnet --dataset mnist-10k"):
        weights_of("alexnet", [tmp_path, weights_file])


def test_answers_are_judged():
    """Of 1,000 images eager has 900 right; label 1 is wrong everywhere."""
    labels = np.zeros(1000, np.int64)
    reference = np.zeros((1000, 2), np.float32)
    reference[:900, 0] = reference[900:, 1] = 1
    assert judged(reference, reference, labels, "fp32") == Judgement(0.9, 1.0, None)

    def with_lost(count):
        found = reference.copy()
        found[:count] = [0, 1]
        return found

    other = judged(with_lost(5), reference, labels, "int8")
    assert (other.accuracy, other.agreement, other.why) == (0.895, 0.995, None)
    assert judged(with_lost(5), reference, labels, "fp32").why == "only 99.50% of the labels are eager's"
    assert "accuracy drops by 0.0110" in judged(with_lost(11), reference, labels, "int8").why
    nan = reference.copy()
    nan[3, 0] = np.nan
    assert judged(nan, reference, labels, "int8").why == "logits that are not finite"


def test_a_peer_that_fails_is_a_row_with_its_words(exported, setting, monkeypatch, tmp_path):
    """It reads an .onnx file that is none; ours and eager are timed all the same."""
    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    monkeypatch.setattr(cases_module, "PEERS", (PEERS[0],))
    monkeypatch.setattr(cases_module, "model_of", lambda *_: tmp_path / "broken.onnx")
    points, _ = points_of(CASE, open_artefact(exported), setting)
    judgements = judge(CASE, points, setting, load_split(DATASETS["mnist-10k"], "test").labels)
    assert isinstance(judgements["onnxruntime"], str)
    assert judgements[OURS].agreement == 1.0
    found = measure(CASE, points, judgements, setting, lambda _: None)
    by_name = {row.engine: row for row in found.rows}
    assert by_name["onnxruntime"].median_s is None
    assert "onnxruntime" in by_name["onnxruntime"].why
    assert by_name[OURS].compared
    assert by_name[EAGER].compared
    assert found.fastest_peer is None


# What was asked, and what was reached


def test_the_fastest_peer_is_one_with_the_right_answers():
    found = outcome(row(OURS, 1.0), row(EAGER, 0.1), row("a", 3.0), row("b", 2.0), row("c", 0.5, why="wrong"))
    assert found.fastest_peer.engine == "b"
    assert found.row("c") is None
    assert outcome(row(OURS, 1.0), row(EAGER, 0.1)).fastest_peer is None


def speed_line(found, against="the fastest peer"):
    lines = [line for line in speed_lines([found]) if line.subject == found.case.title and line.asked.endswith(against)]
    (line,) = lines
    return line


def test_a_speed_is_a_ratio_of_medians():
    """13 us of the other over 5 us: 2.6 of 2.0 is 30 % more than asked; 8 of 5 us is a fifth short."""
    line = speed_line(outcome(row(OURS, 5e-6), row("a", 13e-6), row(EAGER, 50e-6)))
    assert (line.found, line.verdict) == ("2.60 (2.60 to 2.60)", "reached by 30%")
    assert line.detail == "ours 5 us, a 13 us"
    assert speed_line(outcome(row(OURS, 5e-6), row("a", 8e-6))).verdict == "MISSED by 20%"
    eager = speed_line(outcome(row(OURS, 5e-6), row("a", 13e-6), row(EAGER, 45e-6)), "eager PyTorch")
    assert (eager.found, eager.verdict) == ("9.00 (9.00 to 9.00)", "MISSED by 25%")


def test_a_slowness_is_the_other_way_round():
    case = Case("alexnet", "int8", threads=2)
    line = speed_line(outcome(row(OURS, 2e-3), row("a", 2e-3), case=case))
    assert line.asked == "at most 1.05 times the time of the fastest peer"
    assert (line.found, line.verdict) == ("1.00 (1.00 to 1.00)", "reached by 5%")
    assert speed_line(outcome(row(OURS, 4.2e-3), row("a", 2e-3), case=case)).verdict == "MISSED by 100%"


def test_an_interval_takes_rounds():
    line = speed_line(outcome(row(OURS, 5e-6, rounds=19), row("a", 13e-6, rounds=19)))
    assert line.found == "2.60 (too few rounds for an interval)"
    random = np.random.default_rng(0)
    ours, other = (Row(name, tuple(base * random.lognormal(0, 0.1, 31)), RIGHT, None) for name, base in
                   ((OURS, 5e-6), ("a", 10e-6)))  # fmt: skip
    low, high = (float(x) for x in speed_line(outcome(ours, other)).found.split("(")[1].rstrip(")").split(" to "))
    assert 1.7 < low < 2.0 < high < 2.3


def test_what_was_not_measured_says_so():
    lines = speed_lines([outcome(row(OURS, 1.0, why="its answers are wrong"), row("a", 2.0))])
    assert len(lines) == len(SPEEDS)
    assert {line.verdict for line in lines} == {"not measured"}
    assert lines[0].detail == "ours: its answers are wrong"
    assert lines[1].detail == "this case was not run"


def test_every_speed_has_its_case():
    assert {wanted.case for wanted in SPEEDS} == set(CASES)


def test_floor_start_and_memory_are_upper_bounds():
    floor = Floor((4e-6, 5e-6, 9e-6), 5e-6, 6e-6, 200e9, ())
    line = floor_line(floor)
    assert (line.found, line.verdict) == ("1.00", "reached by 20%")
    assert line.detail == "5 us, floor 5 us (cold 6 us) at a peak of 200 GFLOP/s"
    assert floor_line(replace(floor, warm_s=2.5e-6)).verdict == "MISSED by 60%"
    assert floor_line("no library").verdict == "not measured"
    starts = {"C program": Start("C program", (1e-3, 2e-3, 3e-3), 3_600_000), "a": Start("a", (0.2,), 50_000_000)}
    start, memory = start_lines(starts, "C program")
    assert (start.found, start.verdict, start.detail) == ("2 ms", "reached by 60%", "a 200 ms")
    assert (memory.found, memory.verdict, memory.detail) == ("3.60 MB", "MISSED by 20%", "a 50 MB")
    assert [line.detail for line in start_lines({"C program": "no main.c"}, "C program")] == ["no main.c"] * 2


def test_the_page_counts_and_names_what_is_missing():
    openvino = Row("openvino", (), None, "openvino is not installed")
    rows = (row(OURS, 5e-6), row("litert", 13e-6), row(EAGER, 50e-6), openvino)
    outcomes = [outcome(*rows, remarks=("the machine drifted",))]
    lines = speed_lines(outcomes)
    text = page_of(lines, outcomes, {"C program": "no main.c"}, (("cpu", "A CPU"),), ("quick",))
    missed = "lenet fp32, batch 1, 1 thread (at least 12 times as fast as eager PyTorch)"
    assert f"**1 of {len(SPEEDS)} requirements reached**; missed: {missed}; {len(SPEEDS) - 2} not measured." in text
    rows = [line for line in text.splitlines() if line.startswith(("| edgeline |", "| litert |", "| openvino |"))]
    assert rows[0].startswith("| edgeline | 5 us | 5 us | 1.00 | 0.0% | 0.9800 | 100.00% |")
    assert rows[1].startswith("| litert | 13 us | 13 us | 2.60 |")
    assert rows[2].endswith("not compared: openvino is not installed |")
    assert "| C program | - | - | 0 | no main.c |" in text
    assert "- quick\n- lenet fp32, batch 1, 1 thread: the machine drifted" in text
    record = json.loads(json.dumps(record_of(lines, outcomes, {"C program": "no main.c"}, {"facts": {}})))
    assert record["cases"][0]["rows"][0]["median_s"] == 5e-6
    assert record["requirements"][0]["verdict"] == "reached by 30%"


# The C program


def test_the_process_clock_counts_from_start_to_end(tmp_path):
    clock = compile_c(program._PROCESS_CLOCK, ("-O2", "-std=c11"))

    def run(*argv):
        done = subprocess.run([clock, *argv], capture_output=True, text=True)
        return done.returncode, json.loads(done.stdout)

    code, found = run("3", "/bin/sleep", "0.02")
    assert code == 0
    assert len(found["seconds"]) == 3
    assert min(found["seconds"]) >= 0.02
    assert 100_000 < found["peak_bytes"] < 20_000_000
    code, found = run("1", sys.executable, "-c", "x = bytearray(64_000_000); x[::4096] = b'1' * len(x[::4096])")
    assert (code, found["peak_bytes"] > 64_000_000) == (0, True)
    assert run("1", "/bin/false") == (1, {"error": "the program did not end with exit code 0"})
    assert run("1", str(tmp_path / "none")) == (1, {"error": "the program does not start"})
    assert run("0", "/bin/true") == (1, {"error": "expected RUNS PROGRAM"})


def test_the_program_of_an_artefact_is_compiled_and_started(artefact):
    """A main.c that needs the network's own source, as that of the C format does."""
    opened = open_artefact(artefact)
    (artefact / "lenet.h").write_text("int answer(void);\n")
    (artefact / "lenet.c").write_text('#include "lenet.h"\nint answer(void) { return 0; }\n')
    (artefact / "main.c").write_text('#include "lenet.h"\nint main(void) { return answer(); }\n')
    found = program.program_start(opened, 2, 0)
    assert len(found.seconds) == 2
    assert found.peak_bytes < 20_000_000
    (artefact / "main.c").write_text("int main(void) { return 1; }\n")
    with pytest.raises(EdgelineError, match="did not end with exit code 0"):
        program.program_start(opened, 1, 0)
    (artefact / "main.c").write_text("int main(void) { return none }\n")
    with pytest.raises(EdgelineError, match=r"main.c does not compile"):
        program.program_start(opened, 1, 0)


def test_an_artefact_without_a_library_or_a_program_is_told(exported):
    opened = open_artefact(exported)
    with pytest.raises(MissingCapabilityError, match=r"holds no shared library: --format c"):
        program.measure_floor(opened, 1, 0.01, 0)
    with pytest.raises(MissingCapabilityError, match=r"holds no main.c: --format c"):
        program.program_start(opened, 1, 0)


# The command


def script(name):
    spec = importlib.util.spec_from_file_location(f"{name}_experiment", SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def experiment():
    return script("peers")


def test_without_its_converter_no_litert_model_is_made(command, weights_folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "litert_torch", None)
    argv = ("--models", "lenet", "--weights", weights_folder, "--out", tmp_path)
    code, _, err = command(script("litert_models").main, *argv)
    assert code == 3
    assert "litert-torch is not installed" in one_line(err)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("argv", [("--rounds", 0), ("--slot", -1), ("--models", "vgg")])
def test_wrong_calls(experiment, command, tmp_path, argv):
    assert command(experiment.main, "--out", tmp_path / "o.md", *argv)[0] == 2


@pytest.mark.slow
def test_the_command_from_weights_to_table(experiment, command, weights_folder, tmp_path):
    argv = ("--quick", "--models", "lenet", "--format", "onnx", "--weights", weights_folder, "--tflite", tmp_path)
    code, out, _ = command(experiment.main, *argv, "--work", tmp_path / "work", "--out", tmp_path / "o.md")
    assert code == 0
    assert out.count("not measured") == len(SPEEDS) - 5 + 3
    text = (tmp_path / "o.md").read_text()
    assert "litert_models.py makes it" in text
    assert str(weights_folder) not in text
    record = json.loads((tmp_path / "o.json").read_text())
    assert len(record["cases"]) == 4
