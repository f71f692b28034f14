"""Scores out-of-fold images after all of them are encoded alike."""

from __future__ import annotations

from typing import Any

from ffdi.commands.shared import stress
from ffdi.commands.shared.options import LoadingOptions
from ffdi.core import console, manifests
from ffdi.core.errors import format_count
from ffdi.data.images import reencoding
from ffdi.data.loading.dataset import REENCODED
from ffdi.experiments.experiment import Experiment
from ffdi.experiments.workspace import Workspace


def run(workspace: Workspace, experiment: Experiment, options: LoadingOptions) -> None:
    """Scores a sample of training images as they are and re-encoded, each with the network that did not train on it."""
    scores = stress.score_distorted(workspace, experiment, options, [REENCODED])
    row, size = scores.distorted[REENCODED], experiment.load_training()[0].model.size
    content = {
        "images": scores.images,
        "size": size,
        "quality": reencoding.QUALITY,
        "auc": scores.undistorted.auc,
        "reencoded_auc": row.auc,
        "difference": row.difference,
        "interval": row.interval,
        "rule": stress.RULE,
    }
    manifests.write_manifest(experiment.reencoded_path, content)
    _show(content)
    console.written(experiment.reencoded_path)


def _show(content: dict[str, Any]) -> None:
    console.table(
        f"AUC of {format_count(content['images'], 'image')}, each with the network that did not train on it",
        ["", "AUC", "difference", "95 %"],
        [
            ("as they are", content["auc"], "", ""),
            (
                f"all at {content['size']} px, then JPEG {content['quality']}",
                content["reencoded_auc"],
                f"{content['difference']:+.4f}",
                console.interval(content["interval"], "+.3f"),
            ),
        ],
        details=["difference"],
    )
    console.say(describe(content["difference"], content["interval"]))


def describe(difference: float, interval: tuple[float, float] | None) -> str:
    """What a difference in AUC says about the encoding, in one sentence."""
    if interval is None:
        return (
            f"the AUC changes by {difference:+.4f}; there is no interval, because there are too few images or "
            "nearly all keep their rank"
        )
    if interval[1] < 0:
        return (
            f"{-difference:.4f} of the AUC came from the encoding of the files, or from fine detail that "
            f"JPEG {reencoding.QUALITY} removes"
        )
    return (
        f"the AUC did not come from the encoding of the files, as far as is known: at most {-min(interval[0], 0):.4f}"
    )
