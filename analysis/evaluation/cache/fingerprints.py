"""Hashes of what a value depends on: the source code that makes it, the libraries below, the model, the text.

The code of a value is the file that defines its function and every file of ours that this file imports, directly
or through others. Comments, docstrings and the layout of the text are left out: they change no number. So an edited
metric or an edited help text leaves scores as they are, and an edited method does not.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import inspect
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AttentionInterface, PreTrainedModel

from analysis.documents.windows import Window
from analysis.evaluation.cache.loaded import loaded_function, loaded_module, text_of

ROOT = Path(__file__).resolve().parents[3]  # the folder that holds adapler/ and analysis/
OURS = ("adapler", "analysis")
FORMAT = 2  # of keys and entries; raise it when scoring.py or an entry's arrays get another meaning
_DISTRIBUTIONS = {"sklearn": "scikit-learn"}  # where a library's name is not that of its import
_INSTALLED = ("site-packages", "dist-packages")


def window_key(base: str, window: Window, *, label: int | None = None, seed: int | None = None) -> str:
    """Key of one value of one window. base: the hash of everything but the window.

    label and seed: only for a value that depends on them. A seed goes with the window's name, since draws depend
    on both; without one the same tokens are the same input under whatever name.
    """
    facts = {"label": label, "seed": None if seed is None else [seed, window.id]}
    digest = hashlib.sha256(f"{base}\0{len(window)}\0{json.dumps(facts)}\0".encode())
    digest.update(np.ascontiguousarray(window.input_ids, dtype="<i8").tobytes())
    digest.update(np.packbits(window.special).tobytes())
    if window.token_type_ids is not None:
        digest.update(np.ascontiguousarray(window.token_type_ids, dtype="<i8").tobytes())
    return digest.hexdigest()


def facts_key(facts: Mapping[str, Any]) -> str:
    """Hash of plain values (what JSON can hold)."""
    return hashlib.sha256(json.dumps({"format": FORMAT, **facts}, sort_keys=True).encode()).hexdigest()


def model_fingerprint(model: Any) -> str | None:
    """Hash of a model's classes, configuration and weights, wherever they came from.

    The name of the attention implementation and the place that a model was loaded from are left out: they do not
    change what it computes. None when a class of the model was typed into a session, or a module has hooks or a
    `forward` of its own: their code cannot be known.
    """
    if any("forward" in vars(one) or one._forward_hooks or one._forward_pre_hooks for one in model.modules()):
        return None
    config = model.config.to_dict()
    config = {name: value for name, value in config.items() if not name.startswith("_") and name not in _VOLATILE}
    digest = hashlib.sha256(f"{type(model).__module__}.{type(model).__qualname__}".encode())
    digest.update(json.dumps(config, sort_keys=True, default=str).encode())
    functions = {getattr(one.config, "_attn_implementation", None) for one in model.modules() if hasattr(one, "config")}
    attention = AttentionInterface()
    parts: list[Any] = [type(module) for module in model.modules()]
    parts += [attention[name] for name in functions if name in attention]
    for module in sorted({part.__module__ for part in parts}):
        if module.partition(".")[0] in ("torch", "transformers"):
            continue  # known by their versions
        code = module_fingerprint(module)
        if code is None:
            return None
        digest.update(f"\0{module}\0{code}".encode())
    for name, module in model.named_modules():  # a part without weights may have been put in another's place
        digest.update(f"\0{name}\0{type(module).__qualname__}\0{sorted(_set_on(module))}".encode())
    for name, tensor in sorted(model.state_dict().items()):
        values = tensor.detach().cpu().contiguous()
        digest.update(f"\0{name}\0{values.dtype}\0{tuple(values.shape)}\0".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy().data if values.numel() else b"")
    return digest.hexdigest()


def _set_on(module: torch.nn.Module) -> Iterator[str]:
    """The plain values that a module holds beside its weights.

    One of neither torch nor transformers, such as an adapter of peft, may have them in collections and under private
    names: how much it adds, and whether it is switched off.
    """
    foreign = type(module).__module__.partition(".")[0] not in ("torch", "transformers")
    for key, value in vars(module).items():
        private = key.startswith("_") and (not foreign or isinstance(module, PreTrainedModel))
        if not private and key not in _OF_PLACE and (foreign or isinstance(value, int | float | str)):
            text = text_of(value)
            if text is not None:
                yield f"{key} {text}"


# of a module: where it came from, what the caller is about to do, and what every module has
_OF_PLACE = {"name_or_path", "_is_hf_initialized", *vars(torch.nn.Module())}
_VOLATILE = ("transformers_version", "output_attentions", "output_hidden_states")


def method_fingerprint(function: Callable[..., Any]) -> str | None:
    """Hash of the code of a scoring method; None for one whose code no file tells: typed into a session, or a
    function that carries values of its own (a closure). Scores of such a method must not be kept.

    Of a method of somebody's own both the file and what is loaded count: after an edit the key is another one, whether
    the module was loaded again or still is what it was."""
    if not inspect.isfunction(function) or function.__closure__:
        return None
    file = getattr(sys.modules.get(function.__module__), "__file__", None)
    if file is None or Path(file).resolve() != Path(function.__code__.co_filename).resolve():
        return None
    code = module_fingerprint(function.__module__)
    if code is None:
        return None
    # a function that was imported by name stays the old one when its module is loaded again
    loaded = "" if function.__module__.partition(".")[0] in OURS else f"\0{loaded_function(function)}"
    return hashlib.sha256(f"{function.__qualname__}\0{code}{loaded}".encode()).hexdigest()


def module_fingerprint(module: str) -> str | None:
    """Hash of an imported module; None when it has no file. An installed library is its version.

    Of a module of ours it is `code_fingerprint`. One of somebody's own is read anew each time, with those that it
    imports beside it, and what is loaded of them counts too.
    """
    if module.partition(".")[0] in OURS:
        return code_fingerprint(module)
    file = getattr(sys.modules.get(module), "__file__", None)
    if not file or not Path(file).is_file():
        return None
    path, name = Path(file).resolve(), module if module != "__main__" else Path(file).stem
    depth = len(name.split(".")) - (path.name != "__init__.py")
    folder = path.parents[depth]
    if folder.name in _INSTALLED:
        return f"{name} {_version(name.partition('.')[0])}"
    texts, libraries, ours = _walk([name], ROOT, folder)
    lines = [f"{one}\0{texts[one]}\0{loaded_module(module if one == name else one)}\0" for one in sorted(texts)]
    return _digest([*lines, code_fingerprint(*sorted(ours))], libraries)


def code_fingerprint(*modules: str, alone: Iterable[str] = (), root: Path = ROOT) -> str:
    """Hash of modules of ours with everything that they import of ours, and of the versions of the libraries they
    import.

    modules: dotted names. alone: modules whose own text counts, but not what they import. root: the folder of our
    packages.
    """
    return _code_fingerprint(tuple(modules), tuple(alone), root)


@lru_cache(maxsize=256)  # the code that runs is the code that was there when it was imported
def _code_fingerprint(modules: tuple[str, ...], alone: tuple[str, ...], root: Path) -> str:
    texts, libraries, _ = _walk(modules, root)
    for name in alone:
        texts[name] = _plain(_parse(_file_of(name, root)))
    return _digest([f"{name}\0{texts[name]}\0" for name in sorted(texts)], libraries)


def _digest(lines: Iterable[str], libraries: set[str]) -> str:
    versions = [f"{name} {_version(name)}" for name in sorted(libraries | {"torch", "transformers"})]
    return hashlib.sha256("".join([*lines, *versions]).encode()).hexdigest()


def _walk(modules: Iterable[str], root: Path, folder: Path | None = None) -> tuple[dict[str, str], set[str], set[str]]:
    """Module -> its code, for these modules and what they import beside them; the libraries that they import; and, of
    modules in a `folder` of somebody's own, those of ours that they import, which are not followed."""
    texts: dict[str, str] = {}
    libraries: set[str] = set()
    ours: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in texts:
            continue
        file = _file_of(name, root, folder)
        tree = _parse(file)
        for base, attribute in _imports(tree, name, is_package=file is not None and file.name == "__init__.py"):
            names = [f"{base}.{attribute}", base] if attribute else [base]
            found = next((one for one in names if _file_of(one, root, folder) is not None), None)
            top = base.partition(".")[0]
            if found is None:
                libraries |= {top} - sys.stdlib_module_names - set(OURS)
            elif folder is not None and top in OURS:
                ours.add(found)
            else:
                waiting.append(found)
        texts[name] = _plain(tree)
    return texts, libraries, ours


def _file_of(module: str, root: Path, folder: Path | None = None) -> Path | None:
    place = root if module.partition(".")[0] in OURS else folder
    if place is None:
        return None
    stem = place.joinpath(*module.split("."))
    return next((path for path in (stem.with_name(stem.name + ".py"), stem / "__init__.py") if path.is_file()), None)


def _parse(file: Path | None) -> ast.Module:
    return ast.parse("" if file is None else file.read_text(encoding="utf-8"))


def _imports(tree: ast.Module, module: str, *, is_package: bool) -> Iterator[tuple[str, str]]:
    """(module, name taken from it, or "") of every import, also of those inside functions."""
    package = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((base, alias.name) for alias in node.names)


def _plain(tree: ast.Module) -> str:
    """The code without docstrings, comments and layout."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body[0] = ast.Pass()
    return ast.unparse(ast.fix_missing_locations(tree))


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(_DISTRIBUTIONS.get(library, library))
    except importlib.metadata.PackageNotFoundError:
        return ""
