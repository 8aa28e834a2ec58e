"""What runs inside Blender: draws a job that `vfusion3d.meshes.blender` wrote.

    blender --background --python blender_script.py -- job.json
    python blender_script.py job.json                             (a Python that has bpy)

Imports nothing but bpy, numpy and the standard library.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np


def main(job: Path) -> None:
    """Draw every view of a job into ``view_000.png``, ... beside it."""
    import bpy

    document = json.loads(job.read_text(encoding="utf-8"))
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    _set_up(scene, document)
    _light(scene, document["light"])
    for index, part in enumerate(document["parts"]):
        material = _material(f"material_{index}", part, job.parent / f"texture_{index}.png", document["light"])
        scene.collection.objects.link(_object(f"part_{index}", job.parent / f"part_{index}.npz", material))
    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    scene.collection.objects.link(camera)
    scene.camera = camera
    for index, (pose, intrinsics) in enumerate(zip(document["poses"], document["intrinsics"], strict=True)):
        _aim(scene, camera, pose, intrinsics)
        scene.render.filepath = str(job.parent / f"view_{index:03d}.png")
        bpy.ops.render.render(write_still=True)


def _set_up(scene: Any, document: dict[str, Any]) -> None:
    render = scene.render
    render.engine = "CYCLES"
    render.resolution_x, render.resolution_y = document["width"], document["height"]
    render.resolution_percentage = 100
    render.film_transparent = True
    render.image_settings.file_format = "PNG"
    render.image_settings.color_mode = "RGBA"
    render.image_settings.color_depth = "8"
    render.dither_intensity = 0.0
    render.threads_mode, render.threads = "FIXED", 1  # there is one worker per core
    scene.view_settings.view_transform = "Standard"  # sRGB as it is, no film look
    scene.view_settings.look = "None"
    cycles = scene.cycles
    cycles.device = "CPU"
    cycles.samples = document["samples"]
    cycles.use_adaptive_sampling = False
    cycles.use_denoising = False
    cycles.pixel_filter_type = "BOX"  # a pixel is the mean over its own area
    cycles.seed = 0
    cycles.max_bounces = 4
    cycles.transparent_max_bounces = 64


def _light(scene: Any, light: dict[str, Any]) -> None:
    import bpy
    import mathutils

    scene.world = bpy.data.worlds.new("world")
    scene.world.use_nodes = True
    nodes, links = scene.world.node_tree.nodes, scene.world.node_tree.links
    background = nodes["Background"]
    background.inputs["Color"].default_value = (0.0, 0.0, 0.0, 1.0)
    if light["kind"] == "environment":
        picture = nodes.new("ShaderNodeTexEnvironment")
        picture.image = bpy.data.images.load(light["file"])
        links.new(picture.outputs["Color"], background.inputs["Color"])
        background.inputs["Strength"].default_value = light["exposure"]
    elif light["kind"] == "lights":
        background.inputs["Color"].default_value = (*[light["ambient"]] * 3, 1.0)
        for index, (direction, colour) in enumerate(zip(light["directions"], light["colours"], strict=True)):
            sun = bpy.data.lights.new(f"sun_{index}", type="SUN")
            sun.color = colour
            sun.energy = np.pi  # a white surface that faces it is as bright as its colour
            lamp = bpy.data.objects.new(f"sun_{index}", sun)
            # A sun shines along its local -Z.
            lamp.rotation_euler = mathutils.Vector(direction).to_track_quat("Z", "Y").to_euler()
            scene.collection.objects.link(lamp)


def _object(name: str, file: Path, material: Any) -> Any:
    import bpy

    arrays = np.load(file)
    vertices, faces = arrays["vertices"].astype(np.float32), arrays["faces"].astype(np.int32)
    mesh = bpy.data.meshes.new(name)
    mesh.vertices.add(len(vertices))
    mesh.vertices.foreach_set("co", vertices.ravel())
    mesh.loops.add(faces.size)
    mesh.loops.foreach_set("vertex_index", faces.ravel())
    mesh.polygons.add(len(faces))
    mesh.polygons.foreach_set("loop_start", np.arange(0, faces.size, 3, dtype=np.int32))
    if bpy.app.version < (3, 6):
        mesh.polygons.foreach_set("loop_total", np.full(len(faces), 3, dtype=np.int32))
    if bpy.app.version < (4, 1):
        mesh.use_auto_smooth = True  # or the normals below count for nothing
    colours = arrays["colours"].astype(np.float32) / 255.0
    rgb = colours[:, :3]
    colours[:, :3] = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    layer = mesh.color_attributes.new("Colour", "FLOAT_COLOR", "POINT")
    layer.data.foreach_set("color", colours.ravel())
    if "uv" in arrays:
        mesh.uv_layers.new(name="UV").data.foreach_set("uv", arrays["uv"][faces.ravel()].astype(np.float32).ravel())
    mesh.update(calc_edges=True)
    mesh.polygons.foreach_set("use_smooth", np.ones(len(faces), dtype=bool))
    mesh.normals_split_custom_set_from_vertices(arrays["normals"].astype(np.float32))
    mesh.materials.append(material)
    return bpy.data.objects.new(name, mesh)


def _material(name: str, part: dict[str, Any], texture: Path, light: dict[str, Any]) -> Any:
    """Texture x colours, emitted or diffuse, with its alpha."""
    import bpy

    material = bpy.data.materials.new(name)
    material.use_nodes = True
    nodes, links = material.node_tree.nodes, material.node_tree.links
    nodes.clear()
    attribute = nodes.new("ShaderNodeAttribute")
    attribute.attribute_name = "Colour"
    colour, alpha = attribute.outputs["Color"], attribute.outputs["Alpha"]
    if part["textured"]:
        picture = nodes.new("ShaderNodeTexImage")
        picture.image = bpy.data.images.load(str(texture))
        picture.image.alpha_mode = "CHANNEL_PACKED"  # colours under a zero alpha are kept
        product, opacity = nodes.new("ShaderNodeVectorMath"), nodes.new("ShaderNodeMath")
        product.operation = opacity.operation = "MULTIPLY"
        for socket, (first, second) in zip((product, opacity), ((colour, "Color"), (alpha, "Alpha")), strict=True):
            links.new(first, socket.inputs[0])
            links.new(picture.outputs[second], socket.inputs[1])
        colour, alpha = product.outputs["Vector"], opacity.outputs["Value"]
    surface = nodes.new("ShaderNodeEmission" if light["kind"] == "unlit" else "ShaderNodeBsdfDiffuse")
    links.new(colour, surface.inputs["Color"])
    shader = surface.outputs[0]
    if part["alpha"] != "opaque":
        if part["alpha"] == "mask":
            keep = nodes.new("ShaderNodeMath")
            keep.operation = "LESS_THAN"  # and one minus it, for "at least"
            links.new(alpha, keep.inputs[0])
            keep.inputs[1].default_value = part["alpha_cutoff"]
            inverse = nodes.new("ShaderNodeMath")
            inverse.operation = "SUBTRACT"
            inverse.inputs[0].default_value = 1.0
            links.new(keep.outputs[0], inverse.inputs[1])
            alpha = inverse.outputs[0]
        mix = nodes.new("ShaderNodeMixShader")
        links.new(alpha, mix.inputs["Fac"])
        links.new(nodes.new("ShaderNodeBsdfTransparent").outputs[0], mix.inputs[1])
        links.new(shader, mix.inputs[2])
        shader = mix.outputs[0]
    links.new(shader, nodes.new("ShaderNodeOutputMaterial").inputs["Surface"])
    return material


def _aim(scene: Any, camera: Any, pose: list[list[float]], intrinsics: list[float]) -> None:
    """Place the camera: same axes as ours; a lens and shifts of the sensor for the intrinsics."""
    import mathutils

    width, height = scene.render.resolution_x, scene.render.resolution_y
    fx, fy, cx, cy = intrinsics
    lens = camera.data
    lens.type = "PERSP"
    lens.sensor_fit, lens.sensor_width = "HORIZONTAL", 36.0
    lens.lens = fx * 36.0
    # A pixel's height over its width. Blender takes aspects of at least 1.
    aspect = (fx * width) / (fy * height)
    scene.render.pixel_aspect_x, scene.render.pixel_aspect_y = max(1.0, 1.0 / aspect), max(1.0, aspect)
    # Shifts are in units of the sensor's width.
    lens.shift_x = 0.5 - cx
    lens.shift_y = (cy - 0.5) * height * aspect / width
    lens.clip_start, lens.clip_end = 1e-3, 1e5
    camera.matrix_world = mathutils.Matrix(pose)


if __name__ == "__main__":
    main(Path(sys.argv[-1]))
