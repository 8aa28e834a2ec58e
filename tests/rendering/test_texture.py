import numpy as np
import pytest
import torch

from vfusion3d.rendering.isosurface import extract_isosurface, vertex_normals
from vfusion3d.rendering.simplification import simplify
from vfusion3d.rendering.texture import RAYS, TILT, _around, bake, rasterise
from vfusion3d.rendering.unwrap import squares


def striped_ball(points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A ball whose colour changes within a coarse triangle, and whose inside is red."""
    radius = points.norm(dim=-1)
    stripes = torch.sin(12 * points) / 2 + 0.5
    red = torch.tensor([1.0, 0.0, 0.0]).expand_as(points)
    return 3000 * (radius < 0.7), torch.where((radius < 0.6)[:, None], red, stripes)


@pytest.fixture(scope="module")
def coarse():
    full = extract_isosurface(lambda points: 0.7 - points.norm(dim=-1), 0.0, 32)
    vertices, faces = simplify(full.vertices, full.faces, 400)
    atlas = squares(faces)
    normals = vertex_normals(vertices, faces)
    return vertices[atlas.original], normals[atlas.original], atlas


def test_a_texture_shows_what_vertices_cannot(coarse):
    vertices, normals, atlas = coarse
    told: list[tuple[int, int]] = []
    texture = bake(
        striped_ball,
        *(vertices, normals, atlas.faces, atlas.uv, 256),
        chunk=100_000,
        progress=lambda done, total: told.append((done, total)),
    )
    texels = rasterise(atlas.uv, atlas.faces, 256)
    places = (vertices[atlas.faces[texels.face]] * texels.shares[..., None]).sum(1)
    places *= 0.7 / np.linalg.norm(places, axis=-1, keepdims=True)
    wanted = np.sin(12 * places) / 2 + 0.5
    error = np.abs(texture[texels.row, texels.column] / 255 - wanted)
    # The ray follows the vertices' normals, which are not quite the ball's.
    assert error.mean() < 0.03 and np.quantile(error, 0.99) < 0.15
    corners = np.sin(12 * vertices[atlas.faces[texels.face]]) / 2 + 0.5
    painted = (corners * texels.shares[..., None]).sum(1)
    assert np.abs(painted - wanted).mean() > 3 * error.mean()
    assert told[-1] == (len(told), len(told)) and len(told) > 1


def test_rays_meet_the_surface_from_all_sides():
    axes = torch.nn.functional.normalize(torch.randn(50, 3, generator=torch.manual_seed(0)), dim=-1)
    axes = torch.cat([axes, torch.eye(3), -torch.eye(3)])
    rays = _around(axes)
    assert rays.shape == (RAYS, 56, 3)
    assert torch.allclose(rays.norm(dim=-1), torch.ones(RAYS, 56), atol=1e-5)
    assert torch.allclose((rays * axes).sum(-1), torch.tensor(TILT).cos().expand(RAYS, 56), atol=1e-5)
    assert torch.allclose(rays.mean(0), axes * torch.tensor(TILT).cos(), atol=1e-5)


def test_a_texel_is_the_mean_of_what_is_seen_from_different_sides(coarse):
    """Through thin fog before a ball that is red on one side: what is seen at its edge depends on the direction."""
    vertices, normals, atlas = coarse

    def foggy(points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        right = (points[:, :1] > 0).float()
        return 20 * (points.norm(dim=-1) < 0.7), torch.cat([right, 0 * right, 1 - right], -1)

    texture = bake(foggy, vertices, normals, atlas.faces, atlas.uv, 128)
    texels = rasterise(atlas.uv, atlas.faces, 128)
    x = (vertices[atlas.faces[texels.face]] * texels.shares[..., None]).sum(1)[:, 0]
    red = texture[texels.row, texels.column, 0] / 255
    edge = np.abs(x) < 0.01
    assert red[edge].min() > 0.1 and red[edge].max() < 0.9  # a single ray sees one side or the other
    assert (red[x > 0.4] == 1).all() and (red[x < -0.4] == 0).all()


def test_texels_between_the_charts_have_the_nearest_colour(coarse):
    vertices, normals, atlas = coarse
    grey = lambda points: (3000 * (points.norm(dim=-1) < 0.7), torch.full_like(points, 0.25))  # noqa: E731
    texture = bake(grey, vertices, normals, atlas.faces, atlas.uv, 64)
    assert (texture == 64).all()


def test_what_nothing_stops_has_the_surface_s_colour(coarse):
    vertices, normals, atlas = coarse
    empty = lambda points: (torch.zeros(len(points)), points.norm(dim=-1, keepdim=True).expand(-1, 3))  # noqa: E731
    texture = bake(empty, vertices, normals, atlas.faces, atlas.uv, 64, outside=0.1, inside=0.4)
    assert np.abs(texture / 255 - 0.7).max() < 0.03


def test_a_part_in_front_is_not_seen(coarse):
    """The ball within a shell: its texels do not take the shell's colour, though their rays would begin behind it."""
    vertices, normals, atlas = coarse

    def wrapped(points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        radius = points.norm(dim=-1)
        shell = (radius > 0.8) & (radius < 0.88)
        colours = torch.where(shell[:, None], torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 1.0]))
        return 3000 * (shell | (radius < 0.7)), colours

    texture = bake(wrapped, vertices, normals, atlas.faces, atlas.uv, 64, outside=0.2, inside=0.2)
    assert (texture == [0, 0, 255]).all()


def test_rasterise():
    uv = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    texels = rasterise(uv, np.array([[0, 1, 2]]), 4)
    picture = np.zeros((4, 4), dtype=int)
    picture[texels.row, texels.column] = 1
    assert picture.tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]
    assert np.abs(texels.shares.sum(-1) - 1).max() < 1e-12
    whole = rasterise(uv, np.array([[0, 1, 2], [1, 3, 2]]), 64)
    assert len(whole.face) == 64 * 64
    places = (uv[np.array([[0, 1, 2], [1, 3, 2]])[whole.face]] * whole.shares[..., None]).sum(1)
    assert np.abs(places[:, 0] * 64 - whole.column - 0.5).max() < 1e-9
    assert np.abs((1 - places[:, 1]) * 64 - whole.row - 0.5).max() < 1e-9


def test_nothing_to_rasterise():
    uv = np.array([[0.5, 0.5], [0.5, 0.5], [0.5, 0.5]])
    assert len(rasterise(uv, np.array([[0, 1, 2]]), 8).face) == 0
