"""Surfaces against true meshes: Chamfer distance, F-score and normal consistency, under each alignment.

    python benchmarks/shapes.py --meshes GSO --model nano --output runs/shapes
    python benchmarks/shapes.py --meshes GSO --predicted-meshes THEIRS --alignments none scale similarity

Takes the options of gso.py for what is scored (--model or --predicted-meshes; the protocol says what the input is).
True meshes are centred and scaled into the unit sphere. Distances are in those units; the F-score counts points within
--threshold. `none` compares as predicted; `scale` takes out the size, `similarity` size, place and turn: three
different numbers, so all three are given. An object without a surface is a failure: F-score and consistency 0, and the
distance of 2, the sphere's diameter.

Beside the method stand floors: a ball of radius 0.5 about the origin, and the true mesh of the object that was trained
on whose input looks most alike. What an all-white picture is to views, no surface is here: always 2, 0 and 0. A pasted
input has no counterpart, since a picture is no surface. Unseen and seen objects are kept apart. The paper's object list
and cameras are unpublished: figures compare with each other under one protocol hash, which here counts the threshold.

--output keeps shapes.json, and each object in shapes/, so that a run that was cut off goes on there.
"""

import sys

from vfusion3d.evaluation.shapes import main

if __name__ == "__main__":
    sys.exit(main("shapes.py", __doc__, "gso-orbit"))
