"""The imports of the fork server of `processes`: those that take seconds, and that nearly every step needs."""

import contextlib

with contextlib.suppress(ImportError):  # a step names the package that is missing
    import ffdi.training.fold  # noqa: F401
