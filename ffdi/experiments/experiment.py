"""The folder of an experiment: its paths, its lock, and the checks of its files."""

from __future__ import annotations

import errno
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from ffdi.config import schema
from ffdi.config.schema import Config, FoldsConfig, InputHashes, list_differences
from ffdi.core import files, links, manifests, signals
from ffdi.core.errors import ExperimentError
from ffdi.experiments.fold import FROZEN, FoldFolder, Identity

if sys.platform != "win32":
    import fcntl

EMPTY_SECONDS = 10.0
"""Age of a lock file without a holder that is removed; its writer needs milliseconds."""
WAIT_SECONDS = 0.5
"""Between two tries to get a lock that is waited for."""
REFIT = "refit"
"""The folder of the network that is trained on all images."""
TEACHER_FEATURES = "teacher_features.safetensors"
TRACE = "trace.json"
"""A file of torch's profiler; the only JSON file that is no manifest."""


@dataclass(frozen=True)
class Experiment:
    """A folder under experiments/: the user writes config.toml, and ffdi all other files."""

    folder: Path
    place: str = field(default="", compare=False)
    """The folder's path, if it is not under experiments/."""

    config_path = links.PathInFolder("config.toml")
    resolved_path = links.PathInFolder("resolved.json")
    """The identity at the start of the training, and the hash of folds.csv."""
    provenance_path = links.PathInFolder("provenance.json")
    """Place, time and versions of the last training."""
    folds_path = links.PathInFolder("folds.csv")
    """The held-out fold of each training image."""
    frozen_path = links.PathInFolder(FROZEN)
    """The weights that no fold changes, with a `model.tune` other than 'all'."""
    image_list_path = links.PathInFolder("images.csv")
    """The image list at the start of the training."""
    teachers_path = links.PathInFolder("teachers.csv")
    """The scores of the teachers for the training images, with `distill.teachers`."""
    teachers_record_path = links.PathInFolder("teachers.json")
    """The teachers' weights, and the hash of teachers.csv; written last."""
    teacher_features_path = links.PathInFolder(TEACHER_FEATURES)
    """The features of a teacher for the training images, with `distill.features`."""
    oof_path = links.PathInFolder("oof.csv")
    """The out-of-fold predictions of all folds."""
    trace_path = links.PathInFolder(TRACE)
    doctor_path = links.PathInFolder("doctor.json")
    """The findings of the images that it is trained on, or before a training those of the last scan."""
    other_findings_path = links.PathInFolder("doctor_other.json")
    """The findings of other images, of the last scan after a training."""
    stress_path = links.PathInFolder("stress.json")
    """AUC on degraded images."""
    distorted_path = links.PathInFolder("distorted")
    """A folder with the scores of distorted images so far, while they are computed."""
    reencoded_path = links.PathInFolder("reencoded.json")
    """AUC on images that are encoded alike."""
    shift_path = links.PathInFolder("shift.json")
    """The shift between splits, and the AUC by kind of image."""
    sweep_path = links.PathInFolder("sweep.csv")
    rates_path = links.PathInFolder("find_lr.csv")
    """Losses by learning rate; a chart is in the same folder."""
    metrics_path = links.PathInFolder("metrics.json")
    """The scores of oof.csv."""
    live_path = links.PathInFolder("live.html")
    """The page of `report --live`."""

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def reference(self) -> str:
        """What names it in a config.toml and, quoted for a shell, on a command line."""
        return self.place or self.name

    @property
    def argument(self) -> str:
        """The word for --experiment, quoted for a shell."""
        return shlex.quote(self.reference)

    def suggest_as(self) -> str:
        """Returns the flag for a new experiment beside this one, such as '--as mine-2'."""
        names = (f"{self.name}-{number}" for number in count(2))
        return f"--as {shlex.quote(next(name for name in names if not (self.folder.parent / name).exists()))}"

    def get_fold(self, fold: int) -> FoldFolder:
        return FoldFolder(links.join(self.folder, f"fold_{fold}"), fold)

    def get_refit(self, k: int) -> FoldFolder:
        """The network that is trained on all images, beside `k` folds."""
        return FoldFolder(links.join(self.folder, REFIT), k)

    def list_trainings(self, folds: FoldsConfig) -> list[FoldFolder]:
        """Lists everything that is trained: the folds, and with `folds.refit` the network on all images."""
        return [*map(self.get_fold, range(folds.k)), *([self.get_refit(folds.k)] if folds.refit else [])]

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Locks the experiment; the lock ends with the process.

        Raises:
            ExperimentError: another process has the lock; names its pid.
        """
        hint = (
            "wait for it; to train a new experiment with the same config: "
            f"{self._format_train_command()} {self.suggest_as()}"
        )
        with lock_folder(self.folder, f"is training {self.name}", hint):
            files.remove_leftovers(self.folder)
            yield

    def discard(self) -> None:
        """Removes the folds and their scores, but not config.toml, nor the reports of other commands."""
        for path in [*links.glob(self.folder, "fold_*"), *links.glob(self.folder, REFIT)]:
            files.remove(path)
        started = (self.resolved_path, self.provenance_path, self.folds_path, self.image_list_path, self.frozen_path)
        reports = (self.metrics_path, self.stress_path, self.reencoded_path, self.shift_path)
        files.remove(self.distorted_path)
        for path in (*started, self.oof_path, *reports):
            path.unlink(missing_ok=True)

    def adopt_frozen(self, other: Path, sha256: str) -> bool:
        """Takes the frozen weights of another experiment, without a copy; False if they changed or cannot be shared."""
        if not other.is_file() or links.is_link(other) or manifests.hash_file(other) != sha256:
            return False
        self.frozen_path.unlink(missing_ok=True)
        files.share_file(self.frozen_path, other)
        return self.frozen_path.is_file()

    def share_frozen(self) -> None:
        """Stores the frozen weights once for all experiments beside this one that have the same."""
        digest, size = manifests.hash_file(self.frozen_path), self.frozen_path.stat().st_size
        for other in sorted(self.folder.parent.glob(f"*/{FROZEN}")):
            if other == self.frozen_path or links.is_link(other) or links.is_link(other.parent):
                continue
            if other.stat().st_size == size and manifests.hash_file(other) == digest:
                files.share_file(self.frozen_path, other)
                return

    def start(self, identity: Identity, images: str, provenance: dict[str, Any]) -> None:
        """Records the start of a training; a resumed experiment has passed `check_identity`.

        folds.csv exists, and the file of frozen weights, if there are such.

        Args:
            identity: of the folds.
            images: the image list; its digest is `identity.data`.
            provenance: of this training.
        """
        if not self.resolved_path.is_file():
            files.write_text(self.image_list_path, images)
            partial = identity.config["model"]["tune"] != "all"
            frozen = {"frozen": manifests.hash_file(self.frozen_path)} if partial else {}
            manifests.write_manifest(
                self.resolved_path, {**asdict(identity), "folds": manifests.hash_file(self.folds_path), **frozen}
            )
        manifests.write_manifest(self.provenance_path, provenance)

    def read_folds_digest(self) -> str:
        """Returns the hash of folds.csv, after a check of the file.

        Raises:
            ExperimentError: it is missing, or has changed since the start of the training.
        """
        expected: str = manifests.read_manifest(self.resolved_path, {"folds": str})["folds"]
        manifests.check_hash(
            self.folds_path,
            expected,
            self.resolved_path,
            hint=f"restore the file, or discard the trained folds: {self._format_train_command()} --restart",
        )
        return expected

    def check_identity(self, identity: Identity, differing: Callable[[str], list[str]] = lambda _: []) -> None:
        """Refuses an experiment that was started with another config or other images.

        Args:
            identity: the current one.
            differing: compares the text of an image list with the current images; a line for each difference.

        Raises:
            ExperimentError: lists every changed key with its old and new value, and every changed image.
        """
        started = self.read_identity()
        changed = list_differences(started.config, identity.config)
        if started.data != identity.data:
            changed += self._describe_changed_images(started.data, differing)
        if changed:
            raise ExperimentError(
                f"experiment {self.name} was started with another config or other images; its folds would not match",
                problems=changed,
                hint="undo the change, or train a new experiment: "
                f"{self._format_train_command()} {self.suggest_as()}; to discard the trained "
                f"folds instead: {self._format_train_command()} --restart",
            )

    def load_training(self) -> tuple[Config, Identity]:
        """Returns the config and the identity of the trained folds.

        Raises:
            ExperimentError: nothing has been trained, or config.toml has changed since.
        """
        if not self.resolved_path.is_file():
            raise ExperimentError(f"experiment {self.name} has not been trained", hint=self._format_train_command())
        config, started = schema.load_experiment(self.config_path), self.read_identity()
        inputs = InputHashes.from_identity(started.config)
        self.check_identity(Identity.from_config(config, started.data, inputs))
        return config, started

    def list_finished_folds(self, k: int, identity: Identity) -> list[FoldFolder]:
        """Lists all k folds.

        Raises:
            ExperimentError: a fold is not trained yet, or belongs to another experiment, or the frozen weights are
                missing or damaged.
        """
        return self._check_finished([self.get_fold(fold) for fold in range(k)], identity)

    def list_fold_weights(self) -> list[str]:
        """The sha256 of the weights of each fold's network, in hex.

        Raises:
            ExperimentError: as in `load_training` and `list_finished_folds`.
        """
        config, identity = self.load_training()
        return [folder.read_weights_sha256() for folder in self.list_finished_folds(config.folds.k, identity)]

    def list_networks(self, folds: FoldsConfig, identity: Identity) -> list[FoldFolder]:
        """Lists the networks that score new images: those of all folds, or with `folds.refit` the one on all images.

        Raises:
            ExperimentError: as in `list_finished_folds`; or the network on all images is not trained yet.
        """
        finished = self._check_finished(self.list_trainings(folds), identity)
        return finished[folds.k :] if folds.refit else finished

    def _check_finished(self, folders: list[FoldFolder], identity: Identity) -> list[FoldFolder]:
        if missing := self.list_unfinished(folders, identity):
            raise ExperimentError(
                f"experiment {self.name} is not complete; still to train: {describe_folders(missing)}",
                hint=self._format_train_command(),
            )
        if (frozen := manifests.read_manifest(self.resolved_path).get("frozen")) is not None:
            hint = f"restore the file, or discard the trained folds: {self._format_train_command()} --restart"
            manifests.check_hash(self.frozen_path, frozen, self.resolved_path, hint)
        return folders

    def check_scores(self) -> None:
        """Refuses an experiment without out-of-fold scores.

        Raises:
            ExperimentError: oof.csv is missing, or is not the file of metrics.json.
        """
        if not self.oof_path.is_file():
            raise ExperimentError(
                f"experiment {self.name} has no out-of-fold scores yet", hint=self._format_train_command()
            )
        if self.metrics_path.is_file():
            manifests.check_hash(
                self.oof_path,
                manifests.read_manifest(self.metrics_path, {"oof_sha256": str})["oof_sha256"],
                self.metrics_path,
                hint=f"merge it again from its finished folds: {self._format_train_command()}",
            )

    def list_unfinished(self, folders: Iterable[FoldFolder], identity: Identity) -> list[FoldFolder]:
        """Lists the folds, or the network on all images, that are not finished.

        Raises:
            ExperimentError: a finished fold belongs to another experiment or another version, or is damaged.
        """
        digest = self.read_folds_digest()
        return [folder for folder in folders if not folder.is_finished(identity, digest)]

    def read_data_digest(self) -> str:
        return self.read_identity().data

    def read_data_root(self) -> Path:
        """The data folder of the last training."""
        return Path(manifests.read_manifest(self.provenance_path)["data_root"])

    def read_scanned_root(self) -> Path | None:
        """The data folder of the last scan; None if it is unknown or gone."""
        with suppress(ExperimentError, KeyError):
            if (root := Path(manifests.read_manifest(self.doctor_path)["data_root"])).is_dir():
                return root
        return None

    def get_findings_path(self, data: str) -> Path:
        """Returns the file for the findings of images.

        Args:
            data: the digest of their image list.
        """
        others = self.resolved_path.is_file() and self.read_data_digest() != data
        return self.other_findings_path if others else self.doctor_path

    def _describe_changed_images(self, digest: str, differing: Callable[[str], list[str]]) -> list[str]:
        if not self.image_list_path.is_file() or manifests.hash_file(self.image_list_path) != digest:
            return [
                f"training images or labels; the changed ones are unknown: {self.image_list_path} is missing or damaged"
            ]
        return differing(self.image_list_path.read_text(encoding="utf-8"))

    def read_identity(self) -> Identity:
        """The identity at the start of the training.

        Raises:
            ExperimentError: nothing has been trained, or the record is damaged.
        """
        content = manifests.read_manifest(self.resolved_path, {"config": dict, "data": str, "folds": str})
        return Identity(content["config"], content["data"])

    def _format_train_command(self) -> str:
        return f"invoke train-folds --experiment {self.argument}"


def describe_folders(folders: Sequence[FoldFolder]) -> str:
    """'fold 0, 2', 'refit', or 'fold 0, 2, refit'."""
    first, *others = (folder.label for folder in folders)
    return ", ".join([first, *(label.removeprefix("fold ") for label in others)])


@contextmanager
def lock_folder(folder: Path, what: str, hint: str, wait: Callable[[str], None] | None = None) -> Iterator[None]:
    """Locks a folder; the lock ends with the process.

    Args:
        folder: created if it does not exist.
        what: the work of the other process, such as 'is training quickstart'.
        hint: the next step in the error.
        wait: called once with a sentence if another process has the lock, which is then waited for; None does not wait.

    Raises:
        ExperimentError: another process has the lock; names its pid.
        Interrupted: this process received a signal while it waited.
    """
    lock, holder = links.join(folder, ".lock"), links.join(folder, ".lock.pid")
    with files.explain_write_errors(lock):
        folder.mkdir(parents=True, exist_ok=True)
        file_lock = _open_lock(lock)
        free = _acquire(file_lock)
    if not free:
        pid = ""
        with suppress(OSError):  # the other process may end now
            pid = holder.read_text(encoding="ascii")
        busy = f"another process (pid {pid or 'unknown'}) {what}"
        if wait is None:
            raise ExperimentError(busy, hint=hint)
        wait(busy)
        while not _acquire(file_lock):
            signals.raise_if_interrupted()
            time.sleep(WAIT_SECONDS)
    try:
        with files.explain_write_errors(holder):
            files.create(holder, str(os.getpid()).encode())
        yield
    finally:
        holder.unlink(missing_ok=True)
        file_lock.release()


def _open_lock(path: Path) -> BaseFileLock:
    """A lock of the system; on a file system without such locks (some network disks), a file that names its holder."""
    if _has_locks(path.parent):
        return FileLock(path)
    with suppress(OSError):
        if not path.stat().st_size and time.time() - path.stat().st_mtime > EMPTY_SECONDS:
            path.unlink()  # it names no holder: it was copied from another disk, or its writer was killed
    return SoftFileLock(path)


def _has_locks(folder: Path) -> bool:
    if sys.platform == "win32":
        return True
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK):
                return False
            raise
    return True


def _acquire(lock: BaseFileLock) -> bool:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    return True
