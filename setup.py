"""Puts the configs of ffdi's own experiments into its wheel; all else is in pyproject.toml."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

PROJECT = Path(__file__).resolve().parent
OWN = "# purpose"
"""How the config of an experiment of ffdi begins; others in experiments/ are those of a person."""


class BuildWithConfigs(build_py):
    """Builds the package with its folder `shipped`, as `ffdi.experiments.workspace` reads it."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        for config in sorted(PROJECT.glob("experiments/*/config.toml")):
            content = config.read_text(encoding="utf-8")
            if content.startswith(OWN):
                copy = Path(self.build_lib, "ffdi", "shipped", *config.relative_to(PROJECT).parts)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_text(content, encoding="utf-8")


setup(cmdclass={"build_py": BuildWithConfigs})
