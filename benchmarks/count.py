"""Size of the code, and the part that a text, a document and a training row cross: `python -m benchmarks.count`.

Lines are physical lines of `git ls-files`. A command crosses a file when one of its functions runs (definitions and
what runs while a module is imported do not count). Frames are those of this repository on the stack when a model is
called, the deepest call of a run. The three commands run in processes of their own, on the embedded model or on a
random one of two layers, and their whole way counts: arguments, data, output; of rationale_eval with one method, and
without the report and its figures, which are made of a corpus.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import tomllib
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("adapler", "analysis", "app", "benchmarks")
# These came after the rewrite, with a limit of their own.
NEW = {"analysis/truth.py", "benchmarks/human_marks.py", "benchmarks/movie_marks.py"}
# Name: (at most, aim), of the rewrite's contract.
WANTED = {
    "lines: adapler": (12_000, 9_000),
    "lines: analysis": (9_500, 7_500),
    "lines: app": (4_500, 3_600),
    "lines: benchmarks": (2_200, 1_600),
    "lines: truth and marks": (1_500, 1_000),
    "lines: tests": (22_000, 16_000),
    "source files": (200, 160),
    "files of predict": (15, 10),
    "files of rationale_eval": (20, 15),
    "files of run": (25, 18),
    "frames of predict": (6, 5),
    "frames of rationale_eval": (6, 5),
    "frames of run": (6, 5),
    "options of `adapler run --help`": (20, 15),
}
BESIDE = ("analysis/figures", "analysis/report", "analysis/page", "analysis/templates")  # of a corpus, not a document
COMMANDS = ("predict", "rationale_eval", "run")


def sizes() -> dict[str, int]:
    """Lines of each package and of the tests, and the number of source files."""
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, check=True, capture_output=True, text=True)
    paths = [Path(name) for name in listed.stdout.split() if (ROOT / name).is_file()]
    found = dict.fromkeys([f"lines: {name}" for name in (*PACKAGES, "truth and marks", "tests")], 0)
    for path in paths:
        package = "truth and marks" if path.as_posix() in NEW else path.parts[0]
        if (name := f"lines: {package}") in found:
            found[name] += len((ROOT / path).read_text(encoding="utf-8").splitlines())
    return found | {"source files": sum(path.parts[0] in PACKAGES for path in paths)}


def options() -> int:
    """Options that `adapler run --help` shows, without --help itself."""
    done = subprocess.run([sys.executable, "-m", "adapler", "run", "--help"], cwd=ROOT, capture_output=True, text=True)
    listed = done.stdout.partition("options:")[2]
    return len(set(re.findall(r"^  (?:-\w, )?(--[\w-]+)", listed, flags=re.MULTILINE)) - {"--help", "--help-all"})


class Trace:
    """Trace of a command: own files, and the stacks on which models are called."""

    def __init__(self) -> None:
        self.files: set[str] = set()
        self.stack: list[str] = []  # of the deepest call of a model

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        if event != "call":
            return
        code = frame.f_code
        if code.co_name == "forward" and self._is_model(frame):
            self._take(frame)
        name = code.co_filename
        if name in self.files or not name.startswith(OWN) or not code.co_flags & inspect.CO_OPTIMIZED:
            return
        if not any(_imports(one) for one in _above(frame)):
            self.files.add(name)

    def _is_model(self, frame: FrameType) -> bool:
        from transformers import PreTrainedModel

        return isinstance(frame.f_locals.get("self"), PreTrainedModel)

    def _take(self, frame: FrameType) -> None:
        above = list(_above(frame))
        if any(one.f_code.co_name == "forward" and self._is_model(one) for one in above):
            return  # a model within a model
        own = [one for one in above if one.f_code.co_filename.startswith(OWN) and one.f_code.co_name[0] != "<"]
        if threading.current_thread() is not threading.main_thread():  # who waits for it called the model
            waiting = sys._current_frames()[threading.main_thread().ident or 0]
            own += [one for one in (waiting, *_above(waiting)) if one.f_code.co_filename.startswith(OWN)]
        if len(own) > len(self.stack):
            names = [f"{Path(one.f_code.co_filename).relative_to(ROOT)}:{one.f_code.co_qualname}" for one in own]
            self.stack = names[::-1]


OWN = tuple(f"{ROOT / name}/" for name in PACKAGES[:2])


def _above(frame: FrameType) -> Any:
    above = frame.f_back
    while above is not None:
        yield above
        above = above.f_back


def _imports(frame: FrameType) -> bool:
    """Whether a module of this repository is being imported in this frame."""
    return frame.f_code.co_name == "<module>" and frame.f_code.co_filename.startswith(OWN)


def words_of(command: str, folder: Path) -> list[str]:
    """The words of a small run of a command."""
    if command == "predict":
        texts = folder / "texts.jsonl"
        texts.write_text("".join(json.dumps({"text": text}) + "\n" for text in ("a dull film", "a great plot") * 4))
        return [
            "predict",
            "--model",
            "checkpoints/movies-minilm",
            "--input",
            str(texts),
            "--output",
            f"{folder}/out.jsonl",
        ]
    if command == "rationale_eval":
        return ["--data", "data/eraser/sample", "--limit", "2", "--methods", "saliency", "--output", f"{folder}/report"]
    task, model = folder / "task", folder / "model"
    task.mkdir()
    for split in ("train", "validation", "test"):
        rows = [{"text": text, "label": label} for text, label in (("a dull film", 0), ("a great plot", 1)) * 8]
        (task / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    save_tiny_model(model)
    words = ["run", "--task", str(task), "--model", str(model), "--output", str(folder / "run"), "--epochs", "1"]
    return [*words, "--batch-size", "4", "--device", "cpu"]


def save_tiny_model(folder: Path) -> None:
    """A random BERT of two layers and its tokenizer."""
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    folder.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "dull", "great", "film", "plot"]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    config = BertConfig(vocab_size=len(words), hidden_size=16, num_hidden_layers=2, num_attention_heads=2)
    config.intermediate_size, config.max_position_embeddings = 24, 64
    BertForSequenceClassification(config).save_pretrained(folder)
    BertTokenizerFast(vocab=str(folder / "vocab.txt"), model_max_length=64).save_pretrained(folder)


def trace(command: str) -> dict[str, Any]:
    """Run a command in this process; files and stack."""
    entry = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["adapler"]
    module, _, name = entry.partition(":") if command != "rationale_eval" else ("analysis.rationale_eval", "", "main")
    found = Trace()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"  # scores of an earlier run would be no way
        words = words_of(command, Path(folder))
        main = getattr(importlib.import_module(module), name)
        sys.argv = ["adapler", *words]
        threading.setprofile(found)
        sys.setprofile(found)
        try:
            code = main(words) if command == "rationale_eval" else main()
        except SystemExit as stop:
            code = stop.code
        finally:
            sys.setprofile(None)
            threading.setprofile(None)  # type: ignore[arg-type]
    if code:
        raise SystemExit(f"{command}: exit code {code}")
    files = sorted(str(Path(one).relative_to(ROOT)) for one in found.files)
    return {"files": [one for one in files if not one.startswith(BESIDE)], "stack": found.stack}


def main(argv: Sequence[str] | None = None) -> int:
    """Count, and compare with the contract."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trace", choices=COMMANDS, help=argparse.SUPPRESS)
    parser.add_argument("--list", action="store_true", help="also the files and the frames")
    parser.add_argument("--output", type=Path, help="write everything to this JSON file")
    args = parser.parse_args(argv)
    if args.trace:
        print("\n" + json.dumps(trace(args.trace)))
        return 0
    numbers, ways = sizes(), {}
    for command in COMMANDS:
        words = [sys.executable, "-m", "benchmarks.count", "--trace", command]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            print(f"{command} failed:\n{done.stderr[-2000:]}", file=sys.stderr)
            continue
        ways[command] = json.loads(done.stdout.rstrip().rpartition("\n")[2])
    numbers |= {f"files of {command}": len(way["files"]) for command, way in ways.items()}
    numbers |= {f"frames of {command}": len(way["stack"]) for command, way in ways.items()}
    numbers["options of `adapler run --help`"] = options()
    print(f"{'':34}{'now':>8}{'at most':>9}{'aim':>8}")
    for name, (most, aim) in WANTED.items():
        if name in numbers:
            mark = "" if numbers[name] <= aim else " +" if numbers[name] <= most else " over"
            print(f"{name:34}{numbers[name]:8,}{most:9,}{aim:8,}{mark}")
    if args.list:
        for command, way in ways.items():
            print(
                "",
                command,
                *(f"  {one}" for one in way["files"]),
                " frames:",
                *(f"  {x}" for x in way["stack"]),
                sep="\n",
            )
    if args.output:
        args.output.write_text(json.dumps({"numbers": numbers, "ways": ways}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
