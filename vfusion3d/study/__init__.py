"""Which of two methods people prefer: the paper's user study, its page, its votes and its figures."""

from vfusion3d.study.figures import Report, make_report, nominal_alpha
from vfusion3d.study.pairs import Pair, Study, find_pairs
from vfusion3d.study.server import StudyServer, StudySession
from vfusion3d.study.votes import QUESTIONS, Design, Trial, Vote, Votes

__all__ = [
    "QUESTIONS",
    "Design",
    "Pair",
    "Report",
    "Study",
    "StudyServer",
    "StudySession",
    "Trial",
    "Vote",
    "Votes",
    "find_pairs",
    "make_report",
    "nominal_alpha",
]
