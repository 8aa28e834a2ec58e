"""What procedural objects are made of: free assemblies and loose sketches of everyday things, facing +X."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

import numpy as np

from vfusion3d.data.parts import (
    ARCH,
    BOX,
    CONE,
    CYLINDER,
    DOME,
    ELLIPSOID,
    GABLE,
    NOSE,
    Array,
    Assembly,
    Axis,
    Decal,
    Part,
    Quadric,
    Vector,
    barrel,
    frustum,
    part,
    rotation_about,
    rounded_box,
    spool,
    wedge,
)

BODY, SECOND, ACCENT, DARK, LIGHT = range(5)  # indices of an object's surfaces and colours


def _boxy(rng: Random) -> Quadric:
    """A box with sharp or rounded corners."""
    return BOX if rng.random() < 0.5 else rounded_box(rng.uniform(0.3, 1.3))


def _any_shape(rng: Random) -> Quadric:
    shapes = (
        BOX,
        rounded_box(rng.uniform(0.3, 1.4)),
        ELLIPSOID,
        ELLIPSOID,
        CYLINDER,
        barrel(rng.uniform(0.1, 0.9)),
        CONE,
        frustum(rng.uniform(0.2, 0.8)),
        DOME,
        NOSE,
        GABLE,
        ARCH,
        wedge(rng.uniform(0.2, 0.8)),
        spool(rng.uniform(0.3, 0.8)),
    )
    return rng.choice(shapes)


def _random_turn(rng: Random) -> Array:
    axis = (rng.gauss(0, 1), rng.gauss(0, 1), rng.gauss(0, 1) + 1e-6)
    return rotation_about(axis, rng.uniform(0, math.pi))


def _tube(centre: Vector, radius: float, length: float, thickness: float, surface: int, axis: Axis) -> Part:
    """A ring: a short cylinder hollowed by a longer, thinner one."""
    k = "xyz".index(axis[-1])
    half = [radius] * 3
    half[k] = length
    inner = [radius - thickness] * 3
    inner[k] = length * 2
    hole = part(CYLINDER, centre, inner, surface, axis)
    return part(CYLINDER, centre, half, surface, axis, carver=hole)


def _handle(
    centre: Vector, reach: float, height: float, width: float, thickness: float, surface: int, axis: Axis
) -> Part:
    """Half a ring that stands out by ``reach`` from ``centre`` along ``axis``, ``height`` tall along z (x for z)."""
    k = "xyz".index(axis[-1])
    sign = -1.0 if axis[0] == "-" else 1.0
    tall = 0 if k == 2 else 2
    wide = 3 - k - tall

    def half_disc(extent: float, tallness: float, breadth: float) -> Part:
        half, middle = [0.0] * 3, list(centre)
        half[k], half[tall], half[wide] = extent / 2, tallness, breadth
        middle[k] += sign * extent / 2
        # ARCH is round in its own y and z: its y must point along the tall side.
        shape = part(ARCH, middle, half, surface, axis)
        if (k + 2) % 3 != tall:
            shape.matrix = shape.matrix[:, [1, 0, 2]]
        return shape

    ring = half_disc(reach, height, width)
    ring.carver = half_disc(reach - thickness, height - thickness, width * 2)
    ring.carver.centre[k] -= sign * 1e-3
    return ring


def _free(rng: Random, colours: list[Vector]) -> Assembly:
    """Two to seven parts, each grown from the surface of an earlier one (LRM-Zero's assemblies)."""
    made = Assembly()
    symmetric = rng.random() < 0.5
    for k in range(rng.randint(1, 6) if symmetric else rng.randint(2, 7)):
        size = rng.uniform(0.35, 0.8) if k == 0 else rng.uniform(0.15, 0.5)
        half = (size * rng.uniform(0.3, 1.2), size * rng.uniform(0.3, 1.2), size * rng.uniform(0.3, 1.2))
        turn = None if rng.random() < 0.4 else _random_turn(rng)
        centre = [0.0, 0.0, 0.0]
        on_plane = symmetric and (k == 0 or rng.random() < 0.4)
        if k:
            parent = made.parts[0] if on_plane else rng.choice(made.parts)
            centre = rng.choice(parent.points().tolist())
        if on_plane:
            turn = None if turn is None else rotation_about((0, 1, 0), rng.uniform(0, math.pi))
            centre[1] = 0.0
        item = part(_any_shape(rng), centre, half, rng.choice((BODY, BODY, SECOND, ACCENT, DARK, LIGHT)), "z", turn)
        made.add(item, mirror=symmetric and not on_plane)
    return made


def _single(rng: Random, colours: list[Vector]) -> Assembly:
    """One part, perhaps hollow, as a lesson in plain shapes."""
    made = Assembly()
    half = (rng.uniform(0.3, 1), rng.uniform(0.3, 1), rng.uniform(0.3, 1))
    turn = None if rng.random() < 0.6 else _random_turn(rng)
    made.add(part(_any_shape(rng), (0, 0, 0), half, BODY, rng.choice(("x", "y", "z")), turn))
    return made


def _turned(rng: Random, colours: list[Vector]) -> Assembly:
    """A body of revolution: bottles, vases, lamps, chess pieces, bells."""
    made = Assembly()
    z, radius = 0.0, rng.uniform(0.2, 0.7)
    count = rng.randint(2, 6)
    for _ in range(count):
        height = rng.uniform(0.1, 0.8)
        kind = rng.choice(("straight", "cone", "cone", "ball", "waist", "step"))
        surface = rng.choice((BODY, BODY, SECOND, ACCENT))
        top = radius
        if kind == "straight":
            shape, half = CYLINDER, radius
        elif kind == "ball":
            half = radius * rng.uniform(1.0, 1.5)
            shape = barrel(rng.uniform(0.3, 0.9))
        elif kind == "waist":
            shape, half = spool(rng.uniform(0.3, 0.8)), radius
        elif kind == "step":
            top = min(max(radius * rng.uniform(0.4, 1.8), 0.08), 0.9)
            shape, half = CYLINDER, top
        else:
            top = min(max(radius * rng.uniform(0.3, 1.9), 0.06), 0.9)
            half = max(top, radius)
            shape = frustum(min(top, radius) / half) if abs(top - radius) > 1e-3 else CYLINDER
        axis: Axis = "-z" if kind == "cone" and top > radius else "z"
        made.add(part(shape, (0, 0, z + height / 2), (half, half, height / 2), surface, axis))
        z, radius = z + height, top
    last = rng.random()
    if last < 0.3:
        size = radius * rng.uniform(0.8, 1.6)
        made.add(part(rng.choice((ELLIPSOID, DOME, CONE, NOSE)), (0, 0, z + 0.5 * size), (size, size, size), ACCENT))
    elif last < 0.6:
        item = made.parts[-1]
        depth = float(item.matrix[2, 2])
        wall = rng.uniform(0.75, 0.93)
        item.carver = Part(item.quadric, item.matrix * wall, item.centre + np.array([0, 0, abs(depth) * 0.3]), DARK)
        item.carver.matrix[2, 2] = depth
    if rng.random() < 0.4:
        side = rng.uniform(0.2, 0.6)
        made.decals.append(_label(rng, (0.5, 0, z * rng.uniform(0.3, 0.6)), (0.5, side * 0.5, z * 0.15), colours))
    return made


def _label(rng: Random, centre: Vector, half: Vector, colours: list[Vector]) -> Decal:
    """A printed label: a colour with or without lines of text."""
    paper, ink = rng.sample(colours, 2)
    lines = rng.uniform(4, 9) if rng.random() < 0.5 else 0.0
    return Decal(centre, half, paper, ink if lines else paper, lines, round=rng.random() < 0.25)


def _vessel(rng: Random, colours: list[Vector]) -> Assembly:
    """Cups, mugs, bowls, pots, buckets, baskets."""
    made = Assembly()
    radius, height = rng.uniform(0.3, 0.8), rng.uniform(0.25, 0.8)
    wall = rng.uniform(0.03, 0.09)
    kind = rng.choice(("cylinder", "taper", "bowl", "box", "barrel"))
    shape: Quadric = CYLINDER
    axis: Axis = "z"
    if kind == "taper":
        shape, axis = frustum(rng.uniform(0.5, 0.9)), rng.choice(("z", "-z", "-z"))
    elif kind == "bowl":
        shape, axis = DOME, "-z"
    elif kind == "box":
        shape = BOX
    elif kind == "barrel":
        shape = barrel(rng.uniform(0.2, 0.7))
    depth = radius * (rng.uniform(0.5, 1.5) if kind == "box" else 1.0)
    inner = SECOND if rng.random() < 0.6 else BODY
    hole = part(shape, (0, 0, wall), (radius - wall, depth - wall, height), inner, axis)
    made.add(part(shape, (0, 0, 0), (radius, depth, height), BODY, axis, carver=hole))
    handles = rng.choice((0, 1, 1, 2))
    reach, tall, width = rng.uniform(0.15, 0.35), height * rng.uniform(0.4, 0.75), rng.uniform(0.05, 0.12)
    if handles and kind in ("cylinder", "barrel", "box"):
        made.add(_handle((0, depth - wall, 0), reach, tall, width, rng.uniform(0.06, 0.12), ACCENT, "y"))
        if handles == 2:
            made.add(made.parts[-1].mirrored())
    if kind == "bowl" or rng.random() < 0.3:
        made.add(part(CYLINDER, (0, 0, -height), (radius * 0.5, radius * 0.5, 0.06), SECOND))
    if rng.random() < 0.3:
        filling = height * rng.uniform(0.3, 0.8)
        made.add(part(CYLINDER, (0, 0, -height + filling), (radius * 0.5, depth * 0.5, filling), LIGHT))
    if rng.random() < 0.4:
        made.decals.append(_label(rng, (radius, 0, 0), (radius * 0.8, depth * 0.5, height * 0.5), colours))
    return made


def _package(rng: Random, colours: list[Vector]) -> Assembly:
    """Boxes, books, packets, tins with printed fronts."""
    made = Assembly()
    half = (rng.uniform(0.1, 0.9), rng.uniform(0.25, 0.9), rng.uniform(0.2, 0.9))
    shape = rng.choice((BOX, BOX, BOX, rounded_box(rng.uniform(0.2, 0.8)), ARCH, GABLE, wedge(rng.uniform(0.3, 0.8))))
    made.add(part(shape, (0, 0, 0), half, BODY))
    if rng.random() < 0.35:
        made.add(part(BOX, (0, 0, half[2]), (half[0] * 1.05, half[1] * 1.05, rng.uniform(0.05, 0.2)), SECOND))
    if rng.random() < 0.15:
        made.add(part(BOX, (0, 0, 0), (half[0] * 1.02, half[1] * 0.12, half[2] * 1.02), ACCENT))
        made.add(part(BOX, (0, 0, 0), (half[0] * 0.12, half[1] * 1.02, half[2] * 1.02), ACCENT))
    for _ in range(rng.randint(1, 4)):
        side = rng.choice((1, 1, -1))
        size = (0.1, half[1] * rng.uniform(0.2, 0.8), half[2] * rng.uniform(0.1, 0.6))
        centre = (side * half[0], half[1] * rng.uniform(-0.4, 0.4), half[2] * rng.uniform(-0.6, 0.6))
        made.decals.append(_label(rng, centre, size, colours))
    return made


def _table(rng: Random, colours: list[Vector]) -> Assembly:
    """Tables, stools, benches, trolleys."""
    made = Assembly()
    x, y, height, slab = rng.uniform(0.35, 0.8), rng.uniform(0.35, 1.0), rng.uniform(0.25, 1.0), rng.uniform(0.03, 0.12)
    top = CYLINDER if rng.random() < 0.3 else _boxy(rng)
    made.add(part(top, (0, 0, height), (x, y, slab), BODY))
    leg = rng.choice((CYLINDER, BOX, frustum(0.6), spool(0.6)))
    thick = rng.uniform(0.03, 0.1)
    if rng.random() < 0.25:
        made.add(part(rng.choice((CYLINDER, spool(0.4), BOX)), (0, 0, 0), (thick * 2, thick * 2, height), SECOND))
        made.add(part(rng.choice((CYLINDER, BOX, DOME)), (0, 0, -height), (x * 0.6, y * 0.6, slab), SECOND))
        return made
    inset = 0.65 if top == CYLINDER else 0.9
    for side in (1, -1):
        centre = (side * (x * inset - thick), y * inset - thick, 0.0)
        made.add(part(leg, centre, (thick, thick, height), SECOND, "-z"), mirror=True)
    if rng.random() < 0.3:
        made.add(part(BOX, (0, 0, -height * rng.uniform(0.1, 0.6)), (x * inset, y * inset, slab * 0.7), BODY))
    if rng.random() < 0.3:
        made.add(part(BOX, (0, 0, height - slab * 2.5), (x * inset * 0.9, y * inset * 0.9, slab * 2), SECOND))
    return made


def _chair(rng: Random, colours: list[Vector]) -> Assembly:
    """Chairs and armchairs, the back at -X."""
    made = Assembly()
    x, y, slab = rng.uniform(0.35, 0.5), rng.uniform(0.35, 0.55), rng.uniform(0.04, 0.14)
    height, back = rng.uniform(0.3, 0.5), rng.uniform(0.3, 0.7)
    made.add(part(_boxy(rng), (0, 0, 0), (x, y, slab), BODY))
    lean = rotation_about((0, 1, 0), -rng.uniform(0, 0.25))
    shape = rng.choice((BOX, rounded_box(1.0), ARCH, barrel(0.4)))
    made.add(part(shape, (-x, 0, back), (rng.uniform(0.03, 0.1), y, back), rng.choice((BODY, SECOND)), "z", lean))
    if shape == ARCH:  # round in the back's plane
        made.parts[-1].matrix[:, 0] *= -1
    thick = rng.uniform(0.03, 0.07)
    if rng.random() < 0.25:
        made.add(part(CYLINDER, (0, 0, -height), (thick * 1.5, thick * 1.5, height), DARK))
        made.add(part(rng.choice((CYLINDER, DOME)), (0, 0, -2 * height), (x, y, 0.07), DARK))
    else:
        leg = rng.choice((CYLINDER, BOX, frustum(0.6)))
        for side in (1, -1):
            made.add(
                part(leg, (side * (x - thick), y - thick, -height), (thick, thick, height), SECOND, "-z"), mirror=True
            )
    if rng.random() < 0.4:
        made.add(part(BOX, (0, y, back * 0.6), (x, thick, thick), SECOND), mirror=True)
        made.add(part(BOX, (x - thick, y, back * 0.3), (thick, thick, back * 0.3), SECOND), mirror=True)
    return made


def _sofa(rng: Random, colours: list[Vector]) -> Assembly:
    """Sofas and beds."""
    made = Assembly()
    x, y, height = rng.uniform(0.35, 0.9), rng.uniform(0.5, 1.0), rng.uniform(0.12, 0.25)
    soft = rounded_box(rng.uniform(0.2, 0.8))
    made.add(part(soft, (0, 0, 0), (x, y, height), BODY))
    made.add(part(soft, (-x, 0, height * 1.4), (0.12, y, height * 2.2), rng.choice((BODY, SECOND))))
    if rng.random() < 0.6:
        made.add(part(rng.choice((soft, ARCH)), (0, y, height), (x, 0.11, height * 1.3), BODY), mirror=True)
    for k in range(rng.randint(1, 2)):
        made.add(part(soft, (-x * 0.5, y * 0.45, height * 1.3), (x * 0.3, y * 0.35, 0.12), ACCENT + 2 * k), mirror=True)
    for side in (1, -1):
        made.add(part(CYLINDER, (side * x * 0.85, y * 0.85, -height - 0.05), (0.05, 0.05, 0.1), DARK), mirror=True)
    return made


def _cabinet(rng: Random, colours: list[Vector]) -> Assembly:
    """Cabinets, fridges, televisions, speakers: a box with a drawn front and small parts."""
    made = Assembly()
    x, y, z = rng.uniform(0.12, 0.5), rng.uniform(0.3, 0.8), rng.uniform(0.3, 0.9)
    made.add(part(_boxy(rng), (0, 0, 0), (x, y, z), BODY))
    rows = rng.randint(1, 3)
    for k in range(rows):
        height = z * (2 * (k + 0.5) / rows - 1)
        half = (0.04, y * rng.choice((0.43, 0.43, 0.88)), z / rows * 0.85)
        centre = (x, 0.0 if half[1] > 0.5 * y else y * 0.47, height)
        made.decals.append(Decal(centre, half, colours[SECOND], colours[SECOND], mirrored=True))
        knob = rng.choice((ELLIPSOID, BOX, CYLINDER))
        made.add(part(knob, (x, y * 0.12, height), (0.06, 0.04, rng.uniform(0.04, 0.12)), DARK), mirror=True)
    if rng.random() < 0.5:
        for side in (1, -1):
            made.add(part(CYLINDER, (side * x * 0.65, y * 0.7, -z), (0.05, 0.05, 0.2), DARK), mirror=True)
    elif rng.random() < 0.5:
        made.add(part(BOX, (0, 0, z), (x * 1.15, y * 1.1, 0.05), SECOND))
    if rng.random() < 0.3:
        made.add(part(_any_shape(rng), (0, y * rng.uniform(-0.6, 0.6), z + 0.12), (0.12, 0.12, 0.15), ACCENT))
    return made


def _screen(rng: Random, colours: list[Vector]) -> Assembly:
    """Monitors, picture frames, phones on stands, mirrors."""
    made = Assembly()
    y, z, thick = rng.uniform(0.4, 1.0), rng.uniform(0.35, 0.8), rng.uniform(0.03, 0.1)
    made.add(part(_boxy(rng), (0, 0, 0), (thick, y, z), rng.choice((BODY, DARK))))
    made.decals.append(Decal((thick + 0.3, 0, 0), (0.32, y * 0.88, z * 0.85), colours[SECOND], colours[SECOND]))
    made.decals.append(_label(rng, (thick + 0.3, y * 0.2, 0.1), (0.32, y * 0.4, z * 0.4), colours))
    made.add(part(rng.choice((CYLINDER, BOX)), (-0.05, 0, -z), (0.06, 0.08, 0.3), DARK))
    made.add(part(rng.choice((CYLINDER, BOX, DOME)), (0, 0, -z - 0.3), (0.25, y * 0.4, 0.04), DARK))
    return made


def _vehicle(rng: Random, colours: list[Vector]) -> Assembly:
    """Cars, vans, trucks, trains, boxes on wheels."""
    made = Assembly()
    x, y, z = rng.uniform(0.6, 1.0), rng.uniform(0.25, 0.5), rng.uniform(0.12, 0.3)
    made.add(part(rounded_box(rng.uniform(0.1, 0.9)), (0, 0, 0), (x, y, z), BODY))
    cabin = (x * rng.uniform(0.3, 0.6), y * rng.uniform(0.75, 0.98), z * rng.uniform(0.6, 1.3))
    shift = x * rng.uniform(-0.4, 0.4)
    roof: Quadric = rng.choice((BOX, rounded_box(0.8), wedge(0.6), ARCH, DOME))
    made.add(part(roof, (shift, 0, z + cabin[2] * 0.9), cabin, rng.choice((BODY, SECOND))))
    glass = colours[rng.choice((DARK, LIGHT))]
    window = (cabin[0] * rng.uniform(0.6, 0.85), 9.0, cabin[2] * 0.5)
    made.decals.append(Decal((shift, 0, z + cabin[2]), window, glass, glass))
    made.decals.append(Decal((x, y * 0.7, 0), (0.12, y * 0.22, z * 0.4), colours[LIGHT], colours[LIGHT], 0, True, True))
    radius, width = z * rng.uniform(0.7, 1.4), rng.uniform(0.05, 0.12)
    for k in rng.choice(((-0.62, 0.62), (-0.62, 0.62), (-0.7, 0.0, 0.7))):
        wheel = part(CYLINDER, (x * k, y, -z), (radius, width, radius), DARK, "y")
        hub = part(CYLINDER, (x * k, y + width * 0.4, -z), (radius * 0.5, width, radius * 0.5), LIGHT, "y")
        made.add(wheel, mirror=True)
        if k:
            made.add(hub, mirror=True)
    if rng.random() < 0.3:
        made.add(part(CYLINDER, (x * 0.6, 0, z * 1.5), (0.08, 0.08, z), ACCENT))
    elif rng.random() < 0.4:
        made.add(part(BOX, (x * 0.95, 0, -z * 0.5), (0.1, y, z * 0.25), DARK))
    return made


def _animal(rng: Random, colours: list[Vector]) -> Assembly:
    """Animals: a body, a head in front, legs, ears, a tail; eyes on the head."""
    made = Assembly()
    x, y, z = rng.uniform(0.4, 0.75), rng.uniform(0.2, 0.4), rng.uniform(0.2, 0.4)
    made.add(part(rng.choice((ELLIPSOID, rounded_box(1.3), ELLIPSOID)), (0, 0, 0), (x, y, z), BODY))
    head = rng.uniform(0.18, 0.35)
    hx, hz = x * rng.uniform(0.85, 1.15), z * rng.uniform(0.2, 1.2) + head * 0.5
    made.add(part(ELLIPSOID, (hx, 0, hz), (head * rng.uniform(0.9, 1.3), head, head), BODY))
    rise, run = hz, hx - x * 0.5
    neck = rotation_about((0, 1, 0), -math.atan2(rise, run))
    made.add(
        part(barrel(0.3), (hx - run / 2, 0, rise / 2), (math.hypot(rise, run) / 2, y * 0.6, y * 0.6), BODY, "x", neck)
    )
    made.add(
        part(
            rng.choice((ELLIPSOID, CONE, NOSE)),
            (hx + head, 0, hz - head * 0.2),
            (head * 0.6, head * 0.5, head * 0.45),
            rng.choice((BODY, SECOND, ACCENT)),
            "x",
        )
    )
    ear = rng.choice((ELLIPSOID, CONE, CONE))
    tall = head * rng.uniform(0.4, 1.3)
    made.add(
        part(ear, (hx - head * 0.2, head * 0.6, hz + head * 0.7 + tall * 0.4), (head * 0.25, head * 0.3, tall), SECOND),
        mirror=True,
    )
    length, thick = rng.uniform(0.15, 0.4), rng.uniform(0.05, 0.13)
    leg = rng.choice((CYLINDER, frustum(0.6), ELLIPSOID))
    for side in (1, -1):
        made.add(
            part(
                leg,
                (side * x * 0.6, y * 0.65, -z * 0.6 - length),
                (thick, thick, length + 0.1),
                rng.choice((BODY, SECOND)),
                "-z",
            ),
            mirror=True,
        )
    lift = rotation_about((0, 1, 0), rng.uniform(-0.8, 0.8))
    made.add(
        part(
            rng.choice((ELLIPSOID, CONE, CYLINDER)),
            (-x - 0.02, 0, z * 0.15),
            (rng.uniform(0.1, 0.35), 0.07, 0.07),
            SECOND,
            "-x",
            lift,
        )
    )
    made.decals.append(
        Decal(
            (hx + head * 0.8, head * 0.45, hz + head * 0.3),
            (head * 0.5, head * 0.17, head * 0.17),
            colours[DARK],
            colours[DARK],
            0,
            True,
            True,
        )
    )
    if rng.random() < 0.4:
        made.decals.append(Decal((0, 0, -z), (x * 1.2, y * 2, z * 0.8), colours[LIGHT], colours[LIGHT], 0, True))
    return made


def _figure(rng: Random, colours: list[Vector]) -> Assembly:
    """People, robots, dolls, teddy bears."""
    made = Assembly()
    width, depth, tall = rng.uniform(0.2, 0.4), rng.uniform(0.15, 0.28), rng.uniform(0.25, 0.45)
    body = rng.choice((ELLIPSOID, BOX, rounded_box(0.9), CYLINDER, frustum(0.6), barrel(0.5)))
    made.add(part(body, (0, 0, 0), (depth, width, tall), BODY))
    head = rng.uniform(0.15, 0.32)
    z = tall + head * 0.85
    made.add(
        part(rng.choice((ELLIPSOID, ELLIPSOID, rounded_box(1.0), BOX)), (0, 0, z), (head * 0.9, head, head), LIGHT)
    )
    limb = rng.choice((ELLIPSOID, CYLINDER, barrel(0.6), BOX))
    swing = rotation_about((1, 0, 0), rng.uniform(-0.2, 1.3))
    arm, thick = rng.uniform(0.2, 0.4), rng.uniform(0.06, 0.12)
    reach = swing @ np.array([0, 0, -arm])
    shoulder = np.array([0, width * 0.75, tall * 0.5])
    made.add(
        part(limb, (shoulder + reach * 0.8).tolist(), (thick, thick, arm), rng.choice((BODY, SECOND)), "z", swing),
        mirror=True,
    )
    leg = rng.uniform(0.2, 0.5)
    made.add(part(limb, (0, width * 0.5, -tall - leg * 0.7), (thick * 1.2, thick * 1.2, leg), SECOND), mirror=True)
    made.add(
        part(_boxy(rng), (0.08, width * 0.5, -tall - leg * 1.6), (thick * 2, thick * 1.4, 0.07), DARK), mirror=True
    )
    if rng.random() < 0.5:
        made.add(part(rng.choice((CONE, DOME, CYLINDER)), (0, 0, z + head), (head, head, head * 0.6), ACCENT))
    else:
        made.add(
            part(ELLIPSOID, (-0.02, head * 0.8, z + head * 0.8), (head * 0.25, head * 0.4, head * 0.4), SECOND),
            mirror=True,
        )
    made.decals.append(
        Decal(
            (head * 0.9, head * 0.4, z + head * 0.15),
            (head * 0.5, head * 0.15, head * 0.18),
            colours[DARK],
            colours[DARK],
            0,
            True,
            True,
        )
    )
    if rng.random() < 0.5:
        made.decals.append(_label(rng, (depth, 0, 0), (depth * 0.8, width * 0.5, tall * 0.4), colours))
    return made


def _house(rng: Random, colours: list[Vector]) -> Assembly:
    """Houses, sheds, mailboxes, towers."""
    made = Assembly()
    x, y, z, roof = rng.uniform(0.35, 0.8), rng.uniform(0.35, 0.8), rng.uniform(0.25, 0.6), rng.uniform(0.15, 0.4)
    made.add(part(BOX, (0, 0, 0), (x, y, z), BODY))
    shape = rng.choice((GABLE, GABLE, ARCH, wedge(0.3), DOME, CONE))
    over = rng.uniform(1.0, 1.2)
    made.add(part(shape, (0, 0, z + roof), (x * over, y * over, roof), SECOND))
    if rng.random() < 0.6:
        made.add(part(rng.choice((BOX, CYLINDER)), (-x * 0.4, y * 0.4, z + roof), (0.08, 0.08, roof * 1.2), ACCENT))
    if rng.random() < 0.5:
        made.add(part(BOX, (0, 0, -z), (x * 1.25, y * 1.25, 0.05), DARK))
    if rng.random() < 0.3:
        made.add(part(BOX, (x * 0.5, y, -z * 0.3), (x * 0.4, y * 0.5, z * 0.7), BODY))
    made.decals.append(Decal((x, 0, -z * 0.4), (0.2, y * 0.2, z * 0.6), colours[ACCENT], colours[ACCENT]))
    made.decals.append(
        Decal((x, y * 0.58, z * 0.2), (0.1, y * 0.2, z * 0.35), colours[LIGHT], colours[LIGHT], mirrored=True)
    )
    made.decals.append(
        Decal((0, y, z * 0.1), (x * 0.4, 0.1, z * 0.4), colours[LIGHT], colours[DARK], 3.0, mirrored=True)
    )
    return made


def _plant(rng: Random, colours: list[Vector]) -> Assembly:
    """Potted plants, trees, mushrooms, cacti."""
    made = Assembly()
    stem, thick = rng.uniform(0.2, 0.6), rng.uniform(0.04, 0.12)
    made.add(part(rng.choice((CYLINDER, frustum(0.6))), (0, 0, 0), (thick, thick, stem), SECOND))
    if rng.random() < 0.7:
        pot, tall = rng.uniform(0.2, 0.4), rng.uniform(0.15, 0.35)
        hole = part(frustum(0.7), (0, 0, -stem + 0.1), (pot * 0.88, pot * 0.88, tall), DARK, "-z")
        made.add(part(frustum(0.7), (0, 0, -stem), (pot, pot, tall), ACCENT, "-z", carver=hole))
    crown = rng.choice(("blobs", "cones", "leaves", "dome"))
    if crown == "cones":
        for k in range(rng.randint(2, 3)):
            size = rng.uniform(0.4, 0.6) * (1 - 0.22 * k)
            made.add(part(CONE, (0, 0, stem + 0.35 * k), (size, size, 0.4), BODY))
    elif crown == "dome":
        size = rng.uniform(0.4, 0.9)
        made.add(part(rng.choice((DOME, ELLIPSOID)), (0, 0, stem), (size, size, rng.uniform(0.15, 0.5)), BODY))
    else:
        for _ in range(rng.randint(4, 8)):
            angle = rng.uniform(0, 2 * math.pi)
            if crown == "blobs":
                size = rng.uniform(0.25, 0.4)
                centre = (0.2 * math.cos(angle), 0.2 * math.sin(angle), stem + rng.uniform(-0.1, 0.3))
                made.add(part(ELLIPSOID, centre, (size, size, size), BODY))
            else:
                length = rng.uniform(0.3, 0.6)
                turn = rotation_about((0, 0, 1), angle) @ rotation_about((0, 1, 0), -rng.uniform(0.2, 1.2))
                centre = (turn @ [length * 0.8, 0, 0] + [0, 0, stem * 0.8]).tolist()
                made.add(part(ELLIPSOID, centre, (length, rng.uniform(0.08, 0.18), 0.03), BODY, "z", turn))
    return made


def _shoe(rng: Random, colours: list[Vector]) -> Assembly:
    """Shoes and boots, the toe at +X."""
    made = Assembly()
    length, width, ankle = rng.uniform(0.7, 1.0), rng.uniform(0.26, 0.36), rng.uniform(0.2, 0.7)
    made.add(part(barrel(0.3), (0, 0, -0.1), (length, width, 0.08), rng.choice((LIGHT, DARK, SECOND))))
    made.add(part(DOME, (length * 0.2, 0, 0.1), (length * 0.75, width * 0.9, 0.2), BODY))
    hole = part(CYLINDER, (-length * 0.5, 0, ankle * 0.6), (width * 0.75, width * 0.7, ankle), DARK)
    made.add(part(barrel(0.3), (-length * 0.5, 0, ankle * 0.4), (width * 1.1, width * 0.92, ankle), BODY, carver=hole))
    for k in range(rng.randint(0, 3)):
        made.add(part(CYLINDER, (length * (0.1 * k), 0, 0.26 - 0.03 * k), (0.025, width * 0.5, 0.03), LIGHT, "y"))
    made.decals.append(
        Decal((0, width, 0.08), (length * 0.3, width * 0.9, 0.06), colours[ACCENT], colours[ACCENT], mirrored=True)
    )
    if rng.random() < 0.5:
        made.decals.append(
            Decal((length, 0, 0), (length * 0.3, 1.0, 0.3), colours[SECOND], colours[SECOND], round=True)
        )
    return made


def _plane(rng: Random, colours: list[Vector]) -> Assembly:
    """Aeroplanes, rockets on their side, fish: a long body with wings and a fin."""
    made = Assembly()
    x, thick = rng.uniform(0.7, 1.0), rng.uniform(0.12, 0.25)
    made.add(
        part(
            rng.choice((ELLIPSOID, barrel(0.7), barrel(0.85))),
            (0, 0, 0),
            (x, thick, thick * rng.uniform(0.8, 1.3)),
            BODY,
            "x",
        )
    )
    span = rng.uniform(0.4, 0.9)
    sweep = rotation_about((0, 0, 1), rng.uniform(0, 0.5))
    wing = (rng.uniform(0.15, 0.3), span, rng.uniform(0.02, 0.05))
    shape = rng.choice((BOX, ELLIPSOID, barrel(0.5)))
    made.add(part(shape, (0.05, span * 0.8, 0), wing, SECOND, "z", sweep), mirror=True)
    made.add(part(wedge(0.4), (-x * 0.85, 0, thick + 0.15), (0.15, 0.03, 0.25), ACCENT))
    made.add(part(shape, (-x * 0.85, 0.2, thick * 0.3), (0.1, 0.25, 0.02), SECOND, "z", sweep), mirror=True)
    if rng.random() < 0.5:
        made.add(part(barrel(0.5), (0.1, span * 0.6, -0.06), (0.18, 0.07, 0.07), DARK, "x"), mirror=True)
    made.decals.append(Decal((x * 0.65, 0, thick), (x * 0.15, 9.0, thick * 0.8), colours[DARK], colours[DARK]))
    made.decals.append(Decal((0, 0, 0), (x * 0.95, 9.0, thick * 0.2), colours[LIGHT], colours[LIGHT]))
    return made


def _toy(rng: Random, colours: list[Vector]) -> Assembly:
    """Rings on a pole, stacked blocks, dumb-bells, tools: things of many like parts."""
    made = Assembly()
    kind = rng.choice(("rings", "blocks", "dumbbell", "hammer", "wheel"))
    if kind == "rings":
        z = 0.0
        for k in range(rng.randint(3, 6)):
            radius, height = rng.uniform(0.3, 0.7) * (1 - 0.08 * k), rng.uniform(0.06, 0.16)
            made.add(part(barrel(rng.uniform(0.1, 0.5)), (0, 0, z + height), (radius, radius, height), k % 5))
            z += 2 * height
        made.add(part(ELLIPSOID, (0, 0, z), (0.15, 0.15, 0.15), ACCENT))
    elif kind == "blocks":
        z = 0.0
        for k in range(rng.randint(2, 6)):
            half = (rng.uniform(0.2, 0.4), rng.uniform(0.2, 0.5), rng.uniform(0.1, 0.25))
            turn = rotation_about((0, 0, 1), rng.uniform(-0.5, 0.5))
            centre = (rng.uniform(-0.1, 0.1), rng.uniform(-0.15, 0.15), z + half[2])
            made.add(part(_boxy(rng), centre, half, k % 5, "z", turn))
            z += 2 * half[2]
    elif kind == "dumbbell":
        size, length = rng.uniform(0.25, 0.45), rng.uniform(0.4, 0.9)
        made.add(part(CYLINDER, (0, 0, 0), (size * 0.35, length, size * 0.35), SECOND, "y"))
        end = rng.choice((ELLIPSOID, CYLINDER, _boxy(rng)))
        made.add(part(end, (0, length, 0), (size, size * 0.7, size), BODY, "y"), mirror=True)
    elif kind == "hammer":
        made.add(part(rng.choice((CYLINDER, barrel(0.3))), (0, 0, -0.3), (0.09, 0.09, 0.7), SECOND))
        made.add(
            part(rng.choice((CYLINDER, BOX, barrel(0.4))), (0, 0, 0.45), (rng.uniform(0.3, 0.6), 0.16, 0.18), BODY, "x")
        )
        made.add(part(wedge(0.2), (-0.5, 0, 0.45), (0.2, 0.14, 0.15), BODY, "-x"))
    else:
        radius, width = rng.uniform(0.6, 1.0), rng.uniform(0.08, 0.35)
        axis: Axis = rng.choice(("x", "y", "z"))
        made.add(_tube((0, 0, 0), radius, width, radius * rng.uniform(0.15, 0.5), BODY, axis))
        if rng.random() < 0.6:
            k = "xyz".index(axis)
            for angle in (0.0, math.pi / 2):
                spoke = [0.07, 0.07, 0.07]
                spoke[(k + 1) % 3] = radius * 0.95
                spin = rotation_about(np.eye(3)[k].tolist(), angle)
                made.add(part(BOX, (0, 0, 0), spoke, SECOND, "z", spin))
    return made


def _lamp(rng: Random, colours: list[Vector]) -> Assembly:
    """Lamps and umbrellas: a foot, a pole, a shade."""
    made = Assembly()
    tall, shade, height = rng.uniform(0.3, 0.9), rng.uniform(0.25, 0.5), rng.uniform(0.15, 0.35)
    foot = rng.uniform(0.15, 0.35)
    made.add(
        part(rng.choice((CYLINDER, DOME, BOX, CONE)), (0, 0, -tall), (foot, foot, rng.uniform(0.04, 0.15)), SECOND)
    )
    made.add(
        part(rng.choice((CYLINDER, spool(0.5), barrel(0.5))), (0, 0, 0), (rng.uniform(0.04, 0.12),) * 2 + (tall,), DARK)
    )
    shape = rng.choice((frustum(rng.uniform(0.4, 0.8)), CYLINDER, DOME, CONE, ELLIPSOID))
    if shape == ELLIPSOID:
        made.add(part(shape, (0, 0, tall), (shade, shade, height), BODY))
    else:
        hole = part(shape, (0, 0, tall - 0.04), (shade * 0.93, shade * 0.93, height), LIGHT)
        made.add(part(shape, (0, 0, tall), (shade, shade, height), BODY, carver=hole))
    return made


KINDS: dict[str, tuple[float, Callable[[Random, list[Vector]], Assembly]]] = {
    "free": (4.0, _free),
    "single": (0.7, _single),
    "turned": (1.5, _turned),
    "vessel": (1.3, _vessel),
    "package": (1.5, _package),
    "table": (1.0, _table),
    "chair": (1.0, _chair),
    "sofa": (0.6, _sofa),
    "cabinet": (1.2, _cabinet),
    "screen": (0.5, _screen),
    "vehicle": (1.0, _vehicle),
    "animal": (1.2, _animal),
    "figure": (1.0, _figure),
    "house": (0.6, _house),
    "plant": (0.8, _plant),
    "shoe": (0.8, _shoe),
    "plane": (0.5, _plane),
    "toy": (1.0, _toy),
    "lamp": (0.6, _lamp),
}


def assemble(kind: str, rng: Random, colours: list[Vector]) -> Assembly:
    """The parts and decals of one object.

    Args:
        kind: One of `KINDS`.
        rng: Source of randomness.
        colours: The object's palette, for its decals.
    """
    return KINDS[kind][1](rng, colours)
