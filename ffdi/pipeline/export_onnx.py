"""Puts all folds into one proven ONNX graph."""

from __future__ import annotations

from collections.abc import Sequence

from ffdi import __version__, console, publish
from ffdi.blend import Blend
from ffdi.pipeline import screens, sources
from ffdi.store.workspace import Workspace


def run(workspace: Workspace, names: Sequence[str], *, data: str | None, name: str | None) -> None:
    """Puts all folds into one ONNX graph, and keeps it only if it gives the networks' answers on real images."""
    from ffdi.deploy import bundle, parity, runtime
    from ffdi.deploy import export as exporter
    from ffdi.training import detector

    export = workspace.export(names, name)
    blend = Blend.of([workspace.experiment(one) for one in names])
    blend.check_exportable()
    size = blend.sizes[0]
    real = parity.real_images(next(iter(sources.of_blend(blend, data).splits.values())), size)
    console.title(f"export-onnx {export.name}: {len(blend.members)} networks in one graph")
    scorers = [detector.scorer(member) for member in blend.members]
    graph = exporter.Graph(scorers, blend.weights, blend.choice.combination, blend.calibration).eval()
    with publish.writing(export.model_path) as beside:
        exporter.to_onnx(graph, size, beside, {"ffdi": __version__, bundle.OUTPUT: bundle.MEANING})
        differences = parity.measure(graph.score, runtime.open_graph(beside).run, real)
        parity.check(differences)
        export.bundle_path.unlink(missing_ok=True)  # the old description is not this graph's
    publish.document(export.bundle_path, bundle.describe(export, blend, differences))
    shown = ", ".join(f"{value:.1e} at batch {batch}" for batch, value in differences.items())
    console.say(f"parity with torch on {len(real)} real images: largest difference of y_pred {shown}")
    console.say(f"written: {export.model_path} ({export.model_path.stat().st_size / 2**20:.1f} MiB)")
    console.say(f"next: invoke predict-onnx{screens.again(names, name)} --images FOLDER")
