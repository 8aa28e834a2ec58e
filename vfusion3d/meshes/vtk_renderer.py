"""Off-screen rendering of meshes with VTK: exact pinhole cameras, lights fixed in the world, smooth alpha."""

from __future__ import annotations

import contextlib
import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import numpy as np

from vfusion3d.cameras import Cameras
from vfusion3d.errors import MissingExtraError
from vfusion3d.meshes.lighting import LAMBERT, Environment, Lighting, Lights, Vector
from vfusion3d.meshes.mesh import Mesh, MeshPart
from vfusion3d.poly_data import poly_data

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

# The last hook of VTK's fragment shader: its result can be changed there.
_RESULT_HOOK = "//VTK::DepthPeeling::Impl"

# Normals in the world's axes, on the side that is seen.
_WORLD_NORMAL = "vec3 n = normalize(gl_FrontFacing ? worldNormal : -worldNormal);"
_NORMAL_AS_COLOUR = f"{{ {_WORLD_NORMAL} gl_FragData[0].rgb = 0.5 + 0.5 * n; }}"


class Geometry(NamedTuple):
    """Depth and normals of what each pixel's centre shows.

    Args:
        depths: ``[V, height, width]`` float32, distance along the viewing axis in world units; 0 where nothing is.
        normals: ``[V, height, width, 3]`` float32, unit length, world frame, on the side that is seen; 0 where
            nothing is.
    """

    depths: np.ndarray
    normals: np.ndarray


class VtkRenderer:
    """Renders meshes to RGBA images off-screen; one window is kept from call to call.

    Surfaces are purely diffuse and seen from both sides. Lights stand still in the world, so a point has the same
    colour in all views; ``unlit`` returns the base colour itself. Colours are sRGB values; `Lights` multiply them as
    they are, an `Environment` in linear light.

    Args:
        lighting: ``lambert``, ``unlit``, `Lights` or an `Environment`.
        supersampling: Samples per pixel and axis, at most 16; they are averaged with premultiplied alpha.

    Raises:
        MissingExtraError: if VTK cannot draw on this machine.
        ValueError: naming the argument.
    """

    def __init__(self, lighting: Lighting = "lambert", supersampling: int = 4) -> None:
        if not 1 <= supersampling <= 16:
            raise ValueError(f"Argument `supersampling` must be between 1 and 16, but got {supersampling}.")
        select_window()
        _load_triton()
        import vtkmodules.vtkRenderingOpenGL2  # noqa: F401  (registers the OpenGL back end)
        from vtkmodules.vtkRenderingCore import vtkRenderer, vtkRenderWindow

        self.supersampling = supersampling
        self._scene = vtkRenderer()
        self._scene.SetBackground(0.0, 0.0, 0.0)
        self._scene.SetBackgroundAlpha(0.0)
        self._scene.SetAutomaticLightCreation(False)
        self._scene.TwoSidedLightingOn()
        self.light(lighting)
        self._window = vtkRenderWindow()
        self._window.SetOffScreenRendering(True)
        self._window.SetMultiSamples(0)  # multisampling bleeds the background into edges
        self._window.SetAlphaBitPlanes(True)
        self._window.AddRenderer(self._scene)

    def light(self, lighting: Lighting) -> None:
        """Change the light.

        Args:
            lighting: As in the constructor.

        Raises:
            ValueError: if it is none.
        """
        if lighting not in ("lambert", "unlit") and not isinstance(lighting, (Lights, Environment)):
            raise ValueError(f"Argument `lighting` must be 'lambert', 'unlit' or lights, but got {lighting!r}.")
        self._lighting = LAMBERT if lighting == "lambert" else lighting
        self._scene.RemoveAllLights()
        if isinstance(self._lighting, Lights):
            for direction, colour in zip(self._lighting.directions, self._lighting.colours, strict=True):
                self._scene.AddLight(_light(direction, colour))

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
        views = np.empty((len(cameras.poses), height, width, 4), dtype=np.uint8)
        actors = [_actor(part, self._lighting) for part in mesh.parts]
        size = (width * self.supersampling, height * self.supersampling)
        for index, _ in enumerate(self._draw(mesh, actors, cameras, *size)):
            views[index] = average_samples(self._pixels(), self.supersampling)
        return views

    def render_geometry(self, mesh: Mesh, cameras: Cameras, height: int, width: int) -> Geometry:
        """Depth and normals, sampled at the pixels' centres; arguments as in `render`.

        Translucent surfaces count where their alpha reaches one half.
        """
        depths = np.zeros((len(cameras.poses), height, width), dtype=np.float32)
        normals = np.zeros((*depths.shape, 3), dtype=np.float32)
        actors = [_actor(part, "normals") for part in mesh.parts]
        for index, (near, far) in enumerate(self._draw(mesh, actors, cameras, width, height)):
            pixels = self._pixels()
            seen = pixels[..., 3] > 0
            inverse = (far + near) - (2.0 * self._depth_buffer() - 1.0) * (far - near)
            depths[index][seen] = (2.0 * far * near / inverse)[seen]
            normal = pixels[seen][:, :3] / 127.5 - 1.0
            normals[index][seen] = normal / np.linalg.norm(normal, axis=1, keepdims=True)
        return Geometry(depths, normals)

    def close(self) -> None:
        """Free the window's graphics resources; the renderer cannot be used afterwards."""
        self._window.Finalize()

    def _draw(
        self, mesh: Mesh, actors: list[Any], cameras: Cameras, width: int, height: int
    ) -> Iterator[tuple[float, float]]:
        """Draw view after view into the window; yields the distances of its near and far planes."""
        self._window.SetSize(width, height)
        vertices = mesh.vertices.astype(np.float64)
        middle = (vertices.min(0) + vertices.max(0)) / 2
        radius = float(np.linalg.norm(vertices - middle, axis=1).max())
        poses = cameras.poses.double().cpu().numpy()
        intrinsics = cameras.intrinsics.double().cpu().numpy()
        for actor in actors:
            self._scene.AddActor(actor)
        try:
            for pose, intrinsic in zip(poses, intrinsics, strict=True):
                planes = self._aim(pose, intrinsic, middle, radius)
                self._window.Render()
                yield planes
        finally:
            for actor in actors:
                self._scene.RemoveActor(actor)
                actor.ReleaseGraphicsResources(self._window)

    def _aim(self, pose: np.ndarray, intrinsic: np.ndarray, middle: np.ndarray, radius: float) -> tuple[float, float]:
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
        return near, far

    def _pixels(self) -> np.ndarray:
        """What was just drawn, ``[height, width, 4]`` uint8, row 0 at the top, at the samples' resolution."""
        from vtkmodules.util.numpy_support import vtk_to_numpy
        from vtkmodules.vtkCommonCore import vtkUnsignedCharArray

        width, height = self._window.GetSize()
        data = vtkUnsignedCharArray()
        self._window.GetRGBACharPixelData(0, 0, width - 1, height - 1, 0, data, 0)
        return vtk_to_numpy(data).reshape(height, width, 4)[::-1]

    def _depth_buffer(self) -> np.ndarray:
        """What was just drawn, ``[height, width]`` float64 in [0, 1], row 0 at the top."""
        from vtkmodules.util.numpy_support import vtk_to_numpy
        from vtkmodules.vtkCommonCore import vtkFloatArray

        width, height = self._window.GetSize()
        data = vtkFloatArray()
        self._window.GetZbufferData(0, 0, width - 1, height - 1, data)
        return vtk_to_numpy(data).reshape(height, width)[::-1].astype(np.float64)


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


def _light(direction: Vector, colour: Vector) -> Any:
    from vtkmodules.vtkRenderingCore import vtkLight

    light = vtkLight()
    light.SetLightTypeToSceneLight()  # VTK's default lights follow the camera
    light.SetPositional(False)
    light.SetPosition(*direction)
    light.SetFocalPoint(0.0, 0.0, 0.0)
    light.SetColor(*colour)
    light.SetIntensity(1.0)
    return light


def _actor(part: MeshPart, lighting: Lights | Environment | Literal["unlit", "normals"]) -> Any:
    from vtkmodules.util.numpy_support import numpy_to_vtk
    from vtkmodules.vtkRenderingCore import vtkActor, vtkPolyDataMapper

    data = poly_data(part.vertices, part.faces)
    if isinstance(lighting, Lights):
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
    if isinstance(lighting, Lights):
        surface.SetAmbient(lighting.ambient)
        surface.SetDiffuse(1.0)
    else:
        surface.LightingOff()
    if part.texture is not None and part.uv is not None:
        data.GetPointData().SetTCoords(numpy_to_vtk(part.uv, deep=1))
        actor.SetTexture(_texture(part))
    code = []
    if part.alpha == "blend" and lighting != "normals":
        code += [_SCREEN_DOOR, "gl_FragData[0].a = 1.0;"]
    elif part.alpha != "opaque":
        cutoff = part.alpha_cutoff if part.alpha == "mask" else 0.5
        code += [f"if (gl_FragData[0].a < {cutoff:.6f}) discard;", "gl_FragData[0].a = 1.0;"]
    if lighting == "normals" or isinstance(lighting, Environment):
        _give_world_normals(actor, part)
        code.append(_NORMAL_AS_COLOUR if isinstance(lighting, str) else _environment_shader(lighting))
    if code:
        shader = actor.GetShaderProperty()
        shader.AddFragmentShaderReplacement(_RESULT_HOOK, True, "\n".join([_RESULT_HOOK, *code, ""]), False)
    return actor


def _give_world_normals(actor: Any, part: MeshPart) -> None:
    """Let the fragment shader know ``worldNormal``; VTK's own normals are turned into the camera's axes."""
    from vtkmodules.util.numpy_support import numpy_to_vtk
    from vtkmodules.vtkCommonDataModel import vtkDataObject

    normals = numpy_to_vtk(part.normals, deep=1)
    normals.SetName("worldNormals")
    mapper = actor.GetMapper()
    mapper.GetInput().GetPointData().AddArray(normals)
    points = vtkDataObject.FIELD_ASSOCIATION_POINTS
    mapper.MapDataArrayToVertexAttribute("worldNormalMC", "worldNormals", points, -1)
    shader = actor.GetShaderProperty()
    for hook, code in (
        ("//VTK::Normal::Dec", "in vec3 worldNormalMC;\nout vec3 worldNormal;"),
        ("//VTK::Normal::Impl", "worldNormal = worldNormalMC;"),
    ):
        shader.AddVertexShaderReplacement(hook, True, f"{hook}\n{code}\n", False)
    hook = "//VTK::Normal::Dec"
    shader.AddFragmentShaderReplacement(hook, True, f"{hook}\nin vec3 worldNormal;\n", False)


def _environment_shader(environment: Environment) -> str:
    """GLSL that multiplies the result by `Environment.shade`, in linear light."""
    basis = ("1.0", "n.y", "n.z", "n.x", "n.x*n.y", "n.y*n.z", "(3.0*n.z*n.z-1.0)", "n.x*n.z", "(n.x*n.x-n.y*n.y)")
    terms = [
        f"{term} * vec3({red:.8f}, {green:.8f}, {blue:.8f})"
        for term, (red, green, blue) in zip(basis, environment.coefficients, strict=True)
    ]
    return f"""{{
  {_WORLD_NORMAL}
  vec3 c = gl_FragData[0].rgb;
  c = mix(c / 12.92, pow((c + 0.055) / 1.055, vec3(2.4)), step(0.04045, c));
  c *= clamp({" + ".join(terms)}, 0.0, 1.0);
  gl_FragData[0].rgb = mix(c * 12.92, 1.055 * pow(c, vec3(1.0 / 2.4)) - 0.055, step(0.0031308, c));
}}"""


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


def _load_triton() -> None:
    """Mesa's LLVM, loaded with the first window, would crash a later import of Triton's, which much of torch does."""
    with contextlib.suppress(ImportError):
        importlib.import_module("triton")


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
