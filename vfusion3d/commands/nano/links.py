"""The stages of ``vfusion3d nano``, in order."""

from __future__ import annotations

from vfusion3d.commands.nano.chain import Link
from vfusion3d.commands.nano.filtering import make_filter, make_labels, make_shards
from vfusion3d.commands.nano.objects import make_objects
from vfusion3d.commands.nano.reconstructor import make_benchmark, make_finetune, make_pretrain, make_unfiltered
from vfusion3d.commands.nano.video import make_orbits, make_video

LINKS = [
    Link(
        "objects",
        "Objects",
        "Objects are rendered on orbits of 16 views: some to train on, some whose first view is a picture for the "
        "video model, some for nothing but the benchmark.",
        0.3,
        (),
        make_objects,
    ),
    Link(
        "video",
        "Video model",
        "A small model in the manner of Stable Video Diffusion learns to continue a picture of an object as an orbit "
        "around it.",
        6.1,
        ("objects",),
        make_video,
    ),
    Link(
        "orbits",
        "Orbits",
        "It makes an orbit of every picture. The objects are known, so each orbit can be compared with the true one; "
        "nothing but the labels below uses that.",
        0.35,
        ("objects", "video"),
        make_orbits,
    ),
    Link(
        "labels",
        "Labels",
        "In place of a person an oracle labels some orbits: good is what is near the true orbit where it is worst. "
        "True orbits, and such with planted failures, join them.",
        0.05,
        ("objects", "video", "orbits"),
        make_labels,
    ),
    Link(
        "filter",
        "Filter, elevation and masks",
        "A support vector machine learns the labels, a small network the elevation of renders, with noise and without. "
        "Both look at features of a few frames. What is good enough gets an elevation and masks.",
        0.1,
        ("labels", "orbits", "video", "objects"),
        make_filter,
    ),
    Link(
        "shards",
        "Shards",
        "What was kept becomes a shard set: the frames with alpha, and tables with rig, elevation, quality, licences. "
        "All orbits become another one, to compare.",
        0.1,
        ("filter",),
        make_shards,
    ),
    Link(
        "pretrain",
        "Pre-training",
        "A reconstructor learns from the generated orbits alone, with the paper's strategies: growing resolution, a "
        "learning rate that restarts, image-level loss alone, opacity against masks, noise on cameras.",
        1.5,
        ("shards",),
        make_pretrain,
    ),
    Link(
        "unfiltered",
        "Pre-training without the filter",
        "The same on as many orbits drawn from all: what the filter is worth.",
        1.5,
        ("shards",),
        make_unfiltered,
    ),
    Link(
        "finetune",
        "Fine-tuning on 3D",
        "The same model goes on with renders of 3D objects, whose cameras are true, and with a squared error beside.",
        1.5,
        ("objects", "pretrain"),
        make_finetune,
    ),
    Link(
        "benchmark",
        "Benchmark",
        "Views of held-out objects that were not the input, beside the floors that any method has to beat.",
        0.3,
        ("objects", "pretrain", "unfiltered", "finetune"),
        make_benchmark,
    ),
]
