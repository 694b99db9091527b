"""What pyproject.toml cannot say: a wheel holds the embedded checkpoint and the sample corpus inside the package."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

EMBEDDED = {"checkpoints/movies-minilm": "movies-minilm", "data/eraser/sample": "sample"}


class BuildWithEmbedded(build_py):
    """Copies the two folders; an editable installation reads them where they are."""

    def run(self) -> None:
        super().run()
        if not getattr(self, "editable_mode", False):
            for source, name in EMBEDDED.items():
                for path in sorted(Path(source).rglob("*")):
                    if path.is_file():
                        target = Path(self.build_lib, "adapler", "_embedded", name, path.relative_to(source))
                        target.parent.mkdir(parents=True, exist_ok=True)
                        self.copy_file(str(path), str(target))


setup(cmdclass={"build_py": BuildWithEmbedded})
