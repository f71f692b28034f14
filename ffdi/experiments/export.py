"""One folder under exports/: what leaves the house."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ffdi.core import files, links
from ffdi.experiments import lock


@dataclass(frozen=True)
class ExportFolder:
    """One directory under exports/: what leaves the house."""

    folder: Path

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.folder.name

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the folder against a second process that writes to it.

        Raises:
            ExperimentError: another process holds it; its number is named.
        """
        with lock.hold(self.folder, f"is writing to {self.folder}", "wait for it, or pass another --name"):
            files.remove_leftovers(self.folder)
            yield

    @contextmanager
    def publishing(self, name: str) -> Iterator[ExportFolder]:
        """Yields a folder beside; what is written there appears here at the end, all of it or nothing.

        Args:
            name: of one of the files.

        Raises:
            ExperimentError: it cannot be written.
        """
        with files.publish_together(self.folder, name) as beside:
            yield ExportFolder(beside)

    @property
    def model_path(self) -> Path:
        """The graph with all folds."""
        return links.below(self.folder, "model.onnx")

    @property
    def bundle_path(self) -> Path:
        """What a server needs to know of the graph, and the hashes of the files beside it."""
        return links.below(self.folder, "bundle.json")

    @property
    def golden_path(self) -> Path:
        """Scores of the images beside it, which the graph must give wherever it is served."""
        return links.below(self.folder, "golden", "golden.csv")

    @property
    def script_path(self) -> Path:
        """What scores an image without ffdi."""
        return links.below(self.folder, "predict.py")

    @property
    def submission_path(self) -> Path:
        """y_pred of each image, in the template's order."""
        return links.below(self.folder, "submission.csv")

    @property
    def submission_record_path(self) -> Path:
        """How the submission was made, and its scores where labels are known."""
        return links.below(self.folder, "submission.json")

    @property
    def sent_path(self) -> Path:
        """What was sent to a competition, and what it answered."""
        return links.below(self.folder, "submissions.json")

    @property
    def kaggle_folder(self) -> Path:
        """What goes to Kaggle as a dataset."""
        return links.below(self.folder, "kaggle")

    @property
    def scores_path(self) -> Path:
        """What the graph said of images, unless another place was asked for."""
        return links.below(self.folder, "onnx_scores.csv")

    @property
    def report_path(self) -> Path:
        """What a person looks at."""
        return links.below(self.folder, "report.html")
