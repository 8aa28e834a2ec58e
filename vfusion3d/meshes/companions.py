"""The files that a mesh file refers to: beside it or below its folder, or where Gazebo's models keep textures."""

from __future__ import annotations

import os
import re
from pathlib import Path, PureWindowsPath
from urllib.parse import unquote

from PIL import Image, UnidentifiedImageError

# Options of an MTL file's map statement, such as "-s 1 1 1 skin.png"; none of them is applied.
_MAP_OPTIONS = re.compile(r"^(-[a-z]+(\s+(on|off|[rgbmlz]|[-+.\d]+))*\s+)+", re.IGNORECASE)


def companion_folders(mesh: Path) -> list[Path]:
    """Where a mesh's companions may be: its own folder and, of a model in Gazebo's layout (``NAME/meshes/model.obj``,
    as Google's scans come), ``NAME/materials/textures``."""
    folder = Path(os.path.abspath(mesh.parent))
    textures = folder.parent / "materials" / "textures"
    return [folder, textures] if folder.name == "meshes" and textures.is_dir() else [folder]


class Companions:
    """Finds material libraries, textures and buffers for trimesh, and remembers what it could not give.

    A file from somewhere else may name any path, and what it names would end up in pictures that people share;
    so only paths inside the mesh's folders (`companion_folders`) are opened. trimesh goes on without a texture that
    it does not get: the reader has to look at `problems`.

    Args:
        path: The mesh file.

    Attributes:
        problems: By the name in the mesh file: half a sentence about why it was not given.
    """

    def __init__(self, path: Path) -> None:
        self.folders = [os.fspath(folder) for folder in companion_folders(path)]
        self.file_name = path.name
        self.problems: dict[str, str] = {}
        self._given: dict[str, Path] = {}

    def get(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            FileNotFoundError: if it is outside the folder, missing or unreadable; `problems` says which.
        """
        try:
            path = self._given[name] = self.find(name)
            return path.read_bytes()
        except OSError as error:
            self.problems[name] = str(error)
            raise FileNotFoundError(str(error)) from error

    __getitem__ = get

    def keys(self) -> list[str]:
        """Nothing: what a file does not name is not looked for."""
        return []

    def find(self, name: str) -> Path:
        """The path of a file that the mesh file names.

        Raises:
            FileNotFoundError: half a sentence: if it is outside the mesh's folder, or missing.
        """
        for text in (name, unquote(name), _MAP_OPTIONS.sub("", name)):
            relative = text.strip().replace("\\", "/")
            # Links are followed: the caches of the Hugging Face hub consist of them.
            paths = [os.path.normpath(os.path.join(folder, relative)) for folder in self.folders]
            inside = [path for path in paths if any(os.path.commonpath([f, path]) == f for f in self.folders)]
            if not inside or PureWindowsPath(relative).drive:
                raise FileNotFoundError(
                    f"names the file '{name}', which is outside its folder and for safety not opened; put it beside "
                    "the mesh and correct the path"
                )
            for path in inside:
                if os.path.isfile(path):
                    return Path(path)
        raise FileNotFoundError(f"names the file '{name}', which is missing; put it there")

    def check_pictures(self) -> None:
        """Add the textures of an OBJ or PLY file that are no pictures to `problems`."""
        for name, path in self._given.items():
            if path.suffix.lower() == ".mtl":
                continue
            try:
                Image.open(path).close()
            except UnidentifiedImageError:
                self.problems[name] = (
                    f"names the file '{name}', which is no picture or damaged; save it again as PNG or JPEG"
                )
