"""CLIP similarity of turntables with captions and with the input pictures.

    python benchmarks/clip.py VIDEOS --inputs PICTURES --captions captions.csv --output runs/clip

VIDEOS holds a video per object, anyone's: `vfusion3d reconstruct --output VIDEOS` leaves such a folder. Cosines are not
scaled, are averaged over frames and then over objects, and are given for two CLIP models, because papers rarely say
which they took. A model whose weights are not to be had reads n/a. The authors' own videos are scored the same way.
"""

import sys

from vfusion3d.evaluation.clip_scores import main

if __name__ == "__main__":
    sys.exit(main("clip.py", __doc__, "clip-image"))
