"""An artefact folder on disk: opened, and checked file by file before anything in it is used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from edgeline.errors import ArtefactError
from edgeline.files import sha256_of_file
from edgeline.manifest import FILE_NAME, Manifest, manifest_from_file

GRAPH_FILE = "model.onnx"
SELFTEST_FILE = "selftest.npz"


@dataclass(frozen=True, slots=True)
class Artefact:
    """A checked artefact: its folder and its manifest."""

    folder: Path
    manifest: Manifest

    @property
    def name(self) -> str:
        """The folder's name, for instance `lenet-mnist-10k.fp32.onnx`."""
        return self.folder.name

    def file(self, name: str) -> Path:
        """Return the path of one of the files that the manifest lists.

        Raises ArtefactError when the manifest does not list it.
        """
        if name not in self.manifest.files:
            raise ArtefactError(f"{self.folder} has no {name}; its manifest lists {', '.join(self.manifest.files)}")
        return self.folder / name

    @property
    def total_bytes(self) -> int:
        """The size of all its files, the manifest included."""
        return sum(entry.bytes for entry in self.manifest.files.values()) + (self.folder / FILE_NAME).stat().st_size


def open_artefact(folder: str | Path) -> Artefact:
    """Open and check an artefact: manifest, then presence, size and SHA-256 of each file it lists.

    Raises ArtefactError when the folder or a file is missing, a hash is wrong, a listed path leaves the folder, or the
    folder holds a file that is not listed.
    """
    path = Path(folder)
    if not path.exists():
        raise ArtefactError(f"there is no artefact at {path}; export-model writes one")
    if not path.is_dir():
        raise ArtefactError(f"{path} is a file; an artefact is a folder with a {FILE_NAME}")
    manifest = manifest_from_file(path / FILE_NAME)
    for name, entry in manifest.files.items():
        file = _inside(path, name)
        if not file.is_file():
            raise ArtefactError(f"{path} is incomplete: {name} is missing; export it again with export-model")
        found_bytes = file.stat().st_size
        if found_bytes != entry.bytes:
            raise ArtefactError(f"{file} has {found_bytes} bytes, its manifest says {entry.bytes}; export it again")
        found = sha256_of_file(file)
        if found != entry.sha256:
            raise ArtefactError(
                f"{file} is not the file that was exported: sha256 {found[:12]}, expected {entry.sha256[:12]}; "
                "export it again"
            )
    _refuse_unlisted(path, manifest)
    return Artefact(path, manifest)


def _refuse_unlisted(folder: Path, manifest: Manifest) -> None:
    """A file without a hash could be read all the same: a graph may keep its weights in files beside it."""
    for entry in sorted(folder.rglob("*")):
        name = entry.relative_to(folder).as_posix()
        if not entry.is_dir() and name != FILE_NAME and name not in manifest.files:
            raise ArtefactError(f"{folder} holds '{name}', which its manifest does not list; move it away")


def _inside(folder: Path, name: str) -> Path:
    """Join a listed name to the folder; refuse what would lead out of it, by `..`, by root or by a link."""
    parts = PurePosixPath(name)
    candidate = folder / parts
    if parts.is_absolute() or ".." in parts.parts or not candidate.resolve().is_relative_to(folder.resolve()):
        raise ArtefactError(f"{folder / FILE_NAME} lists '{name}', which leaves the artefact's folder; not loaded")
    return candidate
