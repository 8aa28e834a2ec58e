"""A GLB in headless Chromium with three.js, both optional; VFUSION3D_THREE is the folder of `npm pack three`."""

from __future__ import annotations

import functools
import http.server
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vfusion3d.meshes.writers import write_mesh
from vfusion3d.rendering.isosurface import SurfaceMesh
from vfusion3d.rendering.unwrap import squares

PAGE = """<!doctype html><meta charset="utf-8"><body style="margin:0">
<script type="importmap">
{"imports": {"three": "/three/build/three.module.js", "three/addons/": "/three/examples/jsm/"}}
</script>
<script type="module">
import * as THREE from 'three';
import { GLTFLoader } from 'three/addons/loaders/GLTFLoader.js';
const renderer = new THREE.WebGLRenderer({preserveDrawingBuffer: true});
renderer.setSize(128, 128);
document.body.append(renderer.domElement);
const scene = new THREE.Scene();
scene.background = new THREE.Color(0xffffff);
const camera = new THREE.PerspectiveCamera(40, 1, 0.1, 10);
camera.position.set(0, 0, 3);
scene.add(new THREE.AmbientLight(0xffffff, Math.PI));
new GLTFLoader().load('/mesh.glb', (gltf) => {
  scene.add(gltf.scene);
  renderer.render(scene, camera);
  let textured = 0;
  gltf.scene.traverse((part) => { if (part.isMesh && part.material.map) textured++; });
  document.title = `textured ${textured} triangles ${renderer.info.render.triangles}`;
}, undefined, (error) => { document.title = 'error ' + error; });
</script>
"""


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    three = os.environ.get("VFUSION3D_THREE")
    if shutil.which("chromium") is None or not three:
        pytest.skip("needs Chromium and VFUSION3D_THREE, the unpacked folder of `npm pack three`")
    (tmp_path / "three").symlink_to(Path(three).resolve())
    (tmp_path / "page.html").write_text(PAGE)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("localhost", 0), functools.partial(Quiet, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://localhost:{server.server_address[1]}/page.html"
    server.shutdown()


@pytest.mark.slow
def test_three_shows_the_texture(address: str, tmp_path: Path) -> None:
    corners = np.array([[1, -1, -1], [1, 1, -1], [1, -1, 1], [1, 1, 1]], dtype=np.float32) * 0.8  # the front, +X
    atlas = squares(np.array([[0, 1, 3], [0, 3, 2]]))
    vertices = corners[atlas.original]
    normals = np.tile(np.array([1, 0, 0], dtype=np.float32), (len(vertices), 1))
    texture = np.full((64, 64, 3), [200, 120, 40], dtype=np.uint8)
    colours = np.zeros((len(vertices), 3), dtype=np.uint8)
    write_mesh(SurfaceMesh(vertices, atlas.faces, colours, normals, atlas.uv, texture), tmp_path / "mesh.glb")
    command = [
        *("chromium", "--headless=new", "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader"),
        *("--enable-unsafe-swiftshader", "--hide-scrollbars", "--window-size=128,128", "--virtual-time-budget=60000"),
    ]
    page = subprocess.run([*command, "--dump-dom", address], capture_output=True, text=True, timeout=240).stdout
    title = re.search("<title>(.*)</title>", page)
    assert title and title[1] == "textured 1 triangles 2"
    picture = tmp_path / "screen.png"
    subprocess.run([*command, f"--screenshot={picture}", address], capture_output=True, timeout=240, check=True)
    middle = np.asarray(Image.open(picture).convert("RGB"))[48:80, 48:80].reshape(-1, 3)
    assert np.abs(np.median(middle, axis=0) - [200, 120, 40]).max() <= 4
