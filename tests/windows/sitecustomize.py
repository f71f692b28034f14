"""Makes a process, and those that it starts, see Windows: Python imports this file at its start.

The standard library and the other libraries are imported before, for they work on this system only.
"""

import importlib
import multiprocessing
import os
import signal
import sys
from types import ModuleType

LIBRARIES = (
    *("asyncio", "multiprocessing.connection", "multiprocessing.popen_spawn_posix", "multiprocessing.resource_tracker"),
    *("multiprocessing.spawn", "subprocess", "albumentations", "cv2", "filelock", "invoke", "matplotlib.figure"),
    *("onnx", "onnxruntime", "onnxscript", "pandas", "rich.console", "scipy.stats", "sklearn", "timm", "torch._dynamo"),
    *("torch.distributed", "torch.export", "torch.multiprocessing", "torch.onnx", "torchvision"),
)
MODULES = ("fcntl", "grp", "pwd", "resource", "termios")
NAMES: dict[ModuleType, tuple[str, ...]] = {
    os: ("O_DIRECTORY", "O_NOFOLLOW", "fchmod", "fork", "geteuid", "getpgid", "getuid", "killpg", "pread", "setsid"),
    signal: ("SIGALRM", "SIGHUP", "SIGKILL", "SIGQUIT", "SIGUSR1", "setitimer"),
}
"""What Windows does not have."""


def refuse(how: int, signals: list[int]) -> None:
    """Takes the place of a function that `multiprocessing` needs on this system."""
    if sys._getframe(1).f_globals["__name__"].startswith("ffdi."):
        raise AttributeError("not on Windows")
    mask(how, signals)


for library in LIBRARIES:
    importlib.import_module(library)
for module in MODULES:
    sys.modules[module] = None  # type: ignore[assignment]  # its import fails
for namespace, names in NAMES.items():
    for name in names:
        delattr(namespace, name)
del os.sched_getaffinity
mask, signal.pthread_sigmask = signal.pthread_sigmask, refuse
os.add_dll_directory = lambda _path: None  # type: ignore[attr-defined]
multiprocessing.set_start_method("spawn")
sys.platform = "win32"
