"""What the votes of a study say: winner rates by majority, how far raters agree, and who did not look."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from vfusion3d.errors import UsageError
from vfusion3d.metrics.intervals import wilson_interval
from vfusion3d.study.votes import LEFT, PASSED, QUESTIONS, A, B, Design, Vote

THRESHOLD = 0.75  # of the answers to attention checks that a rater must have right to be counted


@dataclass(frozen=True)
class Rater:
    """One person.

    Args:
        name: Who.
        pairs: On how many pairs both questions are answered.
        passed: How many questions of attention checks they have right.
        checks: How many they have answered.
        left: The share of their votes on pairs that went to the left video; about one half, for who looks.
        counted: Whether their votes count.
    """

    name: str
    pairs: int
    passed: int
    checks: int
    left: float | None
    counted: bool


@dataclass(frozen=True)
class Winner:
    """The figures of a question.

    Args:
        question: Which.
        wins: Pairs in which most raters preferred A.
        losses: Those in which most preferred B.
        ties: Those in which as many preferred either; left out of the rate.
        rate: ``wins / (wins + losses)``, the paper's winner rate; None if there are neither.
        low: Lower end of its 95 % interval (Wilson), over pairs.
        high: Upper end.
        votes: Single votes.
        share: Of the single votes those for A; None if there are none.
        agreed: Of every two votes on the same pair, the share that are the same; None if no pair has two.
        alpha: Krippendorff's alpha, see `nominal_alpha`.
    """

    question: str
    wins: int
    losses: int
    ties: int
    rate: float | None
    low: float
    high: float
    votes: int
    share: float | None
    agreed: float | None
    alpha: float | None


@dataclass(frozen=True)
class Report:
    """The figures of a study.

    Args:
        methods: Names of A and B.
        pairs: How many pairs the study has.
        threshold: Share of right answers to attention checks below which a rater is left out.
        raters: Everybody who voted.
        votes_per_pair: Fewest and most counted raters on a question of a pair, pairs without a vote included.
        winners: For each question.
    """

    methods: tuple[str, str]
    pairs: int
    threshold: float
    raters: tuple[Rater, ...]
    votes_per_pair: tuple[int, int]
    winners: tuple[Winner, ...]

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        counted = [rater for rater in self.raters if rater.counted]
        few, most = self.votes_per_pair
        per_pair = f"{few}" if few == most else f"{few} to {most}"
        yield (
            f"{self.methods[0]} against {self.methods[1]}: {self.pairs} pairs, {_count(len(counted), 'rater')}, "
            f"{_count(sum(one.votes for one in self.winners), 'vote')}, {per_pair} per pair and question."
        )
        for one in self.winners:
            yield f"{one.question}: {self._winner(one)}"
        for rater in self.raters:
            checks = f"{rater.passed} of {rater.checks} attention checks" if rater.checks else "no attention check yet"
            left = "" if rater.left is None else f", left {rater.left:.0%}"
            out = "" if rater.counted else f"; LEFT OUT, below {self.threshold:.0%} of the checks"
            yield f"rater {rater.name}: {rater.pairs} of {self.pairs} pairs, {checks}{left}{out}"

    def _winner(self, one: Winner) -> str:
        if not one.votes:
            return "no votes"
        ties = f"{_count(one.ties, 'tie')} left out"
        if one.rate is None:
            return f"no winner, {ties}"
        alpha = "undefined" if one.alpha is None else f"{one.alpha:.2f}"
        agreed = "one vote a pair" if one.agreed is None else f"two votes agree {one.agreed:.1%}, alpha {alpha}"
        return (
            f"{self.methods[0]} wins {one.wins} of {one.wins + one.losses} pairs, {one.rate:.1%} (95 % interval "
            f"{one.low:.1%} to {one.high:.1%}), {ties}; {one.share:.1%} of single votes; {agreed}"
        )


def make_report(design: Design, votes: Iterable[Vote], threshold: float = THRESHOLD) -> Report:
    """The figures of votes.

    The majority of the raters decides each pair, as in the paper; a pair that is tied, which an even number of raters
    allows, counts for neither. Who has too few attention checks right is left out; who has seen none yet is not.

    Args:
        design: The study.
        votes: Those that count, of `Votes.all`.
        threshold: Share of a rater's answers to attention checks that must be right.

    Raises:
        UsageError: if there are no votes, or the threshold is no share.
    """
    if not 0 <= threshold <= 1:
        raise UsageError(f"Option --threshold must be between 0 and 1, but got {threshold}.")
    people: dict[str, list[Vote]] = defaultdict(list)
    for vote in votes:
        people[vote.rater].append(vote)
    if not people:
        raise UsageError("There are no votes yet.")
    raters = tuple(_rater(design, name, own, threshold) for name, own in people.items())
    pairs = [trial.number for trial in design.trials if not trial.is_check]
    choices: dict[str, dict[int, list[str]]] = {question: {pair: [] for pair in pairs} for question in QUESTIONS}
    for rater in raters:
        for vote in people[rater.name] if rater.counted else ():
            if vote.trial in choices[vote.question]:
                choices[vote.question][vote.trial].append(vote.choice)
    counts = [len(of_pair) for of_question in choices.values() for of_pair in of_question.values()]
    return Report(
        design.methods,
        len(pairs),
        threshold,
        raters,
        (min(counts), max(counts)),
        tuple(_winner(question, list(of_question.values())) for question, of_question in choices.items()),
    )


def nominal_alpha(units: Iterable[Sequence[str]]) -> tuple[float | None, float | None]:
    """How far raters agree, also where not everybody has rated everything (Krippendorff, nominal categories).

    Args:
        units: The answers given to each thing that was rated; those with fewer than two say nothing.

    Returns:
        Of every two answers to the same thing the share that are the same (each thing weighs as many as it has
        answers), and alpha: 1 is full agreement, 0 what chance gives; None where it is undefined.

    Example:
        >>> agreed, alpha = nominal_alpha(["aa", "bb", "ab"])  # three things, two raters
        >>> f"{agreed:.3f} {alpha:.3f}"
        '0.667 0.444'
    """
    counts = [Counter(unit) for unit in units if len(unit) > 1]
    total = sum(counts, Counter())
    answers = total.total()
    if not answers:
        return None, None
    apart = sum((unit.total() ** 2 - _squares(unit)) / (unit.total() - 1) for unit in counts) / answers
    chance = (answers**2 - _squares(total)) / (answers * (answers - 1))
    return 1 - apart, None if chance == 0 else 1 - apart / chance


def _squares(counts: Counter[str]) -> int:
    return sum(count**2 for count in counts.values())


def _winner(question: str, units: Sequence[Sequence[str]]) -> Winner:
    margins = [unit.count(A) - unit.count(B) for unit in units if unit]
    wins, losses = sum(margin > 0 for margin in margins), sum(margin < 0 for margin in margins)
    share, low, high = wilson_interval(wins, wins + losses)
    rate = share if wins + losses else None
    votes, for_a = sum(map(len, units)), sum(unit.count(A) for unit in units)
    return Winner(
        question,
        wins,
        losses,
        margins.count(0),
        rate,
        low,
        high,
        votes,
        for_a / votes if votes else None,
        *nominal_alpha(units),
    )


def _rater(design: Design, name: str, votes: Sequence[Vote], threshold: float) -> Rater:
    checks = [vote for vote in votes if design.trials[vote.trial].is_check]
    pairs = [vote for vote in votes if not design.trials[vote.trial].is_check]
    passed = sum(vote.choice == PASSED for vote in checks)
    answered = Counter(vote.trial for vote in pairs)
    return Rater(
        name,
        sum(count == len(QUESTIONS) for count in answered.values()),
        passed,
        len(checks),
        sum(vote.side == LEFT for vote in pairs) / len(pairs) if pairs else None,
        not checks or passed / len(checks) >= threshold,
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
