from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from vfusion3d.cameras import Cameras, look_at, orbit, pinhole, random_sphere
from vfusion3d.meshes.lighting import Environment, random_lights
from vfusion3d.meshes.mesh import Mesh, MeshPart
from vfusion3d.meshes.vtk_renderer import average_samples


def quad(normal: tuple = (1.0, 0.0, 0.0), color: tuple = (200, 200, 200, 255)) -> MeshPart:
    """A unit square through the origin that faces +X, whatever its shading normal."""
    vertices = np.array([[0, -0.5, -0.5], [0, 0.5, -0.5], [0, 0.5, 0.5], [0, -0.5, 0.5]], dtype=np.float32)
    return MeshPart(
        vertices=vertices,
        faces=np.array([[0, 1, 2], [0, 2, 3]]),
        normals=np.tile(np.array(normal, dtype=np.float32), (4, 1)),
        colours=np.tile(np.array(color, dtype=np.uint8), (4, 1)),
        uv=np.array([[0, 0], [1, 0], [1, 1], [0, 1]], dtype=np.float32),
    )


def colour_at(view: np.ndarray, camera: Cameras, point: list[float]) -> np.ndarray:
    """The pixel a world point falls into."""
    uv, _ = camera.project(torch.tensor([point]))
    height, width = view.shape[:2]
    return view[int(uv[0, 1] * height), int(uv[0, 0] * width)].astype(int)


def test_unlit_grey_comes_back_exactly(renderers: dict, box_mesh: Callable) -> None:
    cameras = random_sphere(6, generator=torch.Generator().manual_seed(0))
    views = renderers["unlit"].render(box_mesh(), cameras, 64, 64)
    inside = views[..., 3] == 255
    assert inside.sum() > 500
    assert abs(views[inside][:, :3].astype(int) - 128).max() <= 2


def test_edges_carry_the_colour_of_the_object_and_the_background_is_zero(renderers: dict, box_mesh: Callable) -> None:
    views = renderers["unlit"].render(box_mesh(color=(255, 128, 10)), orbit(4, elevation=0.3, start=0.2), 64, 64)
    edge = (views[..., 3] > 0) & (views[..., 3] < 255)
    assert edge.sum() > 50
    assert abs(views[edge][:, :3].astype(int) - (255, 128, 10)).max() <= 2
    assert len(np.unique(views[..., 3])) > 10  # smooth alpha
    assert views[views[..., 3] == 0].max() == 0


def test_views_of_an_asymmetric_object_differ(renderers: dict, box: Callable) -> None:
    mesh = Mesh((box(), box((0.5, 0.5, 0.5), (0.3, 0.2, 0.1), (255, 0, 0))))
    views = renderers["lambert"].render(mesh, orbit(4), 48, 48).astype(int)
    for a in range(4):
        for b in range(a):
            assert abs(views[a] - views[b]).mean() > 1


def test_views_do_not_depend_on_what_was_drawn_before(renderers: dict, box_mesh: Callable) -> None:
    red, blue = box_mesh(color=(255, 0, 0)), box_mesh(half=(0.2, 0.3, 0.6), color=(0, 0, 255))
    cameras = orbit(3, elevation=0.4)
    first = renderers["lambert"].render(red, cameras, 40, 40)
    renderers["lambert"].render(blue, cameras[1:], 24, 60)
    again = renderers["lambert"].render(red, cameras, 40, 40)
    alone = renderers["lambert"].render(red, cameras[2:], 40, 40)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first[2:], alone)


def test_points_land_where_the_cameras_project_them(renderers: dict, box_mesh: Callable) -> None:
    height, width = 120, 160
    intrinsics = torch.tensor([1.2, 1.5, 0.42, 0.61])  # off-centre, not square
    eyes = torch.tensor([[2.5, 0.5, 1.0], [-1.0, 2.0, -1.5], [0.0, 0.0, 3.0]])
    cameras = look_at(eyes, intrinsics)
    rows, columns = np.mgrid[:height, :width] + 0.5
    generator = np.random.default_rng(0)
    for point in generator.uniform(-0.35, 0.35, (5, 3)):
        views = renderers["unlit"].render(box_mesh(tuple(point), (0.02,) * 3), cameras, height, width)
        uv, _ = cameras.project(torch.tensor(point, dtype=torch.float32).expand(3, 1, 3))
        for view, expected in zip(views, uv[:, 0].numpy(), strict=True):
            weight = view[..., 3].astype(float)
            centre = np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()
            assert abs(centre - expected * [width, height]).max() < 0.3


def test_outline_agrees_with_the_projected_vertices(renderers: dict, box_mesh: Callable) -> None:
    mesh, size = box_mesh(half=(0.3, 0.5, 0.4)), 128
    cameras = random_sphere(5, generator=torch.Generator().manual_seed(1))
    views = renderers["unlit"].render(mesh, cameras, size, size)
    for view, camera in zip(views, cameras, strict=True):
        uv, _ = camera.project(torch.from_numpy(mesh.vertices))
        rows, columns = np.nonzero(view[..., 3] > 0)
        seen = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        expected = np.concatenate([uv.numpy().min(0), uv.numpy().max(0)]) * size
        assert abs(seen - expected).max() < 1.5  # a corner may cover less than one of the samples


def test_nearer_surfaces_hide_farther_ones(renderers: dict, box: Callable) -> None:
    mesh = Mesh((box((0.5, 0, 0), (0.1,) * 3, (255, 0, 0)), box((-0.5, 0, 0), (0.1,) * 3, (0, 0, 255))))
    views = renderers["unlit"].render(mesh, orbit(2), 33, 33)
    np.testing.assert_array_equal(views[:, 16, 16], [[255, 0, 0, 255], [0, 0, 255, 255]])


def test_a_lambertian_point_looks_the_same_from_everywhere(renderers: dict) -> None:
    generator = np.random.default_rng(0)
    normal = np.array([0.8, 0.3, 0.52])  # a shading normal that is not the face's
    mesh = Mesh((quad(tuple(normal / np.linalg.norm(normal))),))
    eyes = generator.normal(size=(12, 3))
    eyes[:, 0] = abs(eyes[:, 0]) + 0.4  # all on the front side, many of them grazing
    cameras = look_at(torch.tensor(eyes / np.linalg.norm(eyes, axis=1, keepdims=True) * 3).float(), pinhole())
    views = renderers["lambert"].render(mesh, cameras, 65, 65)
    colours = np.array([colour_at(view, camera, [0, 0, 0]) for view, camera in zip(views, cameras, strict=True)])
    assert (colours[:, 3] == 255).all()
    assert np.ptp(colours, axis=0).max() <= 2


def test_light_depends_on_where_a_surface_faces_and_clips_nothing(renderers: dict, box_mesh: Callable) -> None:
    white = box_mesh(color=(255, 255, 255))
    cameras = look_at(torch.tensor([[3.0, 0, 0], [-3.0, 0, 0], [0, 0, 3.0], [0, 0, -3.0]]), pinhole())
    views = renderers["lambert"].render(white, cameras, 33, 33)
    front, back, top, bottom = views[:, 16, 16, 0].astype(int)
    assert bottom < back < front < 255
    assert bottom < top < 255
    assert bottom > 100


def test_both_sides_of_a_sheet_are_lit_by_the_side_that_is_seen(renderers: dict, box_mesh: Callable) -> None:
    camera = look_at(torch.tensor([[-3.0, 0, 0]]), pinhole())
    sheet_back = renderers["lambert"].render(Mesh((quad(),)), camera, 33, 33)[0, 16, 16]
    box_back = renderers["lambert"].render(box_mesh(color=(200, 200, 200)), camera, 33, 33)[0, 16, 16]
    assert abs(sheet_back.astype(int) - box_back).max() <= 1


def test_texture_is_upright_and_not_mirrored(renderers: dict) -> None:
    texture = np.zeros((2, 2, 4), dtype=np.uint8)
    texture[0, 0], texture[0, 1] = (255, 0, 0, 255), (0, 255, 0, 255)
    texture[1, 0], texture[1, 1] = (0, 0, 255, 255), (255, 255, 0, 255)
    mesh = Mesh((replace(quad(color=(255,) * 4), texture=np.repeat(np.repeat(texture, 8, 0), 8, 1)),))
    camera = orbit(1)  # on +X, where +Y is to the right
    view = renderers["unlit"].render(mesh, camera, 64, 64)[0]
    for point, colour in [
        ([0, -0.25, 0.25], (255, 0, 0, 255)),
        ([0, 0.25, 0.25], (0, 255, 0, 255)),
        ([0, -0.25, -0.25], (0, 0, 255, 255)),
        ([0, 0.25, -0.25], (255, 255, 0, 255)),
    ]:
        np.testing.assert_array_equal(colour_at(view, camera[0], [float(x) for x in point]), colour)


@pytest.mark.parametrize(("cutoff", "visible"), [(0.3, True), (0.5, False)])
def test_mask_keeps_what_reaches_the_cutoff(renderers: dict, cutoff: float, visible: bool) -> None:
    part = replace(quad(color=(200, 100, 50, 102)), alpha="mask", alpha_cutoff=cutoff)  # 0.4
    view = renderers["unlit"].render(Mesh((part,)), orbit(1), 33, 33)[0]
    np.testing.assert_array_equal(view[16, 16], (200, 100, 50, 255) if visible else (0, 0, 0, 0))


def test_opaque_ignores_alpha(renderers: dict) -> None:
    view = renderers["unlit"].render(Mesh((quad(color=(200, 100, 50, 0)),)), orbit(1), 33, 33)[0]
    np.testing.assert_array_equal(view[16, 16], (200, 100, 50, 255))


def test_blend_covers_its_share_of_what_is_behind(renderers: dict) -> None:
    glass = replace(quad(color=(255, 0, 0, 128)), alpha="blend")
    behind = replace(quad(color=(0, 0, 255, 255)), vertices=glass.vertices - np.float32([0.3, 0, 0]))
    alone = renderers["unlit"].render(Mesh((glass,)), orbit(1), 33, 33)[0, 16, 16].astype(int)
    np.testing.assert_array_equal(alone[:3], (255, 0, 0))
    assert abs(alone[3] - 128) <= 8
    over = renderers["unlit"].render(Mesh((glass, behind)), orbit(1), 33, 33)[0, 16, 16].astype(int)
    assert abs(over - (128, 0, 128, 255)).max() <= 8


def ball(radius: float = 0.8, subdivisions: int = 5) -> MeshPart:
    sphere = trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius)
    return MeshPart(
        vertices=sphere.vertices.astype(np.float32),
        faces=np.asarray(sphere.faces),
        normals=(sphere.vertices / radius).astype(np.float32),
        colours=np.tile(np.uint8([255, 255, 255, 255]), (len(sphere.vertices), 1)),
    )


def test_depth_and_normals_of_a_sphere_are_the_analytic_ones(renderers: dict) -> None:
    height, width, radius = 60, 80, 0.8
    cameras = look_at(torch.tensor([[2.5, 0.5, 1.0], [-1.0, 2.0, -1.5]]), torch.tensor([1.2, 1.5, 0.45, 0.55]))
    depths, normals = renderers["lambert"].render_geometry(Mesh((ball(radius, 6),)), cameras, height, width)
    origins, rays = (x.double().numpy() for x in cameras.rays(height, width))
    origins, rays = origins.reshape(2, height, width, 3), rays.reshape(2, height, width, 3)
    b = (origins * rays).sum(-1)
    inside = b**2 - (origins**2).sum(-1) + radius**2
    hit = inside > 0
    edge = abs(inside) < 0.02  # the icosphere has flat faces
    np.testing.assert_array_equal((depths > 0)[~edge], hit[~edge])
    points = origins + (-b - np.sqrt(np.maximum(inside, 0)))[..., None] * rays
    forward = -cameras.poses[:, :, 2].double().numpy()[:, None, None]
    exact = ((points - origins) * forward).sum(-1)
    sure = hit & ~edge
    assert sure.sum() > 1000
    assert abs(depths - exact)[sure].max() <= 1e-3
    assert (normals * points / radius).sum(-1)[sure].min() > 0.9995
    np.testing.assert_allclose(np.linalg.norm(normals[depths > 0], axis=-1), 1, atol=1e-5)
    assert normals[depths == 0].max() == 0


def test_normals_are_those_of_the_side_that_is_seen_and_holes_have_none(renderers: dict) -> None:
    cameras = look_at(torch.tensor([[3.0, 0, 0], [-3.0, 0, 0]]), pinhole())
    depths, normals = renderers["unlit"].render_geometry(Mesh((quad(),)), cameras, 33, 33)
    np.testing.assert_allclose(normals[:, 16, 16], [[1, 0, 0], [-1, 0, 0]], atol=0.01)
    np.testing.assert_allclose(depths[:, 16, 16], 3.0, atol=1e-4)
    for alpha, cutoff, there in (("mask", 0.3, True), ("mask", 0.5, False), ("blend", 0.0, False)):
        part = replace(quad(color=(9, 9, 9, 102)), alpha=alpha, alpha_cutoff=cutoff)
        depth, _ = renderers["unlit"].render_geometry(Mesh((part,)), cameras[:1], 33, 33)
        assert (depth[0, 16, 16] > 0) == there


def test_an_environment_shades_as_it_says_and_random_lights_too(can_draw: None) -> None:
    from vfusion3d.meshes.vtk_renderer import VtkRenderer

    rows = np.random.default_rng(0).uniform(-0.1, 0.1, (9, 3))
    rows[0] = 0.5
    environment = Environment("hdri:x.hdr", Path("x.hdr"), tuple(map(tuple, rows.tolist())), 1.0)
    renderer = VtkRenderer(environment)
    cameras = random_sphere(4, generator=torch.Generator().manual_seed(0))
    mesh = Mesh((ball(),))
    for lighting in (environment, random_lights(0, np.random.default_rng(5))):
        renderer.light(lighting)
        views = renderer.render(mesh, cameras, 48, 48)
        _, normals = renderer.render_geometry(mesh, cameras, 48, 48)
        shade = lighting.shade(normals.astype(np.float64))
        if lighting is environment:
            shade = np.where(shade <= 0.0031308, shade * 12.92, 1.055 * shade ** (1 / 2.4) - 0.055)
        inside = views[..., 3] == 255
        assert abs(views[inside][:, :3] / 255 - shade[inside]).max() < 0.04  # a pixel spans some degrees
        assert abs(views[inside][:, :3] / 255 - shade[inside]).mean() < 0.004
    renderer.light("unlit")
    views = renderer.render(mesh, cameras, 48, 48)
    assert (views[views[..., 3] == 255] == 255).all()


def test_samples_are_averaged_with_premultiplied_alpha() -> None:
    samples = np.zeros((2, 4, 4), dtype=np.uint8)
    samples[0, 0], samples[1, 1] = (200, 100, 50, 255), (100, 100, 53, 255)
    samples[:, 2:] = 255
    np.testing.assert_array_equal(average_samples(samples, 2), [[[150, 100, 52, 128], [255, 255, 255, 255]]])
    np.testing.assert_array_equal(average_samples(samples, 1), samples)
    np.testing.assert_array_equal(average_samples(np.full((32, 16, 4), 255, np.uint8), 16), np.full((2, 1, 4), 255))


def test_arguments_are_checked() -> None:
    from vfusion3d.meshes.vtk_renderer import VtkRenderer

    with pytest.raises(ValueError, match="`lighting`"):
        VtkRenderer("pbr")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`supersampling`"):
        VtkRenderer(supersampling=0)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="hides EGL's drivers as libglvnd finds them")
def test_a_machine_that_cannot_draw_gets_one_sentence() -> None:
    code = (
        "import os\n"
        "from vfusion3d.errors import MissingExtraError\n"
        "from vfusion3d.meshes.vtk_renderer import select_window\n"
        "try:\n    select_window()\n    print(os.environ['VTK_DEFAULT_OPENGL_WINDOW'])\n"
        "except MissingExtraError as error:\n    print(error)\n"
    )
    hidden = ("VTK_DEFAULT_OPENGL_WINDOW", "VFUSION3D_VTK_CHECKED")
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    environment["__EGL_VENDOR_LIBRARY_FILENAMES"] = "/nonexistent"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0  # without the trial in a child process, VTK ends this one
    (line,) = done.stdout.splitlines()
    assert "apt-get install libegl1" in line or line == "vtkOSOpenGLRenderWindow"


def test_torch_compiles_after_drawing(can_draw):
    """Mesa and Triton each bring an LLVM, and the second one to load would crash."""
    code = "from vfusion3d.meshes import VtkRenderer; VtkRenderer('unlit')._window.Render(); import torch._dynamo"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
