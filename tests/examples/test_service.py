"""examples/python-service: what it answers, and that it stays up while things go wrong around it."""

import importlib
import json
import os
import shutil
import signal
import socket
import sys
import threading

import numpy as np
import pytest

import edgeline
from edgeline.images import array_from_file
from edgeline.selftest import Selftest
from tests.examples.conftest import DIGITS
from tests.examples.service import FOLDER, TIMEOUT_S, Service, until

FOUR = DIGITS[0]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the service forks, and looks at Linux's /proc")


@pytest.fixture(scope="module")
def service(exported_c):
    running = Service(exported_c, "--workers", 2, "--request-seconds", 1, "--max-body", 5000).started()
    yield running
    running.close()


@pytest.fixture
def start(request):
    """Start a service of the test's own."""

    def run(artefact, *options):
        running = Service(artefact, *options)
        request.addfinalizer(running.close)
        return running

    return run


def post_of(length, body=b"", more=""):
    return f"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{more}\r\n".encode() + body


def moved(link, folder):
    """Let a link point to another folder, in one step."""
    new = link.with_name("next")
    new.symlink_to(folder)
    new.rename(link)


# --- answers ----------------------------------------------------------------------------------------------------------


def test_it_classifies(service, exported, classes):
    with edgeline.load(exported, engine="onnxruntime") as session:
        logits = session.infer(session.preprocess(array_from_file(FOUR))).astype(np.float64)[0]
    status, record = service.request("POST", "/classify", FOUR.read_bytes())
    assert status == 200
    assert record["probability"] == pytest.approx(np.exp(logits).max() / np.exp(logits).sum(), abs=1e-4)
    for path in DIGITS:
        status, record = service.request("POST", "/classify?from=test", path.read_bytes())
        assert (status, record["label"], str(record["class"])) == (200, classes[path], classes[path])
        assert record["model"] == "lenet-mnist-10k.fp32.c"


def test_it_is_healthy(service):
    status, record = service.request("GET", "/health")
    assert (status, record["status"], record["engine"]) == (200, "ok", "native")
    assert 0 <= record["max_abs_diff"] <= record["tolerance"] < 0.1


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("GET", "/", None, 404, "there is no /; there are /classify, /health"),
        ("GET", "/classify", None, 405, "/classify takes POST"),
        ("POST", "/health", b"", 405, "/health takes GET"),
        ("DELETE", "/classify", None, 405, "/classify takes POST"),
        ("BREW", "/classify", None, 501, "Unsupported method ('BREW')"),
        ("POST", "/classify", b"", 400, "no PGM image"),
        ("POST", "/classify", b"GIF89a", 400, "no PGM image"),
        ("POST", "/classify", b"P5\n28 28\n255\nabc", 400, "truncated or damaged"),
        ("POST", "/classify", b"P5\n2 2\n255\nabcd", 400, "expected images of 28 x 28 pixels, got 2 x 2"),
        ("POST", "/classify", bytes(5001), 413, "5001 bytes, 5000 are allowed"),
    ],
)
def test_bad_requests(service, method, path, body, status, words):
    found, record = service.request(method, path, body)
    assert (found, words in record["error"]) == (status, True), record


@pytest.mark.parametrize(
    ("content", "end", "status", "words"),
    [
        (b"hello\r\n\r\n", False, 400, "Bad request syntax"),
        (b"POST /classify HTTP/1.1\r\nHost: x\r\n\r\n", False, 411, "Content-Length"),
        (b"POST /classify HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", False, 411, "Content-Length"),
        (post_of("-1"), False, 400, "Content-Length is '-1'"),
        (post_of("9" * 5000), False, 413, "are allowed"),
        (post_of(797, b"P5\n"), True, 400, "the body ended after 3 of 797 bytes"),
        (post_of(797, b"P5\n"), False, 408, "did not come within 1 s"),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", False, 414, ""),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n", False, 431, ""),
    ],
)
def test_what_is_hardly_http(service, content, end, status, words):
    head, _, body = service.send(content, end).partition(b"\r\n\r\n")
    assert int(head.split()[1]) == status, head
    assert words in json.loads(body)["error"]


def test_slow_headers_do_not_hold_a_thread(service):
    assert service.send(b"GET /health HT") == b""  # it hangs up after --request-seconds


def test_many_slow_clients_do_not_stop_it(service):
    slow = [socket.create_connection(("127.0.0.1", service.port), TIMEOUT_S) for _ in range(40)]
    try:
        for connection in slow:
            connection.sendall(post_of(797, b"P5"))
        assert service.request("POST", "/classify", FOUR.read_bytes())[0] == 200
    finally:
        for connection in slow:
            connection.close()


# --- health, from within ----------------------------------------------------------------------------------------------


@pytest.fixture
def modules(monkeypatch):
    """The service's modules, imported here."""
    monkeypatch.syspath_prepend(str(FOLDER))
    names = ("settings", "model", "handler", "worker")
    yield {name: importlib.import_module(name) for name in names}
    for name in names:
        sys.modules.pop(name, None)


def test_the_self_test_counts_for_a_while_and_then_is_run_again(modules, exported_c):
    model = modules["model"].Model(exported_c, "cpu", health_s=1000.0)
    good = model._selftest
    model._selftest = Selftest(good.inputs, good.logits + 1, good.tolerance)  # what it computes is wrong from now on
    assert model.health()["status"] == "ok"
    model._health_s = 0.0
    health = model.health()
    assert health["status"] == "failing"
    assert "a logit is off by" in health["error"]
    model._selftest = good
    assert model.health()["status"] == "ok"
    model.close()


def test_a_failing_self_test_is_503(modules, exported_c, tmp_path):
    model = modules["model"].Model(exported_c, "cpu", health_s=0.0)
    model._selftest = Selftest(model._selftest.inputs, model._selftest.logits * np.nan, 1.0)
    settings = modules["settings"].Settings(exported_c, 1, "cpu", 1000, 5.0, 0.0, 10.0)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        server = modules["worker"].Server(listener, model, settings)
        thread = threading.Thread(target=server.serve)
        thread.start()
        running = Service.__new__(Service)
        running.port = listener.getsockname()[1]
        model._selftest = Selftest(model._selftest.inputs, np.ones_like(model._selftest.logits) * 99, 1.0)
        status, record = running.request("GET", "/health")
        server.stop()
        thread.join(TIMEOUT_S)
    assert (status, record["status"]) == (503, "failing")
    assert "allowed 1" in record["error"]


# --- models change ----------------------------------------------------------------------------------------------------


class Clients:
    """Threads that ask without a break, and keep what they were told."""

    def __init__(self, service, count=3):
        self.answers, self.faults, self._stop = [], [], threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(service,)) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _run(self, service):
        while not self._stop.is_set():
            try:
                self.answers.append(service.request("POST", "/classify", FOUR.read_bytes()))
            except Exception as error:
                self.faults.append(repr(error))

    def stop(self):
        self._stop.set()
        for thread in self._threads:
            thread.join(TIMEOUT_S)


def test_models_change_under_load_and_no_request_fails(start, exported, exported_c, tmp_path):
    bad = shutil.copytree(exported, tmp_path / "bad")
    (bad / "model.onnx").write_bytes(b"damaged")
    link = tmp_path / "current"
    moved(link, exported_c)
    service = start(link, "--workers", 2).started()
    before = service.workers()
    clients = Clients(service)
    try:
        until(lambda: clients.answers, "a first answer")
        moved(link, exported)
        service.signal(signal.SIGHUP)
        service.line("reloaded on")
        assert not before & service.workers()
        seen = len(clients.answers)
        until(lambda: len(clients.answers) > seen + 20, "answers of the new model")

        moved(link, bad)
        service.signal(signal.SIGHUP)
        assert f"the old one goes on: {exported.resolve()}" in service.line("the new model is refused")
        assert "export it again" in service.line("model.onnx has 7 bytes")
    finally:
        clients.stop()
    assert clients.faults == []
    assert {status for status, _ in clients.answers} == {200}
    models = [record["model"] for _, record in clients.answers]
    assert models[0] == exported_c.name
    assert models[-1] == exported.name
    # A worker that dies now comes back with the model that was found good, and not with what the link points to.
    for victim in service.workers():
        os.kill(victim, signal.SIGKILL)
        service.line(f"worker {victim} died (signal 9)")
    assert service.request("POST", "/classify", FOUR.read_bytes())[1]["model"] == exported.name
    service.signal(signal.SIGTERM)
    assert service.ended() == 0


def test_a_model_that_fails_its_self_test_is_refused(start, exported_c, edit_manifest, tmp_path):
    wrong = shutil.copytree(exported_c, tmp_path / "wrong")
    arrays = dict(np.load(wrong / "selftest.npz"))
    np.savez(wrong / "selftest.npz", **{**arrays, "logits": arrays["logits"] + 1})
    edit_manifest(wrong)
    link = tmp_path / "current"
    moved(link, exported_c)
    service = start(link, "--workers", 1).started()
    worker = service.worker_that_answers()
    moved(link, wrong)
    service.signal(signal.SIGHUP)
    service.line("self-test of wrong on native failed")
    service.line("the new model is refused (exit code 1)")
    assert service.worker_that_answers() == worker


def test_the_old_folder_may_go_once_its_model_runs(start, exported_c, tmp_path):
    copy = shutil.copytree(exported_c, tmp_path / "copy")
    service = start(copy, "--workers", 1, "--health-seconds", 0).started()
    shutil.rmtree(copy)
    assert service.request("GET", "/health")[1]["status"] == "ok"
    assert service.request("POST", "/classify", FOUR.read_bytes())[0] == 200


# --- processes end ----------------------------------------------------------------------------------------------------


def test_a_killed_worker_is_replaced(start, exported_c):
    service = start(exported_c, "--workers", 2).started()
    before = service.workers()
    victim = service.worker_that_answers()
    assert victim in before
    os.kill(victim, signal.SIGKILL)
    service.line(f"worker {victim} died (signal 9)")
    assert service.request("POST", "/classify", FOUR.read_bytes())[0] == 200
    until(lambda: len(service.workers() - {victim}) == 2, "the new worker")


def test_workers_that_die_again_and_again_end_it(start, exported_c):
    service = start(exported_c, "--workers", 1).started()
    for count in range(5):
        worker = service.worker_that_answers()
        os.kill(worker, signal.SIGKILL)
        until(lambda: sum(" died (signal 9)" in line for line in service.lines) > count, "its end")  # noqa: B023
    assert service.ended() == 1
    assert "5 workers died within 60 s" in "".join(service.lines)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_end_waits_for_a_request(start, exported_c, number):
    service = start(exported_c, "--workers", 2).started()
    content = FOUR.read_bytes()
    with socket.create_connection(("127.0.0.1", service.port), TIMEOUT_S) as connection:
        connection.sendall(post_of(len(content), more="Expect: 100-continue\r\n"))
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")  # a worker is at it
        connection.sendall(content[:100])
        service.signal(number)
        service.line("ending: ")
        connection.sendall(content[100:])
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert service.ended() == 0


def test_the_end_does_not_wait_for_ever(start, exported_c):
    service = start(exported_c, "--workers", 1, "--request-seconds", 0.5, "--grace", 5).started()
    with socket.create_connection(("127.0.0.1", service.port), TIMEOUT_S) as connection:
        connection.sendall(post_of(797, more="Expect: 100-continue\r\n"))
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        service.signal(signal.SIGTERM)
        assert service.ended() == 0
        assert b" 408 " in connection.recv(65536)


def test_workers_do_not_outlive_a_killed_supervisor(start, exported_c):
    service = start(exported_c, "--workers", 2).started()
    workers = service.workers()
    assert len(workers) == 2
    service.signal(signal.SIGKILL)
    assert service.ended() == -signal.SIGKILL  # and its stderr has ended, which the workers held open too
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", service.port), TIMEOUT_S)


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--workers", "0"], 2, "--workers must be at least 1"),
        (["--grace", "1"], 2, "--grace must be more than --request-seconds"),
        (["--host", "192.0.2.1"], 2, "cannot listen on 192.0.2.1:0"),
        (["--device", "cuda"], 3, "is a C library for the CPU"),
    ],
)
def test_a_service_that_cannot_start_says_why(start, exported_c, options, code, words):
    service = start(exported_c, *options)
    assert service.ended() == code
    assert sum(words in line for line in service.lines) == 1, service.lines


def test_an_artefact_that_is_not_there(start, tmp_path):
    service = start(tmp_path / "nothing", "--workers", 3)
    assert service.ended() == 2
    assert service.lines[0] == f"edgeline-service: there is no artefact at {tmp_path}/nothing; export-model writes one"


def test_the_unit_starts_it_with_options_that_there_are():
    unit = (FOLDER / "edgeline-service.service").read_text()
    command = next(line for line in unit.splitlines() if line.startswith("ExecStart=")).split()
    assert command[1].endswith("/service.py")
    known = (FOLDER / "service.py").read_text()
    assert all(f'"{word}"' in known for word in command if word.startswith("--"))
    # systemd must wait longer than the service does.
    grace = float(command[command.index("--grace") + 1])
    assert f"TimeoutStopSec={int(grace) + 5}\n" in unit
