"""Novel views of objects from one picture: the paper's protocol on Google Scanned Objects.

    python benchmarks/gso.py --meshes GSO --output runs/gso                           # the shipped checkpoint
    python benchmarks/gso.py --meshes GSO --model facebook/vfusion3d --output runs/vf  # a released one
    python benchmarks/gso.py --meshes GSO --predicted-images RENDERS                  # anyone's renders
    vfusion3d compare runs/gso runs/vf --output runs/comparison

GSO holds mesh files; true views are rendered once and cached by the hash of mesh and cameras. The paper's list of 996
objects and its cameras are unpublished: figures compare with each other under one protocol hash, with the paper's only
in kind. Whole-picture PSNR says little where most of a picture is white, so foreground PSNR, mask IoU and the floors
(an all-white picture, the input pasted into every view, the views of the nearest object that was trained on) always
stand beside it. Means are per picture, then per object; intervals are 95 %, bootstrapped over objects.
"""

import sys

from vfusion3d.evaluation.command import main

if __name__ == "__main__":
    sys.exit(main("gso.py", __doc__, "gso-orbit"))
