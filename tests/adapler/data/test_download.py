from __future__ import annotations

import hashlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from adapler.data.download import download_movies, install_archive
from adapler.data.eraser import read_corpus
from adapler.errors import ArgumentError, DataError
from tests.adapler.data.corpora import files_of, pack, write

Serve = Callable[..., str]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Serves bytes at a local address; `claimed` is the length that the server announces."""
    monkeypatch.setenv("no_proxy", "*")
    servers: list[HTTPServer] = []

    def start(content: bytes, *, status: int = 200, claimed: int | None = None) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(content) if claimed is None else claimed))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: object) -> None:
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/movies.tar.gz"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    (tmp_path / "given").mkdir()
    return pack(tmp_path / "given" / "movies.tar.gz", files_of(), prefix="some/where/movies/")


def test_download_installs_a_checked_corpus(
    serve: Serve, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = archive.read_bytes()
    checksum = hashlib.sha256(content).hexdigest()
    url = serve(content)
    folder = download_movies(tmp_path / "data" / "eraser", url=url, expected_sha256=checksum.upper())
    assert folder == tmp_path / "data" / "eraser" / "movies"
    assert "download" in capsys.readouterr().err
    corpus = read_corpus(folder)
    assert corpus.splits == read_corpus(archive).splits
    assert json.loads((folder / "SOURCE.json").read_text()) == {
        "source": url,
        "bytes": len(content),
        "sha256": checksum,
        "corpus_checksum": corpus.checksum,
        "examples": {"train": 2, "test": 1},
    }
    assert [path.name for path in folder.parent.iterdir()] == ["movies"]


def test_an_earlier_corpus_is_replaced(serve: Serve, archive: Path, tmp_path: Path) -> None:
    write(tmp_path / "movies", files_of() | {"docs/old": "old"})
    folder = download_movies(tmp_path, url=serve(archive.read_bytes()), progress=False)
    assert not (folder / "docs" / "old").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"status": 404}, "404 Not Found.*--archive FILE"),
        ({"claimed": 100_000}, "download failed"),
        ({"content": b"<html>moved</html>"}, r"movies\.tar\.gz: not a complete tar archive"),
    ],
)
def test_nothing_stays_after_a_failed_download(
    serve: Serve, archive: Path, tmp_path: Path, options: dict, message: str
) -> None:
    url = serve(**{"content": archive.read_bytes(), **options})
    with pytest.raises(DataError, match=message) as caught:
        download_movies(tmp_path / "target" / "deep", url=url, progress=False)
    assert url in str(caught.value) and "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["given"]


def test_a_failure_leaves_the_earlier_corpus(serve: Serve, archive: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    write(target / "movies", files_of() | {"docs/old": "old"})
    with pytest.raises(DataError, match="sha256 is .*, expected 00"):
        download_movies(target, url=serve(archive.read_bytes()), expected_sha256="00", progress=False)
    assert [path.name for path in target.iterdir()] == ["movies"]
    assert (target / "movies" / "docs" / "old").is_file()


def test_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(DataError, match=r"^https://www\.eraserbenchmark\.com/.*Name or service.*--archive FILE$"):
        download_movies(tmp_path / "target", progress=False)
    assert list(tmp_path.iterdir()) == []


def test_addresses_and_targets_that_are_refused(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="must begin with http"):
        download_movies(tmp_path, url=archive.as_uri())
    (tmp_path / "file").write_text("x")
    with pytest.raises(ArgumentError, match="is a file, --target must be a folder"):
        download_movies(tmp_path / "file")
    (tmp_path / "movies").mkdir()
    (tmp_path / "movies" / "holiday.mp4").write_text("x")
    for call in (lambda: download_movies(tmp_path), lambda: install_archive(archive, tmp_path)):
        with pytest.raises(ArgumentError, match="exists and is not an ERASER corpus"):
            call()
    assert (tmp_path / "movies" / "holiday.mp4").is_file()


def test_no_folder_is_called_tilde(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No shell puts the home directory in its place in `--target=~/x`."""
    monkeypatch.chdir(tmp_path)
    for call in (lambda: download_movies("~/x"), lambda: install_archive(archive, "~/x")):
        with pytest.raises(ArgumentError, match="^--target: ~/x stands for no home directory here"):
            call()
    assert not (tmp_path / "~").exists()


def test_install_a_local_archive(archive: Path, tmp_path: Path) -> None:
    folder = install_archive(archive, tmp_path / "target")
    assert read_corpus(folder).checksum == read_corpus(archive).checksum
    assert json.loads((folder / "SOURCE.json").read_text())["source"] == "movies.tar.gz"
    assert archive.is_file()
    with pytest.raises(DataError, match="no such file"):
        install_archive(tmp_path / "nothing.tar.gz", tmp_path / "target")
    with pytest.raises(DataError, match="sha256 is"):
        install_archive(archive, tmp_path / "other", expected_sha256="ab")
    assert not (tmp_path / "other").exists()
