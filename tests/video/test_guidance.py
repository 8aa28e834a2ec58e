import pytest
import torch

from vfusion3d.errors import UsageError
from vfusion3d.video.backbone import Conditioning
from vfusion3d.video.guidance import Guidance, GuidedDenoiser

FRAMES = 5
YES, NO = torch.tensor([True]), torch.tensor([False])


class Linear:
    """A backbone whose output is a known function of what it is told; counts the videos of each call."""

    def __init__(self, at_most: int = 100) -> None:
        self.calls: list[int] = []
        self.at_most = at_most

    def dropped(self, conditioning, image, text):
        keep = (~image).float()[:, None, None, None]
        return Conditioning(conditioning.image * keep, text=conditioning.text * (~text).float()[:, None, None])

    def __call__(self, inputs, timesteps, conditioning):
        if len(inputs) > self.at_most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.calls.append(len(inputs))
        assert timesteps.shape == (len(inputs),)
        told = conditioning.image[:, None] + 10 * conditioning.text[:, :, :, None, None].mean(2, keepdim=True)
        return inputs * timesteps[:, None, None, None, None] + told


def guided(guidance, has_text, backbone, together=None):
    """The sum for as many items as ``has_text``, and the three passes it is made of."""
    count = len(has_text)
    conditioning = Conditioning(torch.rand(count, 2, 3, 3), text=torch.rand(count, 1, 4))
    inputs, time = torch.rand(count, FRAMES, 2, 3, 3), torch.tensor(3.0)
    weights = guidance.pass_weights(FRAMES, has_text)
    got = GuidedDenoiser(backbone, conditioning, weights, together)(inputs, time)
    yes = torch.ones(count, dtype=torch.bool)
    passes = [
        Linear()(inputs, time.expand(count), Linear().dropped(conditioning, image, text))
        for image, text in ((yes, yes), (~yes, yes), (~yes, ~yes))
    ]
    return got, passes


@pytest.mark.parametrize("profile", ["constant", "linear", "triangle"])
def test_it_is_the_equation(profile):
    guidance, backbone = Guidance(image=2.5, text=4.0, profile=profile), Linear()
    has_text = torch.tensor([True, False])
    got, (nothing, picture, both) = guided(guidance, has_text, backbone)
    w_i = guidance.image_weights(FRAMES)[:, None, None, None]
    w_p = 4.0 * has_text.float()[:, None, None, None, None]
    torch.testing.assert_close(got, nothing + w_i * (picture - nothing) + w_p * (both - picture))
    assert backbone.calls == [5]  # three passes of the item with text and two of the other, at once


@pytest.mark.parametrize(
    ("guidance", "has_text", "passes"),
    [
        (Guidance(image=1.0), NO, 1),  # the picture alone
        (Guidance(image=0.0), NO, 1),  # neither
        (Guidance(image=2.0), NO, 2),
        (Guidance(image=1.0, text=1.0), YES, 1),  # picture and text
        (Guidance(image=1.0, text=3.0), YES, 2),
        (Guidance(image=3.0, text=3.0), YES, 2),  # the picture alone has no weight
        (Guidance(image=2.0, text=0.0), YES, 2),
        (Guidance(image=2.0, text=7.5), YES, 3),
        (Guidance(image=2.0, profile="triangle"), NO, 2),
    ],
)
def test_no_pass_is_in_vain(guidance, has_text, passes):
    backbone = Linear()
    got, (nothing, picture, both) = guided(guidance, has_text, backbone)
    assert backbone.calls == [passes]
    w_i, w_p = guidance.image_weights(FRAMES)[:, None, None, None], guidance.text if has_text else 0.0
    torch.testing.assert_close(got, nothing + w_i * (picture - nothing) + w_p * (both - picture))


def test_no_more_go_together_than_asked_for_or_fit():
    torch.manual_seed(1)
    whole, _ = guided(Guidance(), torch.tensor([True, True]), Linear())
    for backbone, together, calls in ((Linear(), 4, [4, 2]), (Linear(at_most=2), None, [2, 2, 2])):
        torch.manual_seed(1)
        parts, _ = guided(Guidance(), torch.tensor([True, True]), backbone, together)
        torch.testing.assert_close(parts, whole, rtol=0, atol=0)
        assert backbone.calls == calls
    with pytest.raises(UsageError, match="memory of the device cpu does not suffice for one video of 5 frames; make"):
        guided(Guidance(), YES, Linear(at_most=0))


def test_profiles():
    assert Guidance(image=3.0, profile="linear").image_weights(5).tolist() == [1.0, 1.5, 2.0, 2.5, 3.0]
    assert Guidance(image=3.0, start=2.0, profile="triangle").image_weights(5).tolist() == [2.0, 2.5, 3.0, 2.5, 2.0]
    assert Guidance(image=3.0).image_weights(2).tolist() == [3.0, 3.0]
    with pytest.raises(UsageError, match="`profile` must be one of constant, linear, triangle, but got 'square'"):
        Guidance(profile="square")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="`text` must be a number, but got nan"):
        Guidance(text=float("nan"))
