import pytest

from vfusion3d.licences import TERMS, judge, strictest
from vfusion3d.video.backbone import NO_LICENCE
from vfusion3d.video.registry import backbone_class


@pytest.mark.parametrize(
    ("statement", "terms", "licence"),
    [
        ("CC0-1.0 (pmndrs market, licence code 1)", "permissive", "CC0-1.0"),
        ("https://creativecommons.org/publicdomain/zero/1.0/", "permissive", "CC0-1.0"),
        ("Trained weights: mit", "permissive", "MIT"),
        ("MIT-0 (repo LICENSE, Amazon)", "permissive", "MIT-0"),
        ("apache-2.0", "permissive", "Apache-2.0"),
        ("CC-BY-3.0 (repo LICENSE)", "attribution", "CC-BY"),
        ("Creative Commons Attribution", "attribution", "CC-BY"),
        ("cc-by-sa-4.0", "conditions", "CC-BY-SA"),
        ("CreativeML Open RAIL++-M", "conditions", "OpenRAIL-M"),
        ("openrail++", "conditions", "OpenRAIL-M"),
        ("CC-BY-NC-4.0", "non-commercial", "CC-BY-NC"),
        ("http://creativecommons.org/licenses/by-nc-nd/4.0/", "non-commercial", "CC-BY-NC"),
        ("Creative Commons Attribution-NonCommercial", "non-commercial", "CC-BY-NC"),
        ("NVIDIA Source Code License-NC for EG3D", "research only", "NVIDIA Source Code License"),
        ("Apache-2.0 code, for research purposes only", "research only", "research only"),
        ("Copyright Google LLC, all rights reserved", "unknown", "all rights reserved"),
        ("/home/mit/models/base", "unknown", None),
        ("The licences of the training data were not recorded.", "unknown", None),
    ],
)
def test_statements_are_understood(statement, terms, licence):
    found = judge(statement)
    assert (found.terms, found.licence) == (terms, licence) and found.reason


def test_every_backbones_licence_is_known():
    wanted = {"svd": "conditions", "emu": "conditions", "wan": "permissive", "i2vgen": "non-commercial"}
    assert {name: judge(backbone_class(name).licence).terms for name in wanted} == wanted
    assert judge(NO_LICENCE).terms == "permissive"


def test_the_strictest_decides():
    assert strictest(["permissive", "non-commercial", "conditions"]) == "non-commercial"
    assert strictest([*TERMS]) == strictest([]) == "unknown"
