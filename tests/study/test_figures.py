from __future__ import annotations

import json

import pytest

from vfusion3d.errors import UsageError
from vfusion3d.metrics.intervals import wilson_interval
from vfusion3d.study import Design, Trial, Vote, make_report, nominal_alpha

DESIGN = Design("d", ("ours", "theirs"), (*(Trial(k, f"i{k}", False) for k in range(4)), Trial(4, "i0", True)))


def votes(rater: str, quality: str, faithfulness: str = "", check: tuple[str, str] | None = None) -> list[Vote]:
    """One of "a", "b" or "-" (none) a pair."""
    said = [
        Vote(rater, number, question, choice, "left" if number % 2 else "right", "")
        for question, choices in (("quality", quality), ("faithfulness", faithfulness))
        for number, choice in enumerate(choices)
        if choice != "-"
    ]
    for question, choice in zip(("quality", "faithfulness"), check or (), strict=False):
        said.append(Vote(rater, 4, question, choice, "left", ""))
    return said


def test_majorities_by_hand():
    given = votes("anna", "aaab", "aaaa") + votes("ben", "aabb", "bbbb") + votes("cleo", "abb-", "")
    report = make_report(DESIGN, given)
    quality, faithfulness = report.winners
    # i0 aaa, i1 aab, i2 abb, i3 bb
    assert (quality.wins, quality.losses, quality.ties, quality.rate) == (2, 2, 0, 0.5)
    assert (quality.low, quality.high) == wilson_interval(2, 4)[1:]
    assert (quality.votes, quality.share) == (11, 6 / 11)
    assert (faithfulness.wins, faithfulness.losses, faithfulness.ties, faithfulness.rate) == (0, 0, 4, None)
    assert (faithfulness.low, faithfulness.high, faithfulness.share, faithfulness.agreed) == (0, 1, 0.5, 0)
    assert report.votes_per_pair == (2, 3)
    anna, _, cleo = report.raters
    assert (anna.pairs, anna.left, anna.counted, cleo.pairs) == (4, 0.5, True, 0)
    assert "quality: ours wins 2 of 4 pairs, 50.0% (95 % interval 15.0% to 85.0%), 0 ties left out" in str(report)
    assert "faithfulness: no winner, 4 ties left out" in str(report)
    assert json.loads(json.dumps(report.plain()))["winners"][0]["wins"] == 2


def test_who_fails_the_checks_is_left_out_and_named():
    given = votes("anna", "aaaa", "aaaa", ("passed", "passed")) + votes("ben", "bbbb", "bbbb", ("passed", "failed"))
    report = make_report(DESIGN, given)
    assert [(one.wins, one.losses) for one in report.winners] == [(4, 0), (4, 0)]
    assert [(one.passed, one.checks, one.counted) for one in report.raters] == [(2, 2, True), (1, 2, False)]
    assert "rater ben: 4 of 4 pairs, 1 of 2 attention checks, left 50%; LEFT OUT, below 75% of the checks" in str(
        report
    )
    assert "1 rater, 8 votes, 1 per pair and question" in str(report)
    assert [one.ties for one in make_report(DESIGN, given, threshold=0.5).winners] == [4, 4]
    alone = make_report(DESIGN, votes("ben", "bb", "", ("failed",)))  # nobody is left
    assert alone.winners[0].votes == 0 and "quality: no votes" in str(alone)


def test_alpha_of_krippendorffs_example():
    """Computing Krippendorff's Alpha-Reliability (2011): four observers, twelve units, missing values; nominal .743."""
    observers = ["123321412---", "1233224125-3", "-3332342251-", "12332441251-"]
    units = ["".join(one[k] for one in observers if one[k] != "-") for k in range(12)]
    assert nominal_alpha(units)[1] == pytest.approx(0.743, abs=0.0005)


def test_alpha_at_its_ends():
    assert nominal_alpha([]) == (None, None) == nominal_alpha(["a", "b"])
    assert nominal_alpha(["aa", "aa"]) == (1, None)  # chance agrees fully too
    assert nominal_alpha(["aaa", "bbb"]) == (1, 1)
    assert nominal_alpha(["ab", "ab"]) == (0, pytest.approx(-0.5))


def test_what_cannot_be_reported():
    with pytest.raises(UsageError, match="no votes yet"):
        make_report(DESIGN, [])
    with pytest.raises(UsageError, match="--threshold must be between 0 and 1, but got 75"):
        make_report(DESIGN, votes("anna", "a"), 75)
