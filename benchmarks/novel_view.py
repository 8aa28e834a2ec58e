"""Novel views from random directions: one random input and 32 other views, as in the paper's ablations.

    python benchmarks/novel_view.py --meshes MESHES --output runs/novel

As gso.py in everything but the protocol (`--protocol`); see its help. The paper's 500 objects and its cameras are
unpublished.
"""

import sys

from vfusion3d.evaluation.command import main

if __name__ == "__main__":
    sys.exit(main("novel_view.py", __doc__, "novel-view-32"))
