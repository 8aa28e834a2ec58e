import numpy as np

from vfusion3d.rendering.topology import is_closed, pieces, weld

TETRAHEDRON = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])


def test_closed():
    assert is_closed(TETRAHEDRON)
    assert not is_closed(TETRAHEDRON[:3])  # a hole
    assert not is_closed(np.concatenate([TETRAHEDRON, TETRAHEDRON[:1]]))  # a face twice
    assert not is_closed(np.concatenate([TETRAHEDRON[:3], TETRAHEDRON[3:, ::-1]]))  # a face wound the other way
    assert not is_closed(TETRAHEDRON[:0])


def test_two_solids_that_share_an_edge_are_no_closed_surface():
    other = np.array([0, 1, 4, 5])[TETRAHEDRON]
    assert not is_closed(np.concatenate([TETRAHEDRON, other]))
    assert is_closed(np.concatenate([TETRAHEDRON, TETRAHEDRON + 4]))


def test_welding_closes_texture_seams():
    places = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    apart = places[TETRAHEDRON.ravel()]
    cut = np.arange(12).reshape(4, 3)
    assert not is_closed(cut)
    assert is_closed(weld(apart, cut))


def test_pieces():
    count, of_face = pieces(np.concatenate([TETRAHEDRON, TETRAHEDRON + 4]), 8)
    assert count == 2 and of_face.tolist() == [0] * 4 + [1] * 4
