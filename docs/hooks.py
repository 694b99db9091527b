"""The pages of the site that are made from the code: mkdocs calls `on_config` and `on_files`.

    methods/NAME.md       a page for each registered scoring method, from its docstring
    metrics/NAME.md       a page for each function behind registered metrics, from its docstring
    reference/*.md        public names with signature and docstring; every command with its --help
    contributing.md       and changelog.md, from the repository's root
    images/               pictures that lie elsewhere in the repository
    <!-- protocols -->    in a page: the table of the evaluation protocols

Nothing of it is committed. docs/generate/ makes them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # mkdocs is started from anywhere

from docs.generate.methods import method_pages  # noqa: E402
from docs.generate.metrics import metric_families, metric_pages  # noqa: E402
from docs.generate.reference import command_page, protocol_sections, reference_pages  # noqa: E402

IMAGES = {
    "images/agreement.png": "results/movies-minilm/agreement.png",
    "images/realised.png": "results/performance/realised.png",
}


def pages() -> dict[str, str]:
    """Every generated page: its place in the site -> Markdown."""
    files = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
    texts = {page: (ROOT / name).read_text(encoding="utf-8") for page, name in files.items()}
    made = method_pages() | metric_pages() | reference_pages() | texts
    made["reference/commands.md"] = command_page()
    return made


def on_config(config: Any) -> Any:
    """Put a line into the navigation for each method and each metric."""
    sys.path.insert(0, str(ROOT))  # mkdocs took it away again
    methods = [name for name in sorted(method_pages()) if name != "methods/index.md"]
    metrics = [f"metrics/{name}.md" for name in metric_families()]
    for entry in config.nav:
        entry.get("Scoring methods", []).extend(methods)
        entry.get("Metrics", []).extend(metrics)
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages and the pictures that lie elsewhere."""
    from mkdocs.structure.files import File

    for name, text in pages().items():
        files.append(File.generated(config, name, content=text))
    for name, source in IMAGES.items():
        files.append(File.generated(config, name, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill in what a page asks for; links that hold in the repository become those of the site."""
    if "<!-- protocols -->" in markdown:
        markdown = markdown.replace("<!-- protocols -->", protocol_sections())
    for name, source in IMAGES.items():
        markdown = markdown.replace(f"(../{source})", f"({name})")
    return markdown.replace("(../../CONTRIBUTING.md", "(../contributing.md")
