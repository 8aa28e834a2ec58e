"""CLIP similarity of text-to-3D results with their prompts.

    python benchmarks/text_to_3d.py VIDEOS --captions prompts.txt --output runs/text

prompts.txt has a prompt per line, and the videos are named as the prompts (the authors' are); or a CSV table says which
is whose. Peers are scored from their rendered videos, as in the paper; its cameras, CLIP model and template are
unpublished. Otherwise as clip.py, with its floors and --unseen; see its help.
"""

import sys

from vfusion3d.evaluation.clip_scores import main

if __name__ == "__main__":
    sys.exit(main("text_to_3d.py", __doc__, "clip-text"))
