"""The folder of an export: its paths and its lock."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ffdi.core import files, links
from ffdi.experiments import experiment


@dataclass(frozen=True)
class ExportFolder:
    """A folder under exports/: the files that other people get."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Locks the folder; the lock ends with the process.

        Raises:
            ExperimentError: another process has the lock; names its pid.
        """
        with experiment.lock_folder(self.folder, f"is writing to {self.folder}", "wait for it, or pass another --name"):
            files.remove_leftovers(self.folder)
            yield

    @contextmanager
    def publish(self, name: str) -> Iterator[ExportFolder]:
        """Yields a temporary folder; on a clean exit all its files are published together.

        Args:
            name: of one of the files.

        Raises:
            ExperimentError: the files cannot be written.
        """
        with files.publish_together(self.folder, name) as temporary:
            yield ExportFolder(temporary)

    @property
    def model_path(self) -> Path:
        return links.join(self.folder, "model.onnx")

    @property
    def bundle_path(self) -> Path:
        """The description of the graph, and the hashes of the other files."""
        return links.join(self.folder, "bundle.json")

    @property
    def golden_path(self) -> Path:
        """Scores of the golden images, which the graph must give on every machine."""
        return links.join(self.folder, "golden", "golden.csv")

    @property
    def script_path(self) -> Path:
        """A script that scores images without ffdi."""
        return links.join(self.folder, "predict.py")

    @property
    def submission_path(self) -> Path:
        """y_pred of each image, in the order of the template."""
        return links.join(self.folder, "submission.csv")

    @property
    def submission_record_path(self) -> Path:
        """The settings of the submission, and its scores if labels are known."""
        return links.join(self.folder, "submission.json")

    @property
    def submissions_path(self) -> Path:
        """Submissions to Kaggle, with their scores."""
        return links.join(self.folder, "submissions.json")

    @property
    def kaggle_folder(self) -> Path:
        """The folder for a Kaggle dataset."""
        return links.join(self.folder, "kaggle")

    @property
    def scores_path(self) -> Path:
        """Scores of the graph; the default of --output."""
        return links.join(self.folder, "onnx_scores.csv")

    @property
    def report_path(self) -> Path:
        return links.join(self.folder, "report.html")
