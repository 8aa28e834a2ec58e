"""A trained video model's card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from huggingface_hub import ModelCardData

HUB_LICENCES = (
    *("apache-2.0", "mit", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0"),
    "unknown",
)
"""Licences that the Hugging Face hub knows by these names."""


def video_card(config: Mapping[str, Any], parameters: int) -> str:
    """The card as Markdown with YAML front matter, as the Hugging Face hub reads it.

    Args:
        config: As `VideoModelConfig.to_dict` gives it.
        parameters: How many numbers were trained.
    """
    licence, named = str(config["licence"]), str(config["licence"]).lower() in HUB_LICENCES
    header = ModelCardData(
        license=licence.lower() if named else "other",
        license_name=None if named else licence,
        base_model=config["source"] if str(config["source"]).count("/") == 1 else None,
        library_name="vfusion3d",
        pipeline_tag="image-to-video",
        tags=["image-to-video", "orbit", "multi-view", "vfusion3d"],
    )
    rig = config["rig"]
    turn = "counter-clockwise" if rig["direction"] == 1 else "clockwise"
    lineage = "".join(f"- {sentence}\n" for sentence in config["lineage"]) or "- unknown\n"
    rows = {
        "vfusion3d": config["version"],
        "backbone": config["backbone"],
        "started from": config["source"],
        "trained": f"{config['train']}, {parameters / 1e6:.1f} M weights",
        "training samples seen": "unknown" if config["samples"] is None else config["samples"],
        "steps": "unknown" if config["steps"] is None else config["steps"],
    }
    options = f"```yaml\n{yaml.safe_dump(dict(config['options']))}```\n" if config["options"] else ""
    return f"""---
{header.to_yaml()}
---

# {config["name"]}

One picture of an object in, an orbit around it out: {rig["frames"]} frames of {config["size"]} x {config["size"]}
pixels, {turn} seen from above, {rig["radius"]:.4g} world units from the object's centre with a field of
view of {rig["fov"]:.4g} degrees. Licence of the trained weights: {licence}.

## Use

    vfusion3d orbit PICTURE.png --model FOLDER --output results

```python
from vfusion3d import OrbitGenerator

frames = OrbitGenerator.from_pretrained("FOLDER")("PICTURE.png")  # [frames, 3, height, width] in [0, 1]
```

FOLDER is the folder of this file. It holds what was trained; the rest is loaded from where training started.

## Training

| | |
|---|---|
{"".join(f"| {key} | {value} |{chr(10)}" for key, value in rows.items())}{options}
## Licences of its videos

{lineage}"""
