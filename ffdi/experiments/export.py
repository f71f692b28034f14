"""The folder of an export: its paths and its lock."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ffdi.core import files, links, manifests
from ffdi.experiments import experiment


class PublicScore(NamedTuple):
    """A score of Kaggle's public leaderboard.

    Attributes:
        time: of the submission, in ISO 8601.
        experiments: that the submission was made of.
    """

    time: str
    score: float
    experiments: list[str]


@dataclass(frozen=True)
class ExportFolder:
    """A folder under exports/: the files that other people get."""

    folder: Path

    model_path = links.PathInFolder("model.onnx")
    bundle_path = links.PathInFolder("bundle.json")
    """The description of the graph, and the hashes of the other files."""
    golden_path = links.PathInFolder("golden", "golden.csv")
    """Scores of the golden images, which the graph must give on every machine."""
    script_path = links.PathInFolder("predict.py")
    """A script that scores images without ffdi."""
    submission_path = links.PathInFolder("submission.csv")
    """y_pred of each image, in the order of the template."""
    submission_txt_path = links.PathInFolder("submission.txt")
    submission_zip_path = links.PathInFolder("submission.zip")
    """The same submission in the form of `submission.format`."""
    submission_record_path = links.PathInFolder("submission.json")
    """The settings of the submission, and its scores if labels are known."""
    submissions_path = links.PathInFolder("submissions.json")
    """Submissions to Kaggle, with their scores."""
    kaggle_folder = links.PathInFolder("kaggle")
    scores_path = links.PathInFolder("onnx_scores.csv")
    """Scores of the graph; the default of --output."""
    report_path = links.PathInFolder("report.html")

    @property
    def name(self) -> str:
        return self.folder.name

    def read_sent(self) -> list[dict[str, Any]]:
        """Returns what was sent to Kaggle, the first one first.

        Raises:
            ExperimentError: the record is damaged.
        """
        if not self.submissions_path.is_file():
            return []
        return list(manifests.read_manifest(self.submissions_path, {"sent": list})["sent"])

    def read_public_scores(self) -> list[PublicScore]:
        """Returns the public scores of what was sent, the first one first; errors as in `read_sent`."""
        found = []
        for one in self.read_sent():
            with suppress(ValueError):  # Kaggle gives text, which is empty without a score
                experiments = one.get("members", self.name.split("+"))
                found.append(PublicScore(one["time"], float(one.get("public_score") or ""), experiments))
        return found

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
