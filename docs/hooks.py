"""The pages of the site that are made from the code: mkdocs calls `on_config` and `on_files`.

    methods/NAME.md       a page for each registered scoring method, from its docstring
    metrics/NAME.md       a page for each function behind registered metrics, from its docstring
    reference/*.md        public names with signature and docstring; every command with its --help
    contributing.md       and changelog.md, from the repository's root
    results/              its pages and their figures, where they are in the repository

Nothing of it is committed. docs/generate/ makes them.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # mkdocs is started from anywhere

from docs.generate.methods import method_pages  # noqa: E402
from docs.generate.metrics import metric_families, metric_pages  # noqa: E402
from docs.generate.reference import command_page, reference_pages  # noqa: E402

# Page of the site -> file. Not called README.md there, which would be the first page of a section.
RESULTS = {
    path.relative_to(ROOT).with_name("report.md").as_posix(): path.relative_to(ROOT).as_posix()
    for path in sorted((ROOT / "results").rglob("README.md"))
}
GENERATED = {"analysis/scores": "methods/index.md", "analysis/metrics": "metrics/index.md"}  # folder of code -> page
_PICTURE = re.compile(r"!\[[^\]]*\]\(([^):]+\.png)\)")


def pictures() -> set[str]:
    """The figures of results/ that its pages and those of docs/ show."""
    shown = set()
    for page in [*(ROOT / name for name in RESULTS.values()), *(ROOT / "docs").rglob("*.md")]:
        for name in _PICTURE.findall(page.read_text(encoding="utf-8")):
            shown.add((page.parent / name).resolve().relative_to(ROOT).as_posix())
    return {name for name in shown if name.startswith("results/")}


def pages() -> dict[str, str]:
    """Every generated page: its place in the site -> Markdown."""
    files = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"} | RESULTS
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
    for name in sorted(pictures()):
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Turn links of the repository into those of the site, where docs/ is the root."""
    if page.file.src_uri in RESULTS:
        return markdown.replace("../docs/", "../").replace("README.md", "report.md")
    links = r"\]\(\.\./((?:\.\./)*results/[^)]*)"
    markdown = re.sub(links, lambda link: "](" + link[1].replace("README.md", "report.md"), markdown)
    for folder, made in GENERATED.items():
        markdown = re.sub(rf"\(\.\./((?:\.\./)*){folder}\)", rf"(\1{made})", markdown)
    return re.sub(r"\(\.\./((?:\.\./)*)CONTRIBUTING\.md", r"(\1contributing.md", markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Give each picture its text as a caption, and a link to its full size."""
    picture = r'<p>(<img alt="([^"]*)" src="([^"]*)"[^>]*>)</p>'
    return re.sub(picture, r'<figure><a href="\3">\1</a><figcaption>\2</figcaption></figure>', html)
