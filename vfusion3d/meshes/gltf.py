"""What a glTF file says about itself, and what of it is not drawn; trimesh reads its triangles."""

from __future__ import annotations

import base64
import io
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from vfusion3d.errors import MeshError
from vfusion3d.meshes.companions import Companions

_JSON, _BINARY = 0x4E4F534A, 0x004E4942


@dataclass(frozen=True)
class GltfFile:
    """The JSON document of a ``.glb`` or ``.gltf`` file.

    Args:
        path: The file.
        document: The document.
        binary: Where a ``.glb`` file's own buffer begins, in bytes, or None.
    """

    path: Path
    document: dict[str, Any]
    binary: int | None = None

    @staticmethod
    def load(path: Path) -> GltfFile:
        """Read the document.

        Raises:
            MeshError: if the file is not glTF 2, or shorter than it says.
        """
        try:
            if path.suffix.lower() == ".gltf":
                document, binary = json.loads(path.read_text(encoding="utf-8")), None
            else:
                document, binary = _open_glb(path)
            if not str(document["asset"]["version"]).startswith("2"):
                raise ValueError(f"version {document['asset']['version']} of glTF")
            return GltfFile(path, document, binary)
        except MeshError:
            raise
        except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
            raise MeshError(
                f"The file {path} cannot be read as a mesh: it is no valid glTF 2 file "
                f"({type(error).__name__}: {error}); export it again."
            ) from error

    @property
    def licence(self) -> str | None:
        """What ``asset`` says about licence or copyright."""
        return self._said("licence", "license") or _text(self.document["asset"].get("copyright"))

    @property
    def caption(self) -> str | None:
        """A ``caption`` or ``description`` in the extras of the asset, the scene or its only root node."""
        return self._said("caption", "description")

    def notes(self) -> tuple[str, ...]:
        """One sentence each about what the file holds and nobody will see."""
        found = []
        name = f"The mesh {self.path}"
        scenes = self.document.get("scenes", [])
        if len(scenes) > 1:
            found.append(f"{name} has {len(scenes)} scenes; only the default one ({self._scene_index()}) is used.")
        if self.document.get("animations") or self.document.get("skins"):
            found.append(f"{name} is animated; only its rest pose is used.")
        if "KHR_texture_transform" in self.document.get("extensionsUsed", []):
            found.append(f"{name} moves textures by KHR_texture_transform, which is not applied; check its colours.")
        return tuple(found)

    def check_textures(self, companions: Companions) -> None:
        """Check that every base-colour texture can be opened: trimesh goes on without one.

        Raises:
            MeshError: naming the texture.
        """
        textures, images = self.document.get("textures", []), self.document.get("images", [])
        for material in self.document.get("materials", []):
            reference = material.get("pbrMetallicRoughness", {}).get("baseColorTexture")
            gloss = material.get("extensions", {}).get("KHR_materials_pbrSpecularGlossiness")
            reference = gloss.get("diffuseTexture") if gloss else reference
            if reference is None:
                continue
            texture = textures[reference["index"]]
            source = texture.get("extensions", {}).get("EXT_texture_webp", texture).get("source")
            if source is None or images[source].get("mimeType") == "image/ktx2":
                raise MeshError(
                    f"The mesh {self.path} has a texture in a format other than PNG, JPEG or WebP; export it with "
                    "one of these."
                )
            self._open_image(images[source], source, companions)

    def _open_image(self, image: dict[str, Any], index: int, companions: Companions) -> None:
        """Look at an image's header; its pixels are decoded once, later."""
        label = image.get("name") or f"number {index}"
        try:
            if "bufferView" in image:
                data = self._view(image["bufferView"], companions)
            elif ";base64," in image["uri"][:100]:
                data = base64.b64decode(image["uri"].partition(";base64,")[2])
            else:
                label = image["uri"]
                data = companions.get(label)
        except FileNotFoundError as error:
            raise MeshError(f"The mesh {self.path} {error}.") from error
        try:
            Image.open(io.BytesIO(data)).close()
        except UnidentifiedImageError as error:
            raise MeshError(
                f"The mesh {self.path} has a texture ({label}) that is damaged or no picture; export it again."
            ) from error

    def _view(self, index: int, companions: Companions) -> bytes:
        view = self.document["bufferViews"][index]
        start, length = view.get("byteOffset", 0), view["byteLength"]
        uri = self.document["buffers"][view["buffer"]].get("uri")
        if uri is None and self.binary is not None:
            with self.path.open("rb") as file:
                file.seek(self.binary + start)
                return file.read(length)
        if uri is None:
            raise ValueError(f"buffer {view['buffer']} has no content")
        whole = base64.b64decode(uri.partition(";base64,")[2]) if uri.startswith("data:") else companions.get(uri)
        return whole[start : start + length]

    def _scene_index(self) -> int:
        return int(self.document.get("scene", 0))

    def _said(self, *keys: str) -> str | None:
        holders = [self.document["asset"]]
        scenes = self.document.get("scenes", [])
        if scenes:
            scene = scenes[self._scene_index()]
            roots = scene.get("nodes", [])
            holders += [scene, *(self.document["nodes"][root] for root in roots if len(roots) == 1)]
        for holder in holders:
            extras = holder.get("extras")
            for key in keys if isinstance(extras, dict) else ():
                if extras.get(key):
                    return _text(extras[key])
        return None


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _open_glb(path: Path) -> tuple[dict[str, Any], int | None]:
    size = path.stat().st_size
    with path.open("rb") as file:
        magic, _, length = struct.unpack("<4sII", file.read(12))
        if magic != b"glTF":
            raise ValueError("it does not begin with 'glTF'")
        if size < length:
            raise MeshError(
                f"The file {path} cannot be read as a mesh: it is cut off ({size} of {length} bytes); copy or "
                "download it again."
            )
        count, kind = struct.unpack("<II", file.read(8))
        if kind != _JSON:
            raise ValueError("it has no JSON chunk")
        document = json.loads(file.read(count))
        rest = file.read(8)
        has_binary = len(rest) == 8 and struct.unpack("<II", rest)[1] == _BINARY
        return document, file.tell() if has_binary else None
