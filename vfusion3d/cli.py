"""One command, `vfusion3d`. Imports only the standard library; each subcommand imports what it needs."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

COMMANDS = {
    "reconstruct": "one picture (or many) to a textured 3D asset",
    "orbit": "one picture (or many) to a video around the object",
    "render": "meshes to posed views",
    "generate": "prompts or pictures to labelled orbit videos: the data engine",
    "data": "convert, check and look at scene folders",
    "nano": "the whole paper at small size, in one go: objects to video model to orbits to reconstructor",
    "export": "a training checkpoint to a model folder",
    "licenses": "what a data set or a model may be used for, and why",
    "label": "say which videos are good, in a browser",
    "train-quality": "labels to a filter of videos",
    "train-elevation": "renders to a model that sees from how high a picture was taken",
    "compare": "results of benchmarks side by side",
    "study": "which of two methods people prefer: the paper's user study, in a browser",
    "recipes": "list the recipes that ship with the package, or show one",
}
TRAINING = {
    "plan": "a run before it starts: stages, steps, memory, cost",
    "fit": "train: vfusion3d fit --config recipes/nano/reconstructor.yaml",
    "validate": "evaluate on the validation set",
    "test": "evaluate on the test set",
    "predict": "render the prediction set",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand; returns the exit code (0 done, 1 a bug, 2 bad input, 130 after Ctrl-C, 143 after SIGTERM)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments:
        print(_help())
        print("vfusion3d: no command was given; name one of those above.", file=sys.stderr)
        return 2
    if arguments[0] in ("-h", "--help"):
        print(_help())
        return 0
    if arguments[0] == "--version":
        from vfusion3d import __version__

        print(f"vfusion3d {__version__}")
        return 0
    command = arguments[0]
    if command not in COMMANDS and command not in TRAINING:
        known = ", ".join([*COMMANDS, *TRAINING])
        print(f"vfusion3d: unknown command {command!r}: use one of {known}.", file=sys.stderr)
        return 2
    # GNU OpenMP's threads spin while they wait, which on a busy machine makes everything several times slower; without
    # any spinning an idle machine is a third slower. This is a few microseconds.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    from vfusion3d.errors import TrainingTerminated, VFusion3DError

    try:
        if command in TRAINING:
            return importlib.import_module("vfusion3d.commands.train").main(arguments)
        module = importlib.import_module(f"vfusion3d.commands.{command.replace('-', '_')}")
        from vfusion3d.commands.arguments import parse

        return module.run(parse(module.build_parser(), arguments[1:]))
    except VFusion3DError as error:
        print(f"vfusion3d {command}: {error}", file=sys.stderr)
        return 143 if isinstance(error, TrainingTerminated) else 2
    except KeyboardInterrupt:
        print(f"vfusion3d {command}: interrupted.", file=sys.stderr)
        return 130


def _help() -> str:
    lines = [
        "usage: vfusion3d COMMAND [OPTIONS]",
        "",
        "From one picture to a 3D asset, and all the training behind it.",
        "",
    ]
    lines += [f"  {name:<12} {text}" for name, text in (COMMANDS | TRAINING).items()]
    lines += ["", "`vfusion3d COMMAND --help` explains a command; `vfusion3d --version` names the version."]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
