"""CLIP similarity of turntables with captions and with the input pictures.

    python benchmarks/clip.py VIDEOS --inputs PICTURES --captions captions.csv --output runs/clip

VIDEOS holds a video per object, anyone's: `vfusion3d reconstruct --output VIDEOS` leaves such a folder. Cosines are not
scaled, are averaged over frames and then over objects, and are given for two CLIP models, because papers rarely say
which they took. A model whose weights are not to be had reads n/a. The authors' own videos are scored the same way.

Under each model stand the floors: an all-white video, and the input as every frame (whose picture figure is 1 by
construction). --unseen keeps the objects apart that the method never saw. The paper's pictures and cameras are
unpublished: figures compare with each other under one protocol hash, with the paper's only in kind.
"""

import sys

from vfusion3d.evaluation.clip_scores import main

if __name__ == "__main__":
    sys.exit(main("clip.py", __doc__, "clip-image"))
