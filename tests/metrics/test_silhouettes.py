from __future__ import annotations

import torch

from vfusion3d.cameras import orbit
from vfusion3d.data.procedural import sample_objects
from vfusion3d.data.raycast import render
from vfusion3d.metrics import masks_on_white, silhouette_coherence


def test_one_rigid_object_explains_all_its_silhouettes():
    cameras = orbit(views=8, elevation=0.4)
    masks = render(sample_objects(torch.tensor([5])), cameras.unsqueeze(0), 64, 64)[0, :, 3]
    true = silhouette_coherence(masks, cameras)
    assert float(true.min()) > 0.99

    grown = masks.clone()
    grown[2, 2:12, 2:12] = 1  # a part that no other frame shows
    coherence = silhouette_coherence(grown, cameras)
    assert abs(float(coherence[2]) - float((masks[2] > 0.5).sum() / (grown[2] > 0.5).sum())) < 0.02
    assert float((coherence - true)[[0, 1, 3, 4, 5, 6, 7]].abs().max()) < 0.02

    cut = masks.clone()
    cut[2, :32] = 0  # a part that only one frame lacks: what the others show of it is contradicted
    coherence = silhouette_coherence(cut, cameras)
    assert float(coherence[[0, 1, 3, 4, 5, 7]].max()) < 0.6 and float(coherence[2]) > 0.99

    order = torch.tensor([0, 3, 6, 1, 4, 7, 2, 5])
    assert float(silhouette_coherence(masks[order], cameras).mean()) < 0.95


def test_size_of_the_masks_does_not_matter():
    cameras = orbit(views=8, elevation=0.4)
    objects = sample_objects(torch.tensor([5]))
    small, large = (render(objects, cameras.unsqueeze(0), side, side)[0, :, 3] for side in (48, 144))
    assert float(silhouette_coherence(small, cameras).min()) > 0.99
    assert float(silhouette_coherence(large, cameras).min()) > 0.99
    assert silhouette_coherence(torch.zeros(8, 16, 16), cameras).isnan().all()


def test_white_spots_belong_to_the_object():
    picture = torch.ones(2, 3, 12, 12)
    picture[0, :, 2:10, 2:10] = 0.5
    picture[0, :, 4:6, 4:6] = 1
    mask = masks_on_white(picture)
    assert mask[0].sum() == 64 and mask[0, 4, 4] and not mask[0, 0, 0] and not mask[1].any()
    assert torch.equal(masks_on_white(picture[0]), mask[0])
