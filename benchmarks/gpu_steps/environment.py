"""The step `env`: what this machine has, and what does not fit."""

from __future__ import annotations

import importlib
import os
import platform
import sys
from importlib import metadata

from ffdi.core import cuda, machine
from gpu_steps.run import Run

PACKAGES = {
    **{"torch": "torch", "torchvision": "torchvision", "timm": "timm", "albumentations": "albumentations"},
    **{"cv2": "opencv-python-headless", "PIL": "pillow", "numpy": "numpy", "pandas": "pandas", "scipy": "scipy"},
    **{"sklearn": "scikit-learn", "threadpoolctl": "threadpoolctl", "pydantic": "pydantic", "rich": "rich"},
    **{"safetensors": "safetensors", "huggingface_hub": "huggingface-hub", "onnx": "onnx", "onnxscript": "onnxscript"},
    **{"onnxruntime": "onnxruntime-gpu"},
}
"""The packages that the steps need, by their modules."""


def env(run: Run) -> None:
    """Records the machine, the driver, torch, ONNX Runtime and each runtime; a check fails where nothing can run."""
    run.record("python", sys.version.split()[0], note=platform.platform())
    free = machine.read_free_shared_memory()
    run.record("cores", machine.count_cores(), note=f"of {os.cpu_count()}")
    run.record("shared memory, GiB free", None if free is None else round(free / 2**30, 1))
    _record_packages(run)
    _record_driver(run)
    with run.attempt("torch"):
        _record_torch(run)
    with run.attempt("device"):
        _record_device(run)
    with run.attempt("runtimes"):
        _record_runtimes(run)


def _record_packages(run: Run) -> None:
    """Imports each package: its version says nothing about whether it fits the others."""
    for module, package in PACKAGES.items():
        try:
            version = getattr(importlib.import_module(module), "__version__", None) or metadata.version(package)
        except Exception as error:  # an import can fail in any way
            reason = "is missing" if getattr(error, "name", None) == module else f"cannot be imported: {error}"
            run.record(package, reason, ok=False)
        else:
            run.record(package, version, ok=True)


def _record_driver(run: Run) -> None:
    driver = cuda.query_driver()
    if driver is None:
        run.record("driver", None, note="there is no CUDA driver, or no device")
        return
    run.record("driver", f"for CUDA {cuda.format_version(driver.cuda)}", ok=not driver.fault, note=driver.fault)
    for number, gpu in enumerate(driver.gpus):
        run.record(f"GPU {number}", gpu.name, note=f"compute capability {cuda.format_version(gpu.capability)}")


def _record_torch(run: Run) -> None:
    import torch

    run.record("torch is built for CUDA", torch.version.cuda)
    if not torch.cuda.is_available():
        run.record("torch sees GPUs", 0)
        return
    run.record("torch has kernels for", " ".join(torch.cuda.get_arch_list()))
    run.record("torch sees GPUs", torch.cuda.device_count())
    run.record("cuDNN", torch.backends.cudnn.version())


def _record_device(run: Run) -> None:
    """The device that ffdi chooses, as all other steps use it."""
    import torch

    run.record("device", run.device.name, ok=True, note=run.device.why)
    if not run.cpu:
        free, total = torch.cuda.mem_get_info(run.device.torch)
        run.record("memory of the device, GiB", round(total / 2**30, 1), note=f"{free / 2**30:.1f} free")


def _record_runtimes(run: Run) -> None:
    import onnxruntime

    from ffdi.inference import select

    run.record("providers of onnxruntime", ", ".join(onnxruntime.get_available_providers()))
    for name, runtime in select.RUNTIMES.items():
        reason = runtime.missing(0)
        run.record(f"runtime {name}", reason or "can run here")
