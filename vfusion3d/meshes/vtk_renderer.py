"""Off-screen rendering of meshes with VTK: exact pinhole cameras, lights fixed in the world, smooth alpha."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any, Literal

import numpy as np

from vfusion3d.cameras import Cameras
from vfusion3d.errors import MissingExtraError
from vfusion3d.meshes.mesh import Mesh, MeshPart

Lighting = Literal["lambert", "unlit"]

# Directions towards the lights (world axes) and their strengths: a key light above the front, a weaker fill and
# a rim light, on an ambient floor. They add up to at most 1 for any normal, so nothing is ever clipped.
_AMBIENT = 0.58
_LIGHTS = (((1.0, 0.5, 1.2), 0.35), ((0.2, -1.0, 0.3), 0.21), ((-1.0, 0.3, 0.4), 0.21))

# What the window is drawn with on a machine without a display, in order of preference.
_LINUX_WINDOWS = ("vtkEGLRenderWindow", "vtkOSOpenGLRenderWindow")
_WINDOW_KEY = "VTK_DEFAULT_OPENGL_WINDOW"  # read by VTK
_CHECKED_KEY = "VFUSION3D_VTK_CHECKED"  # tells child processes that the choice has been tried

# A 4 x 4 Bayer matrix: translucent surfaces cover that share of each pixel's samples, whatever the drawing order.
_SCREEN_DOOR = """
  const float bayer[16] = float[16](0.,8.,2.,10., 12.,4.,14.,6., 3.,11.,1.,9., 15.,7.,13.,5.);
  ivec2 cell = ivec2(gl_FragCoord.xy) & 3;
  if (gl_FragData[0].a <= (bayer[cell.y * 4 + cell.x] + 0.5) / 16.0) discard;
"""


class VtkRenderer:
    """Renders meshes to RGBA images off-screen; one window is kept from call to call.

    Surfaces are purely diffuse and seen from both sides. With lighting ``lambert`` the lights stand still in
    the world, so a point has the same colour in all views; ``unlit`` returns the base colour itself. Colours
    are sRGB values, and light multiplies them as they are.

    Args:
        lighting: ``lambert`` or ``unlit``.
        supersampling: Samples per pixel and axis, at most 16; they are averaged with premultiplied alpha.

    Raises:
        MissingExtraError: if VTK cannot draw on this machine.
        ValueError: naming the argument.
    """

    def __init__(self, lighting: Lighting = "lambert", supersampling: int = 4) -> None:
        if lighting not in ("lambert", "unlit"):
            raise ValueError(f"Argument `lighting` must be 'lambert' or 'unlit', but got {lighting!r}.")
        if not 1 <= supersampling <= 16:
            raise ValueError(f"Argument `supersampling` must be between 1 and 16, but got {supersampling}.")
        select_window()
        import vtkmodules.vtkRenderingOpenGL2  # noqa: F401  (registers the OpenGL back end)
        from vtkmodules.vtkRenderingCore import vtkRenderer, vtkRenderWindow

        self.lighting = lighting
        self.supersampling = supersampling
        self._scene = vtkRenderer()
        self._scene.SetBackground(0.0, 0.0, 0.0)
        self._scene.SetBackgroundAlpha(0.0)
        self._scene.SetAutomaticLightCreation(False)
        self._scene.TwoSidedLightingOn()
        for direction, strength in _LIGHTS if lighting == "lambert" else ():
            self._scene.AddLight(_light(direction, strength))
        self._window = vtkRenderWindow()
        self._window.SetOffScreenRendering(True)
        self._window.SetMultiSamples(0)  # multisampling bleeds the background into edges
        self._window.SetAlphaBitPlanes(True)
        self._window.AddRenderer(self._scene)

    def render(self, mesh: Mesh, cameras: Cameras, height: int, width: int) -> np.ndarray:
        """Render views of a mesh.

        Args:
            mesh: The mesh, in world units.
            cameras: Cameras of shape ``[V]``, outside the mesh.
            height: Image height in pixels.
            width: Image width in pixels.

        Returns:
            ``[V, height, width, 4]`` uint8 RGBA, straight alpha; the background is zero in all four channels.
        """
        actors = [_actor(part, self.lighting) for part in mesh.parts]
        for actor in actors:
            self._scene.AddActor(actor)
        self._window.SetSize(width * self.supersampling, height * self.supersampling)
        vertices = mesh.vertices.astype(np.float64)
        middle = (vertices.min(0) + vertices.max(0)) / 2
        radius = float(np.linalg.norm(vertices - middle, axis=1).max())
        poses = cameras.poses.double().cpu().numpy()
        intrinsics = cameras.intrinsics.double().cpu().numpy()
        views = np.empty((len(poses), height, width, 4), dtype=np.uint8)
        try:
            for view, pose, intrinsic in zip(views, poses, intrinsics, strict=True):
                self._aim(pose, intrinsic, middle, radius)
                self._window.Render()
                view[:] = average_samples(self._pixels(), self.supersampling)
        finally:
            for actor in actors:
                self._scene.RemoveActor(actor)
                actor.ReleaseGraphicsResources(self._window)
        return views

    def close(self) -> None:
        """Free the window's graphics resources; the renderer cannot be used afterwards."""
        self._window.Finalize()

    def _aim(self, pose: np.ndarray, intrinsic: np.ndarray, middle: np.ndarray, radius: float) -> None:
        from vtkmodules.vtkCommonMath import vtkMatrix4x4

        camera = self._scene.GetActiveCamera()
        camera.SetPosition(*pose[:, 3])
        camera.SetFocalPoint(*(pose[:, 3] - pose[:, 2]))
        camera.SetViewUp(*pose[:, 1])
        depth = float((pose[:, 3] - middle) @ pose[:, 2])
        far = max(depth + 1.01 * radius, 1e-3 * radius)
        near = max(depth - 1.01 * radius, 1e-3 * far)
        fx, fy, cx, cy = intrinsic
        rows = [
            [2 * fx, 0.0, 1 - 2 * cx, 0.0],
            [0.0, 2 * fy, 2 * cy - 1, 0.0],
            [0.0, 0.0, -(far + near) / (far - near), -2 * far * near / (far - near)],
            [0.0, 0.0, -1.0, 0.0],
        ]
        matrix = vtkMatrix4x4()
        matrix.DeepCopy([number for row in rows for number in row])
        camera.SetExplicitProjectionTransformMatrix(matrix)
        camera.UseExplicitProjectionTransformMatrixOn()

    def _pixels(self) -> np.ndarray:
        """What was just drawn, ``[height, width, 4]`` uint8, row 0 at the top, at the samples' resolution."""
        from vtkmodules.util.numpy_support import vtk_to_numpy
        from vtkmodules.vtkCommonCore import vtkUnsignedCharArray

        width, height = self._window.GetSize()
        data = vtkUnsignedCharArray()
        self._window.GetRGBACharPixelData(0, 0, width - 1, height - 1, 0, data, 0)
        return vtk_to_numpy(data).reshape(height, width, 4)[::-1]


def average_samples(samples: np.ndarray, factor: int) -> np.ndarray:
    """Average blocks of pixels with premultiplied alpha.

    Args:
        samples: ``[H * factor, W * factor, 4]`` uint8 RGBA, each either covered (alpha 255) or zero, for which
            straight and premultiplied alpha are the same.
        factor: Block size, at most 16.

    Returns:
        ``[H, W, 4]`` uint8, straight alpha; zero where nothing is covered.
    """
    rows = sum((samples[k::factor] for k in range(1, factor)), start=samples[::factor].astype(np.uint16))
    total = sum((rows[:, k::factor] for k in range(1, factor)), start=rows[:, ::factor])
    covered = np.maximum(total[..., 3:] // 255, 1)
    color = (total[..., :3] + covered // 2) // covered
    alpha = (total[..., 3:] + factor**2 // 2) // factor**2
    return np.concatenate([color, alpha], -1).astype(np.uint8)


def _light(direction: tuple[float, float, float], strength: float) -> Any:
    from vtkmodules.vtkRenderingCore import vtkLight

    light = vtkLight()
    light.SetLightTypeToSceneLight()  # VTK's default lights follow the camera
    light.SetPositional(False)
    light.SetPosition(*direction)
    light.SetFocalPoint(0.0, 0.0, 0.0)
    light.SetColor(1.0, 1.0, 1.0)
    light.SetIntensity(strength)
    return light


def _actor(part: MeshPart, lighting: Lighting) -> Any:
    from vtkmodules.util.numpy_support import numpy_to_vtk, numpy_to_vtkIdTypeArray
    from vtkmodules.vtkCommonCore import vtkPoints
    from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkPolyData
    from vtkmodules.vtkRenderingCore import vtkActor, vtkPolyDataMapper

    points, cells, data = vtkPoints(), vtkCellArray(), vtkPolyData()
    points.SetData(numpy_to_vtk(part.vertices, deep=1))
    offsets = np.arange(0, 3 * len(part.faces) + 1, 3)
    corners = np.ascontiguousarray(part.faces.reshape(-1))
    cells.SetData(numpy_to_vtkIdTypeArray(offsets, deep=1), numpy_to_vtkIdTypeArray(corners, deep=1))
    data.SetPoints(points)
    data.SetPolys(cells)
    if lighting == "lambert":
        data.GetPointData().SetNormals(numpy_to_vtk(part.normals, deep=1))
    colors = part.colours.copy()
    if part.alpha == "opaque":
        colors[:, 3] = 255
    data.GetPointData().SetScalars(numpy_to_vtk(colors, deep=1))

    mapper = vtkPolyDataMapper()
    mapper.SetInputData(data)
    mapper.SetColorModeToDirectScalars()
    actor = vtkActor()
    actor.SetMapper(mapper)
    actor.ForceOpaqueOn()  # alpha is resolved per sample below, so nothing needs sorting
    surface = actor.GetProperty()
    surface.SetInterpolationToPhong()
    surface.SetSpecular(0.0)
    if lighting == "lambert":
        surface.SetAmbient(_AMBIENT)
        surface.SetDiffuse(1.0)
    else:
        surface.LightingOff()
    if part.texture is not None and part.uv is not None:
        data.GetPointData().SetTCoords(numpy_to_vtk(part.uv, deep=1))
        actor.SetTexture(_texture(part))
    if part.alpha != "opaque":
        keep = _SCREEN_DOOR if part.alpha == "blend" else f"if (gl_FragData[0].a < {part.alpha_cutoff:.6f}) discard;"
        hook = "//VTK::DepthPeeling::Impl"
        code = f"{hook}\n  {keep}\n  gl_FragData[0].a = 1.0;\n"
        actor.GetShaderProperty().AddFragmentShaderReplacement(hook, True, code, False)
    return actor


def _texture(part: MeshPart) -> Any:
    from vtkmodules.util.numpy_support import numpy_to_vtk
    from vtkmodules.vtkCommonDataModel import vtkImageData
    from vtkmodules.vtkRenderingCore import vtkTexture

    assert part.texture is not None
    pixels = part.texture if part.alpha != "opaque" else part.texture[..., :3]
    height, width, channels = pixels.shape
    image = vtkImageData()
    image.SetDimensions(width, height, 1)
    rows = np.ascontiguousarray(pixels[::-1]).reshape(-1, channels)  # VTK's row 0 is at v = 0
    image.GetPointData().SetScalars(numpy_to_vtk(rows, deep=1))
    texture = vtkTexture()
    texture.SetInputData(image)
    texture.SetColorModeToDirectScalars()
    texture.InterpolateOn()
    texture.MipmapOff()  # supersampling filters already, and coarse levels mix the islands of an atlas
    texture.RepeatOn()
    return texture


def select_window() -> None:
    """Choose how VTK draws off-screen and make sure that it works here.

    Without EGL or OSMesa VTK ends the whole process, so a child process tries first. A choice made through
    the environment variable ``VTK_DEFAULT_OPENGL_WINDOW`` is respected.

    Raises:
        MissingExtraError: if VTK is not installed or cannot draw.
    """
    if _CHECKED_KEY in os.environ:
        return
    chosen = os.environ.get(_WINDOW_KEY)
    candidates: tuple[str | None, ...] = (chosen,) if chosen or not sys.platform.startswith("linux") else _LINUX_WINDOWS
    code = (
        "import sys, vtkmodules.vtkRenderingOpenGL2\n"
        "from vtkmodules.vtkRenderingCore import vtkRenderWindow\n"
        "w = vtkRenderWindow(); w.SetOffScreenRendering(True); w.SetSize(8, 8); w.Render()\n"
        "sys.exit(0 if w.SupportsOpenGL() else 1)\n"
    )
    for candidate in candidates:
        environment = dict(os.environ) if candidate is None else {**os.environ, _WINDOW_KEY: candidate}
        try:
            tried = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, timeout=60)
        except subprocess.TimeoutExpired:
            continue
        if tried.returncode == 0:
            if candidate is not None:
                os.environ[_WINDOW_KEY] = candidate
            os.environ[_CHECKED_KEY] = "1"
            return
    raise MissingExtraError(
        "VTK cannot draw off-screen on this machine; install the package `vtk` and an EGL library "
        "(on Debian and Ubuntu: apt-get install libegl1 libgl1-mesa-dri)."
    )
