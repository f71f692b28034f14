"""Devices that this machine need not have: what torch reports is faked, what follows is looked at."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn

from ffdi.config.schema import Config
from ffdi.core import cuda, machine
from ffdi.core.cuda import Driver, Gpu
from ffdi.core.errors import ConfigError, DataError, DeviceError, TrainingError
from ffdi.data.loading.loader import Batch
from ffdi.models import detector
from ffdi.training import augment, loop
from ffdi.training.runtime import device as devices
from ffdi.training.runtime.device import Device


def fake(
    monkeypatch: pytest.MonkeyPatch,
    *,
    capability: tuple[int, int] = (9, 0),
    count: int = 2,
    others: tuple[tuple[int, int], ...] = (),
    architectures: tuple[str, ...] = ("sm_61", "sm_75", "sm_80", "sm_90"),
) -> None:
    """Makes torch report CUDA devices: `count` of one capability, then others."""
    gpus = [capability] * count + list(others)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: len(gpus) > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(gpus))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"Card {index}")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: gpus[index])
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: list(architectures))
    monkeypatch.setattr(cuda, "query_driver", lambda: None)
    monkeypatch.setattr(machine, "count_cores", lambda: 16)


def fake_cpu(monkeypatch: pytest.MonkeyPatch, *, bf16: bool) -> None:
    """Makes torch report no CUDA device and a CPU with or without bf16."""
    fake(monkeypatch, count=0)
    monkeypatch.setattr(devices, "_has_cpu_bf16", lambda: bf16)


@pytest.mark.parametrize(
    ("capability", "precision", "scaled"),
    [((9, 0), "bf16", False), ((8, 0), "bf16", False), ((7, 5), "fp16", True), ((6, 1), "fp32", False)],
)
def test_gpu_precision_follows_the_compute_capability(
    capability: tuple[int, int], precision: str, scaled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(monkeypatch, capability=capability)
    device = devices.choose_device("auto", "auto", None)
    assert (device.name, device.precision, device.pin_memory, device.workers) == ("cuda:0", precision, True, 15)
    assert device.make_scaler()._enabled is scaled


def test_auto_explains_the_chosen_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch)
    assert devices.choose_device("auto", "auto", None).why == (
        "cuda:0 (Card 0), the first of 2; bf16: compute capability 9.0 multiplies in bf16; 16 threads, "
        "15 loader workers"
    )
    assert devices.choose_device("cuda:1", "fp16", 3).why == (
        "cuda:1 (Card 1), as requested; fp16: set in config.toml; 16 threads, 3 loader workers"
    )


def test_without_a_gpu_the_cpu_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_cpu(monkeypatch, bf16=True)
    assert devices.choose_device("auto", "auto", None).why == (
        "the CPU: there is no CUDA device; bf16: the CPU multiplies in bf16; 16 threads, 0 loader workers"
    )
    fake_cpu(monkeypatch, bf16=False)
    device = devices.choose_device("cpu", "auto", 2)
    assert (device.precision, device.pin_memory, device.workers) == ("fp32", False, 2)


def test_scores_are_always_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch)
    assert devices.choose_device("auto", None, None).precision == "fp32"
    fake_cpu(monkeypatch, bf16=True)
    assert devices.choose_device("auto", None, None).precision == "fp32"


@pytest.mark.parametrize(
    ("asked", "count", "expected"),
    [
        ("cuda:2", 2, "no CUDA device 2: there are 2\nnext: pass --device auto or --device cpu"),
        ("cuda", 0, "no CUDA device 0: there is none\nnext: pass --device auto or --device cpu"),
    ],
)
def test_a_missing_gpu_is_refused(asked: str, count: int, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, count=count)
    with pytest.raises(DeviceError) as caught:
        devices.choose_device(asked, "auto", None)
    assert str(caught.value) == expected


T4 = Gpu("Tesla T4", (7, 5))
OLD = "it needs a driver for CUDA 13.0, and this one is for CUDA"
INSTALL = "install a newer driver, or a torch for CUDA 12, or pass --device cpu"


@pytest.mark.parametrize(
    ("driver", "built", "expected"),
    [
        (Driver((12, 2), (T4,)), "13.0", f"1 GPU (Tesla T4) that torch 2.14.1 cannot use: {OLD} 12.2\nnext: {INSTALL}"),
        (
            Driver((12, 8), (T4, T4)),
            "13.0",
            f"2 GPUs (Tesla T4, Tesla T4) that torch 2.14.1 cannot use: {OLD} 12.8\nnext: {INSTALL}",
        ),
        (
            Driver((12, 4), (T4,)),
            None,
            "1 GPU (Tesla T4) that torch 2.14.1 cannot use: it is built without CUDA\n"
            "next: install a torch for CUDA 12.4 or older, or pass --device cpu",
        ),
        (
            Driver((13, 0), (T4,)),
            "12.8",
            "1 GPU (Tesla T4) that torch 2.14.1 cannot use: no permission for /dev/nvidia0\n"
            "next: correct that, or pass --device cpu",
        ),
    ],
)
@pytest.mark.parametrize("asked", ["auto", "cuda", "cuda:1"])
def test_gpus_that_torch_cannot_use_are_an_error(
    asked: str, driver: Driver, built: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise RuntimeError("no permission for /dev/nvidia0\nsecond line")

    fake(monkeypatch, count=0)
    monkeypatch.setattr(cuda, "query_driver", lambda: driver)
    monkeypatch.setattr(torch, "__version__", "2.14.1")
    monkeypatch.setattr(torch.version, "cuda", built)
    monkeypatch.setattr(torch.cuda, "init", fail)
    with pytest.raises(DeviceError) as caught:
        devices.choose_device(asked, "auto", None)
    assert str(caught.value) == f"this machine has {expected}"
    assert devices.choose_device("cpu", "fp32", None).name == "cpu"


def test_a_driver_that_does_not_work_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, count=0)
    monkeypatch.setattr(cuda, "query_driver", lambda: Driver((12, 4), fault="CUDA error 803: driver mismatch"))
    with pytest.raises(DeviceError) as caught:
        devices.choose_device("auto", "auto", None)
    assert str(caught.value) == (
        "the CUDA driver does not work: CUDA error 803: driver mismatch\n"
        "next: restart the machine or install the driver again, or pass --device cpu"
    )


MODERN = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120")


def test_a_gpu_without_kernels_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, capability=(6, 1), count=1, others=((8, 9), (9, 0)), architectures=MODERN)
    device = devices.choose_device("auto", "auto", None)
    assert device.why.startswith(
        "cuda:1 (Card 1), the first of 2, without cuda:0 (Card 0, compute capability 6.1): torch has no kernels for it"
        "; bf16: compute capability 8.9 multiplies in bf16; "
    )
    assert [[one.name for one in group] for group in devices.assign_devices(device, "auto", 2, None)] == [
        ["cuda:1"],
        ["cuda:2"],
    ]
    assert devices.choose_device("cuda", "auto", None).name == "cuda:1"
    with pytest.raises(DeviceError) as caught:
        devices.choose_device("cuda:0", "auto", None)
    assert str(caught.value) == (
        f"torch {torch.__version__} has no kernels for cuda:0 (Card 0, compute capability 6.1); it has those for "
        "sm_75, sm_80, sm_86, sm_90, sm_100, sm_120, compute_120\n"
        "next: install a torch with kernels for it, or pass --device auto or --device cpu"
    )


def test_no_gpu_has_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, capability=(6, 0), architectures=MODERN)
    with pytest.raises(DeviceError) as caught:
        devices.choose_device("auto", "auto", None)
    assert str(caught.value).startswith(f"torch {torch.__version__} has no kernels for cuda:0 (Card 0, compute ")
    assert str(caught.value).endswith("next: install a torch with kernels for it, or pass --device cpu")


@pytest.mark.parametrize(
    ("capability", "architectures", "runs"),
    [
        ((8, 9), ("sm_80",), True),  # a newer minor version of the same major one
        ((8, 0), ("sm_86",), False),
        ((9, 0), ("sm_80",), False),
        ((12, 1), MODERN, True),
        ((13, 0), MODERN, True),  # PTX
        ((10, 3), ("sm_100a",), False),
        ((10, 3), ("sm_100f",), True),
        ((6, 1), (), True),  # torch does not say
        ((9, 0), ("gfx90a",), True),
    ],
)
def test_kernels_run_on_compatible_gpus(
    capability: tuple[int, int], architectures: tuple[str, ...], runs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(monkeypatch, capability=capability, count=1, architectures=architectures)
    assert devices._list_usable_gpus() == [0] * runs
    assert cuda.has_kernels(capability, architectures) == runs


def test_unlike_gpus_train_in_a_precision_of_both(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, capability=(9, 0), count=1, others=((7, 5),))
    assert devices.choose_device("auto", "auto", None).precision == "fp16"
    assert devices.choose_device("cuda:0", "auto", None).precision == "bf16"


@pytest.mark.parametrize("asked", ["gpu", "cuda:", "cuda:x", "cuda:-1", "CPU", ""])
def test_an_unknown_device_is_refused(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch)
    with pytest.raises(ConfigError) as caught:
        devices.choose_device(asked, "auto", None)
    assert str(caught.value) == (
        f"unknown device '{asked}': known: auto, cpu, cuda, cuda:N, mps\nnext: pass --device auto"
    )


def test_fp16_on_a_cpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_cpu(monkeypatch, bf16=True)
    with pytest.raises(ConfigError) as caught:
        devices.choose_device("cpu", "fp16", None)
    assert str(caught.value) == (
        "train.precision = 'fp16' needs a CUDA device\nnext: set train.precision to 'auto', 'bf16' or 'fp32'"
    )


@pytest.mark.parametrize("api", ["none", "old", "new", "both", "global"])
def test_tf32_is_disabled_and_restored(api: str) -> None:
    """In a process of its own: torch has no way back to the state that it starts in."""
    code = f"""
import warnings
import torch
from ffdi.training.runtime import device

def read():
    try:
        return [one.allow_tf32 for one in (backends.cuda.matmul, backends.cudnn)]
    except RuntimeError:
        return None

warnings.simplefilter("ignore")
backends, api = torch.backends, {api!r}
kinds = backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn
if api in ("old", "both"):
    backends.cuda.matmul.allow_tf32 = backends.cudnn.allow_tf32 = True
if api in ("new", "both"):
    backends.cuda.matmul.fp32_precision = backends.cudnn.conv.fp32_precision = "tf32"
if api == "global":
    backends.fp32_precision = "tf32"
before, readable = [kind.fp32_precision == "tf32" for kind in kinds], read()
assert any(before)
with device.disable_tf32():
    assert "tf32" not in [kind.fp32_precision for kind in kinds]
assert [kind.fp32_precision == "tf32" for kind in kinds] == before
assert read() == readable
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_autocast_follows_the_precision() -> None:
    one = torch.ones(2, 2)
    with devices.choose_device("cpu", "bf16", 0).autocast():
        assert (one @ one).dtype == torch.bfloat16
    with devices.choose_device("cpu", "fp32", 0).autocast():
        assert (one @ one).dtype == torch.float32


def test_a_depthwise_convolution_stays_in_fp32_on_a_cpu() -> None:
    """Also its gradients, for which oneDNN has no fast bf16 kernels; all other convolutions are in bf16."""
    image = torch.rand(2, 4, 8, 8, requires_grad=True)
    weights = {
        "depthwise": torch.rand(8, 1, 3, 3),
        "pointwise": torch.rand(8, 4, 1, 1),
        "grouped": torch.rand(8, 2, 3, 3),
    }
    groups = {"depthwise": 4, "pointwise": 1, "grouped": 2}
    with devices.choose_device("cpu", "bf16", 0).autocast():
        halved = torch.nn.functional.conv2d(image, weights["pointwise"])
        found = {
            name: torch.nn.functional.conv2d(image, weight, groups=groups[name]).dtype
            for name, weight in weights.items()
        }
        after_others = torch.nn.functional.conv2d(halved, torch.rand(8, 1, 3, 3), None, 1, 1, 1, 8)
        of_grey = torch.nn.functional.conv2d(image[:, :1], torch.rand(8, 1, 3, 3))
    assert found == {"depthwise": torch.float32, "pointwise": torch.bfloat16, "grouped": torch.bfloat16}
    assert (halved.dtype, after_others.dtype, of_grey.dtype) == (torch.bfloat16, torch.float32, torch.bfloat16)
    with devices.choose_device("cpu", "fp32", 0).autocast():
        expected = torch.nn.functional.conv2d(image, weights["depthwise"], groups=4)
    with devices.choose_device("cpu", "bf16", 0).autocast():
        result = torch.nn.functional.conv2d(image, weights["depthwise"], groups=4)
    assert torch.equal(result, expected)
    gradients = [torch.autograd.grad(one.square().sum(), image)[0] for one in (result, expected)]
    assert torch.equal(*gradients)


def test_a_cpu_with_bf16_trains_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for bf16 in (True, False):
        fake_cpu(monkeypatch, bf16=bf16)
        assert devices.choose_device("auto", "auto", None).precision == ("bf16" if bf16 else "fp32")


@pytest.mark.parametrize(
    ("cores", "folds", "jobs", "count", "threads"),
    [(2, 5, None, 1, 2), (2, 4, None, 2, 1), (16, 5, None, 5, 3), (4, 3, None, 3, 1), (2, 5, 3, 3, 1), (8, 5, 2, 2, 4)],
)
def test_folds_on_a_cpu_share_its_cores(
    cores: int, folds: int, jobs: int | None, count: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_cpu(monkeypatch, bf16=True)
    monkeypatch.setattr(machine, "count_cores", lambda: cores)
    shared = devices.assign_devices(devices.choose_device("auto", "auto", None), "auto", folds, jobs)
    assert [(one.name, one.threads, one.workers) for [one] in shared] == [("cpu", threads, 0)] * count


@pytest.mark.parametrize(
    ("asked", "folds", "jobs", "names", "threads", "workers"),
    [
        ("auto", 5, None, ["cuda:0", "cuda:1"], 8, 7),
        ("cuda", 5, None, ["cuda:0", "cuda:1"], 8, 7),
        ("cuda:1", 5, None, ["cuda:1"], 16, 15),
        ("cuda:1", 5, 2, ["cuda:1", "cuda:1"], 8, 7),
        ("auto", 5, 4, ["cuda:0", "cuda:1", "cuda:0", "cuda:1"], 4, 3),
        ("auto", 2, 4, ["cuda:0", "cuda:1"], 8, 7),
    ],
)
def test_folds_are_assigned_to_all_requested_gpus(
    asked: str,
    folds: int,
    jobs: int | None,
    names: list[str],
    threads: int,
    workers: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake(monkeypatch)
    shared = devices.assign_devices(devices.choose_device(asked, "auto", None), asked, folds, jobs)
    assert [one.name for [one] in shared] == names
    assert {(one.threads, one.workers) for [one] in shared} == {(threads, workers)}


def test_every_fold_on_a_gpu_has_two_loader_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch)
    monkeypatch.setattr(machine, "count_cores", lambda: 4)
    device = devices.choose_device("auto", "auto", None)
    assert device.workers == 3
    assert {one.workers for [one] in devices.assign_devices(device, "auto", 5, None)} == {2}
    asked = devices.choose_device("auto", "auto", 1)
    assert {one.workers for [one] in devices.assign_devices(asked, "auto", 5, None)} == {1}


def test_each_fold_has_one_gpu_per_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, count=5)
    device = devices.choose_device("auto", "auto", None)
    shared = devices.assign_devices(device, "auto", 5, None, 2)
    assert [[one.name for one in some] for some in shared] == [["cuda:0", "cuda:1"], ["cuda:2", "cuda:3"]]
    assert {(one.threads, one.workers) for some in shared for one in some} == {(4, 3)}
    assert [one.name for one in devices.assign_devices(device, "auto", 5, 1, 5)[0]] == [
        f"cuda:{number}" for number in range(5)
    ]
    with pytest.raises(DeviceError) as error:
        devices.assign_devices(device, "auto", 5, None, 6)
    assert str(error.value) == ("--gpus-per-fold 6: there are 5 CUDA devices\nnext: pass --gpus-per-fold 5")
    with pytest.raises(DeviceError) as error:
        devices.assign_devices(devices.choose_device("cuda:1", "auto", None), "cuda:1", 5, None, 2)
    assert str(error.value) == (
        "--gpus-per-fold 2: there is 1 CUDA device\nnext: pass --gpus-per-fold 1, or --device auto"
    )


@pytest.mark.parametrize(
    ("cores", "ranks", "jobs", "count", "threads"),
    [(2, 2, None, 1, 1), (16, 2, None, 5, 1), (8, 4, 1, 1, 2), (2, 4, 2, 2, 1)],
)
def test_ranks_on_a_cpu_share_its_cores(
    cores: int, ranks: int, jobs: int | None, count: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_cpu(monkeypatch, bf16=True)
    monkeypatch.setattr(machine, "count_cores", lambda: cores)
    shared = devices.assign_devices(devices.choose_device("auto", "auto", None), "auto", 5, jobs, ranks)
    assert [[(one.name, one.threads) for one in some] for some in shared] == [[("cpu", threads)] * ranks] * count


class CudaOnCpu(Device):
    """Counts as a GPU, and computes on the CPU."""

    @property
    def kind(self) -> str:
        return "cuda"

    @property
    def torch(self) -> torch.device:
        return torch.device("cpu")


GPU = CudaOnCpu("cuda:0", "fp32", 1, 0, "")
PUT = "put_ does not have a deterministic implementation"
"""torch has no deterministic kernel for it, not even on a CPU."""


def read_switches() -> list[bool]:
    """The switches of torch that choose deterministic kernels."""
    return [
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.benchmark,
        torch.utils.deterministic.fill_uninitialized_memory,
    ]


def put(values: torch.Tensor) -> torch.Tensor:
    return values.clone().put_(torch.tensor([0]), torch.zeros(1))


@pytest.mark.parametrize(
    ("enabled", "tolerant", "inside"),
    [(True, False, [True, False]), (True, True, [True, True]), (False, False, [False, False])],
)
def test_kernels_are_deterministic_inside_only(enabled: bool, tolerant: bool, inside: list[bool]) -> None:
    before = read_switches()
    with GPU.deterministic(enabled, tolerant=tolerant):
        assert read_switches() == [*inside, not enabled, False]
    assert read_switches() == before == [False, False, False, True]
    with Device("cpu", "fp32", 1, 0, "").deterministic():
        assert read_switches() == before


def test_scores_are_deterministic_within_a_fast_training() -> None:
    with GPU.deterministic(False):
        with GPU.scoring():
            assert read_switches() == [True, True, False, False]
        assert read_switches() == [False, False, True, False]


@pytest.mark.filterwarnings("error")
def test_an_operation_without_a_deterministic_kernel_is_named() -> None:
    assert GPU.list_nondeterministic(lambda: torch.ones(2).sum()) == []
    assert GPU.list_nondeterministic(lambda: put(torch.ones(2))) == ["put_"]
    with GPU.deterministic(tolerant=True):
        put(torch.ones(2))  # without a warning
    with pytest.raises(TrainingError) as caught, GPU.deterministic():
        put(torch.ones(2))
    assert str(caught.value) == (
        "put_ has no deterministic kernel on cuda:0\nnext: set train.deterministic = false in config.toml"
    )
    with pytest.raises(RuntimeError, match="shapes differ"), GPU.deterministic():
        raise RuntimeError("shapes differ")
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("change", [None, put])
def test_a_step_is_tried_on_a_copy(change: Callable[[torch.Tensor], torch.Tensor] | None) -> None:
    config = Config.model_validate({"model": {"backbone": "test_resnet", "pretrained": False, "size": 64}})
    network = detector.build_initialized(config, None)
    if change is not None:
        network.backbone.register_forward_hook(lambda _module, _given, result: change(result))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert loop.list_nondeterministic(network, config, GPU) == ([] if change is None else ["put_"])
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert loop.list_nondeterministic(network, config, Device("cpu", "fp32", 1, 0, "")) == []


def test_the_augmentation_on_a_gpu_is_tried_too(monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config.model_validate(
        {
            "model": {"backbone": "test_resnet", "pretrained": False, "size": 64},
            "augment": {"recipe": "strong", "device": True},
        }
    )
    network = detector.build_initialized(config, None)
    monkeypatch.setattr(Device, "pin_memory", property(lambda _: False))
    assert loop.list_nondeterministic(network, config, GPU) == []
    erase = augment.OPERATIONS["erase"]
    monkeypatch.setitem(augment.OPERATIONS, "erase", erase._replace(apply=lambda pixels, _: put(pixels.float()).byte()))
    assert loop.list_nondeterministic(network, config, GPU) == ["put_"]


@pytest.mark.parametrize(
    ("name", "deterministic", "ranks", "expected"),
    [
        ("cpu", True, 1, "cpu in bf16 (AVX2, 8 threads, torch 2.14.1)"),
        ("cpu", False, 2, "cpu in bf16 (AVX2, 8 threads, torch 2.14.1, 2 ranks)"),
        ("cuda:1", True, 1, "cuda in bf16 (Card 1, compute capability 9.0, cuDNN 91002, torch 2.14.1)"),
        (
            "cuda:1",
            False,
            2,
            "cuda in bf16 (Card 1, compute capability 9.0, cuDNN 91002, not deterministic, torch 2.14.1, 2 ranks)",
        ),
    ],
)
def test_a_checkpoint_records_what_the_last_bits_depend_on(
    name: str, deterministic: bool, ranks: int, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(monkeypatch)
    monkeypatch.setattr(torch, "__version__", "2.14.1")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91002)
    assert Device(name, "bf16", 8, 0, "").describe_machine(deterministic, ranks) == expected


@pytest.mark.parametrize(("given", "expected"), [(None, ":4096:8"), (":16:8", ":16:8")])
def test_a_gpu_is_selected_before_it_is_used(given: str | None, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the first GPU is used too."""
    used: list[object] = []
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    if given is not None:
        monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", given)
    else:
        monkeypatch.setitem(os.environ, "CUBLAS_WORKSPACE_CONFIG", "")  # undone at the end
        del os.environ["CUBLAS_WORKSPACE_CONFIG"]
    monkeypatch.setattr(torch.cuda, "set_device", used.append)
    network = nn.Conv2d(3, 4, 1)
    monkeypatch.setattr(network, "to", lambda device, **_: used.append(device) or network)
    Device("cuda:1", "fp32", torch.get_num_threads(), 0, "").prepare(network)
    assert used == [torch.device("cuda:1")] * 2
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == expected


def test_short_shared_memory_means_fewer_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch)
    batch = 10_000_000  # bytes; each worker makes two batches ahead
    monkeypatch.setattr(machine, "read_free_shared_memory", lambda: 64_000_000)
    device = devices.choose_device("auto", "auto", None, batch_bytes=batch)
    assert device.workers == 3
    assert device.why.endswith(
        "16 threads, 3 loader workers (/dev/shm has 64 MB free; start the container with more: docker run --shm-size "
        "4g, or --ipc=host)"
    )
    assert {one.workers for [one] in devices.assign_devices(device, "auto", 5, None)} == {1}
    assert devices.choose_device("auto", "auto", 8, batch_bytes=batch).workers == 8  # the loader refuses them
    monkeypatch.setattr(machine, "read_free_shared_memory", lambda: 1_000_000)
    assert devices.choose_device("auto", "auto", None, batch_bytes=batch).workers == 0
    monkeypatch.setattr(machine, "read_free_shared_memory", lambda: None)
    assert devices.choose_device("auto", "auto", None, batch_bytes=batch).workers == 15


def fake_mps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Mac, as torch shows it."""
    fake_cpu(monkeypatch, bf16=False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(machine, "read_free_shared_memory", lambda: None)


def test_a_mac_trains_on_its_gpu_by_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_mps(monkeypatch)
    assert devices.choose_device("auto", "auto", None).why.startswith(
        "the CPU: there is no CUDA device; --device mps is the GPU of this Mac; "
    )
    device = devices.choose_device("mps", "auto", None, batch_bytes=10_000_000)
    assert device.why == ("the GPU of this Mac, as requested; fp32: MPS trains in fp32; 16 threads, 15 loader workers")
    assert (device.name, device.kind, device.pin_memory, device.ids, device.backend) == (
        "mps",
        "mps",
        False,
        None,
        "gloo",
    )
    assert [len(device.activities), device.make_scaler().is_enabled()] == [1, False]
    assert [[one.name for one in group] for group in devices.assign_devices(device, "mps", 5, None)] == [["mps"]]
    with pytest.raises(DeviceError) as error:
        devices.assign_devices(device, "mps", 5, None, 2)
    assert str(error.value).startswith("--gpus-per-fold 2: there is 1 MPS device\n")
    with pytest.raises(ConfigError) as refused:
        devices.choose_device("mps", "bf16", None)
    assert str(refused.value) == (
        "train.precision = 'bf16': MPS trains in fp32\nnext: set train.precision to 'auto' or 'fp32'"
    )


def test_mps_without_a_mac_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_cpu(monkeypatch, bf16=False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(DeviceError) as error:
        devices.choose_device("mps", "auto", None)
    assert str(error.value) == ("no MPS device: torch finds no GPU of a Mac\nnext: pass --device auto or --device cpu")


def test_mps_has_no_channels_last_and_its_own_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []
    monkeypatch.setattr(torch.mps, "synchronize", lambda: calls.append("synchronize"))
    monkeypatch.setattr(torch.mps, "empty_cache", lambda: calls.append("empty_cache"))
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, device, **_: calls.append(device) or tensor)
    device = Device("mps", "fp32", torch.get_num_threads(), 0, "")
    device.synchronize()
    device.free_cache()
    images = torch.arange(2 * 4 * 4 * 3, dtype=torch.uint8).reshape(2, 4, 4, 3)
    sent = device.send(images)
    assert calls == ["synchronize", "empty_cache", torch.device("mps")]
    assert torch.equal(sent, images)
    assert sent.permute(0, 3, 1, 2).is_contiguous()
    network = nn.Conv2d(3, 4, 1)
    monkeypatch.setattr(network, "to", lambda _, *, memory_format: calls.append(memory_format) or network)
    device.prepare(network)
    assert calls[-1] == torch.contiguous_format
    monkeypatch.setattr("platform.mac_ver", lambda: ("15.1", ("", "", ""), "arm64"))
    assert device.describe_machine(True, 1) == f"mps in fp32 (macOS 15.1, torch {torch.__version__})"


class Streams:
    """A GPU's queues: what the host gave to which of them, in order.

    Attributes:
        given: pairs of a queue and a piece of work.
        asked: batches that were taken from the loader.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.given: list[tuple[str, str]] = []
        self.asked, self._now = 0, "steps"
        streams = self

        class Stream:
            def __init__(self, name: object) -> None:
                self.name = "copies" if isinstance(name, torch.device) else str(name)

            def wait_stream(self, other: Stream) -> None:
                streams.given.append((self.name, f"wait for {other.name}"))

            def __enter__(self) -> None:
                streams._now = self.name

            def __exit__(self, *_: object) -> None:
                streams._now = "steps"

        def send(tensor: torch.Tensor, device: torch.device, *, non_blocking: bool) -> torch.Tensor:
            assert (device, non_blocking) == (torch.device("cuda:1"), True)
            self.give(f"copy {int(tensor[0])}")
            return tensor

        monkeypatch.setattr(torch.cuda, "Stream", Stream)
        monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda _: Stream(self._now))
        monkeypatch.setattr(torch.Tensor, "to", send)
        monkeypatch.setattr(
            torch.Tensor, "record_stream", lambda image, by: self.give(f"{by.name} read {int(image[0])}")
        )

    def give(self, work: str) -> None:
        """To the stream that is current."""
        self.given.append((self._now, work))

    def load(self, count: int, broken: int | None = None) -> Iterator[Batch]:
        """Batches, of which one cannot be read."""
        for number in range(count):
            self.asked += 1
            if number == broken:
                raise DataError("3.jpg cannot be read")
            yield Batch(torch.tensor([number]), torch.tensor([0.0]), torch.tensor([number]))


SECOND_GPU = Device("cuda:1", "fp32", 4, 2, "")


def test_batches_are_copied_aside_while_the_gpu_computes_the_step_before(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = Streams(monkeypatch)
    for number, batch in enumerate(SECOND_GPU.send_batches(streams.load(2))):
        assert int(batch.index) == number
        assert streams.asked == number + 1  # what a step counts is what the loader gave
        streams.give(f"step {number}")
    assert streams.given == [
        ("copies", "copy 0"),
        ("steps", "wait for copies"),
        ("steps", "steps read 0"),
        ("steps", "step 0"),
        ("copies", "copy 1"),  # waits for nothing: step 0 may still be computed
        ("steps", "wait for copies"),
        ("steps", "steps read 1"),
        ("steps", "step 1"),
    ]


def test_an_unreadable_image_is_an_error_after_the_steps_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = Streams(monkeypatch)
    batches = SECOND_GPU.send_batches(streams.load(5, broken=2))
    for number in range(2):
        next(batches)
        streams.give(f"step {number}")
    with pytest.raises(DataError, match=r"3\.jpg"):
        next(batches)
    assert [work for _, work in streams.given if work.startswith(("step ", "copy"))] == [
        "copy 0",
        "step 0",
        "copy 1",
        "step 1",
    ]


@pytest.mark.parametrize("name", ["cpu", "mps"])
def test_without_streams_batches_are_handed_on(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    streams = Streams(monkeypatch)
    given = list(streams.load(3))
    assert [id(batch) for batch in Device(name, "fp32", 4, 2, "").send_batches(given)] == [id(one) for one in given]
    assert streams.given == []


@pytest.mark.parametrize(("name", "expected"), [("cpu", False), ("mps", False), ("cuda:1", True)])
def test_only_a_clock_of_the_device_tells_when_it_waits(
    name: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Event:
        """As torch's."""

        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self, stream: object) -> None:
            self.at = stream

        def elapsed_time(self, end: Event) -> float:
            return 1000.0 * (end.at - self.at)  # type: ignore[operator]

    moments = iter([3.0, 5.5])
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: next(moments))
    monkeypatch.setattr("time.perf_counter", lambda: next(moments))
    device = Device(name, "fp32", 4, 2, "")
    start, end = device.mark_time(), device.mark_time()
    assert isinstance(start, Event) is expected
    assert (device.has_clock, devices.compute_seconds(start, end)) == (expected, 2.5)
