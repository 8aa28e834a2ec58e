import numpy as np
import pytest

from vfusion3d.errors import InputImageError
from vfusion3d.preprocessing.salience import check_single_object, main_parts, object_warnings, salient_alpha


def boxes(*places, size=(120, 160)) -> np.ndarray:
    """Opacity with opaque boxes (top, bottom, left, right)."""
    alpha = np.zeros(size)
    for top, bottom, left, right in places:
        alpha[top:bottom, left:right] = 1
    return alpha


LARGE, SECOND, DUST = (20, 100, 20, 80), (30, 90, 100, 140), (5, 10, 150, 155)


def test_main_parts_are_those_of_similar_size():
    labels, count = main_parts(boxes(LARGE, SECOND, DUST) > 0.5)
    assert count == 2
    assert {labels[50, 50], labels[50, 120]} == {1, 2} and labels[7, 152] == 0 and labels[0, 0] == 0


def test_parts_that_touch_at_a_corner_are_one():
    assert main_parts(boxes((10, 20, 10, 20), (20, 30, 20, 30)) > 0.5)[1] == 1


def test_salient_alpha_drops_dust_and_keeps_the_soft_edge():
    alpha = boxes(LARGE, DUST)
    alpha[19, 20:80] = 0.3
    kept = salient_alpha(alpha)
    assert kept[7, 152] == 0 and kept[19, 50] == 0.3 and kept[50, 50] == 1


def test_an_ordinary_object_has_no_warning():
    assert object_warnings(boxes(LARGE)) == []
    assert object_warnings(boxes(LARGE, DUST)) == []
    assert object_warnings(np.zeros((64, 64))) == []


def test_several_objects():
    [warning] = object_warnings(boxes(LARGE, SECOND), "Picture 'a.png'")
    assert warning.startswith("Picture 'a.png' shows 2 separate parts") and "crop it" in warning


@pytest.mark.parametrize(
    ("box", "edges"),
    [
        ((20, 120, 20, 80), "the bottom edge"),
        ((20, 100, 0, 80), "the left edge"),
        ((0, 100, 20, 160), "the right and top edge"),
        ((0, 120, 20, 160), "the right, top and bottom edge"),
    ],
)
def test_cut_off_objects(box, edges):
    [warning] = object_warnings(boxes(box))
    assert f"reaches {edges} and may be cut off there" in warning


def test_touching_an_edge_with_a_point_or_filling_the_box_is_no_cut():
    touching = boxes(LARGE)
    touching[100:, 50:52] = 1  # a thin foot
    assert object_warnings(touching) == []
    assert object_warnings(boxes((0, 120, 0, 160))) == []  # cropped to the object's box


def test_small_objects():
    [warning] = object_warnings(boxes((50, 70, 50, 90)))
    assert "only 40 x 20 pixels" in warning


@pytest.mark.parametrize("alpha", [boxes(LARGE, SECOND), boxes((20, 120, 20, 80)), boxes((50, 70, 50, 90))])
def test_each_is_one_sentence(alpha):
    for warning in object_warnings(alpha):
        assert warning.endswith(".") and "\n" not in warning and warning.count(". ") == 0


@pytest.mark.parametrize(
    ("alpha", "words"),
    [
        (boxes(LARGE, SECOND), "Picture 'a.png' shows 2 separate objects; crop it to one of them, or take it as it is"),
        (boxes((20, 120, 20, 80)), "is cut off at the bottom edge; use a picture with some room"),
        (boxes((0, 100, 20, 160)), "is cut off at the right and top edge;"),
    ],
)
def test_what_is_no_single_whole_object_is_refused(alpha, words):
    with pytest.raises(InputImageError, match=words):
        check_single_object(alpha, "Picture 'a.png'")


def test_small_parts_and_dust_do_not_make_it_several_objects():
    check_single_object(boxes(LARGE, DUST, (30, 60, 100, 130)))  # a flame of a fifth of the dragon
    check_single_object(np.zeros((64, 64)))


def test_a_tip_that_reaches_the_edge_is_warned_of_but_not_refused():
    tip = boxes((20, 100, 20, 80), (57, 63, 0, 20))  # 6 of 80 rows
    assert "may be cut off" in object_warnings(tip)[0]
    check_single_object(tip)
