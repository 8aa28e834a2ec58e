"""Objects stand apart by what is known of them."""

import pytest

from vfusion3d.errors import UsageError
from vfusion3d.evaluation.groups import counted, group_of, in_order, read_unseen


def test_groups() -> None:
    assert [group_of(name, {"cat"}, {"dog"}) for name in ("cat", "dog", "jar")] == ["unseen", "seen", "unknown"]
    assert group_of("jar", {"cat"}, None) == "seen" and group_of("jar", None, {"dog"}) == "all"
    assert in_order(["unknown", "seen", "unseen", "seen"]) == ["unseen", "seen", "unknown"]
    assert [counted(1, "seen"), counted(3, "all")] == ["1 seen object", "3 objects"]


def test_a_list_of_other_objects_is_refused(tmp_path) -> None:
    path = tmp_path / "unseen.txt"
    path.write_text("cat\n\n jar \n")
    assert read_unseen(path, ["cat", "dog"]) == {"cat", "jar"}
    with pytest.raises(UsageError, match=r"unseen.txt, names none of the 2 objects, cow for one"):
        read_unseen(path, ["dog", "cow"])
    with pytest.raises(UsageError, match=r"The list of unseen objects, .*none.txt, cannot be read"):
        read_unseen(tmp_path / "none.txt", ["cat"])
