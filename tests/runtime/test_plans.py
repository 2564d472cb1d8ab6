"""Which plan runs an artefact here: the keys of the cache, and the choice between the cached plan and the own."""

from dataclasses import replace

import pytest

from edgeline.artefact import open_artefact
from edgeline.cache import write_checked
from edgeline.errors import ArtefactError, MissingCapabilityError
from edgeline.tensorrt import plans
from tests.runtime.tensorrt_fakes import GPU, fake_product, make_artefact, plan_bytes


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGELINE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "plans"


@pytest.fixture
def flat(tmp_path):
    return open_artefact(make_artefact(tmp_path / "flat.fp32.trt-rtx", "trt-rtx"))


def test_the_key_is_made_of_all_that_decides_the_plan(flat, tmp_path):
    product = fake_product("trt-rtx")

    def digest(artefact=flat, product=product, gpu=GPU):
        return plans.plan_key(artefact, product, gpu).digest

    def changed(**changes):
        return replace(flat, manifest=replace(flat.manifest, **changes))

    first = digest()
    others = [
        digest(open_artefact(make_artefact(tmp_path / "seed", "trt-rtx", seed=1))),
        digest(changed(precision="int8")),
        digest(changed(batch=replace(flat.manifest.batch, max=16))),
        digest(product=fake_product("trt-rtx", "1.7.2.5")),
        digest(product=fake_product("trt", "1.7.1.116")),
        digest(gpu=replace(GPU, name="Testine 5000")),
        digest(gpu=replace(GPU, compute_capability="12.0")),
        digest(gpu=replace(GPU, driver="13.1")),
    ]
    others.append(replace(plans.plan_key(flat, product, GPU), builder_revision=plans.BUILDER_REVISION + 1).digest)
    assert len({first, *others}) == 1 + len(others)
    assert digest(open_artefact(make_artefact(tmp_path / "elsewhere", "trt-rtx"))) == first  # no path, no date
    assert digest(gpu=replace(GPU, memory_bytes=1)) == first


def test_targets_are_this_gpu_where_the_product_takes_any(flat):
    assert plans.settings_of(flat, fake_product("trt-rtx"), GPU).compute_capabilities == ("8.9",)
    assert plans.settings_of(flat, fake_product("trt"), GPU).compute_capabilities == ()


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "int8", "int8+fp16"])
def test_the_device_builds_in_the_artefacts_precision(flat, precision):
    artefact = replace(flat, manifest=replace(flat.manifest, precision=precision))
    assert plans.settings_of(artefact, fake_product("trt"), GPU).precision == precision


@pytest.mark.parametrize(
    ("format_name", "plan", "target", "reason"),
    [
        ("trt", None, {}, "is built on the device, and none is cached for TensorRT 10.9.0.34 on Testine 4000"),
        ("trt-rtx", plan_bytes(targets=("12.0",)), {}, "built for compute capability 12.0, Testine 4000 has 8.9"),
        ("trt-rtx", plan_bytes(version="1.6.0.1"), {}, "made by TensorRT-RTX 1.6.0.1, here is 1.7.1.116"),
        ("trt-rtx", plan_bytes("trt"), {}, "made by TensorRT 10.9.0.34, TensorRT-RTX is needed"),
        ("trt-rtx", plan_bytes(total=1000), {}, "has 68 bytes where its header tells 1000"),
        ("trt", plan_bytes("trt"), {"compute_capability": "8.7"}, "built for compute capability 8.7"),
        ("trt", plan_bytes("trt"), {"compute_capabilities": ["8.7"]}, "built for compute capability 8.7"),
    ],
)
def test_without_a_plan_that_fits_the_error_names_the_command(tmp_path, format_name, plan, target, reason):
    artefact = open_artefact(make_artefact(tmp_path / "a", format_name, plan=plan, target=target))
    with pytest.raises(MissingCapabilityError) as caught:
        plans.ready_plan(artefact, fake_product(format_name), GPU)
    assert reason in str(caught.value)
    assert str(caught.value).endswith(f"edgeline build {artefact.folder}")


@pytest.mark.parametrize(
    ("format_name", "plan", "target", "installed"),
    [
        ("trt-rtx", plan_bytes(targets=("8.0", "8.9")), {}, "1.7.1.116"),
        ("trt", plan_bytes("trt"), {"compute_capability": "8.9"}, "10.9.0.34"),
        ("trt", plan_bytes("trt"), {}, "10.9.0"),  # as TensorRT's Debian package calls itself
        ("trt", plan_bytes("trt", total=1000), {}, "10.9.0"),  # its header is not known to tell the size
    ],
)
def test_the_artefacts_own_plan_where_it_fits(tmp_path, cache, format_name, plan, target, installed):
    artefact = open_artefact(make_artefact(tmp_path / "a", format_name, plan=plan, target=target))
    found = plans.ready_plan(artefact, fake_product(format_name, installed), GPU)
    assert found.parent == artefact.folder
    assert not cache.exists()  # looking makes nothing


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("10.3.0.30", "10.3.0.30", True),
        ("10.3.0.30", "10.3.0", True),
        ("10.3.0.30", "10.3.0.26", False),
        ("10.3.0.30", "10.3.1", False),
        ("10.3.0.30", "10.3", False),  # too little to tell
        ("1.7.1.116", "11.7.1.116", False),
    ],
)
def test_versions(one, other, same):
    assert plans.is_same_version(one, other) is same
    assert plans.is_same_version(other, one) is same


def test_a_plan_that_is_none_is_an_error(tmp_path):
    artefact = open_artefact(make_artefact(tmp_path / "a", "trt-rtx", plan=b"x" * 100))
    with pytest.raises(ArtefactError, match="is no TensorRT engine"):
        plans.ready_plan(artefact, fake_product("trt-rtx"), GPU)


def test_a_whole_cached_plan_comes_first(tmp_path):
    """It was built here, because the artefact's own had failed or did not fit."""
    artefact, product = (
        open_artefact(make_artefact(tmp_path / "a", "trt-rtx", plan=plan_bytes())),
        fake_product("trt-rtx"),
    )
    cached = plans.cached_plan(artefact, product, GPU)
    own = artefact.folder / "model.rtxplan"
    assert plans.ready_plan(artefact, product, GPU) == own
    write_checked(cached, plan_bytes(body=b"built here"))
    assert plans.ready_plan(artefact, product, GPU) == cached
    cached.write_bytes(b"damaged")
    assert plans.ready_plan(artefact, product, GPU) == own


def test_an_artefact_without_a_graph_has_no_key(flat):
    manifest = replace(flat.manifest, files={k: v for k, v in flat.manifest.files.items() if k != "model.onnx"})
    with pytest.raises(ArtefactError, match=r"has no model\.onnx"):
        plans.plan_key(replace(flat, manifest=manifest), fake_product("trt-rtx"), GPU)
