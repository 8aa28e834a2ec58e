"""Shares of generated orbits that pass: the good rate and the SfM rate, of what the data engine has labelled."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import pyarrow as pa

from vfusion3d.data.query import parse_query
from vfusion3d.data.shards import ShardSet
from vfusion3d.errors import ShardError, UsageError
from vfusion3d.evaluation.protocol import hash_of, read_fields
from vfusion3d.metrics.intervals import Interval, wilson_interval


@dataclass(frozen=True)
class RateProtocol:
    """A share, as two conditions on the columns of a shard set."""

    name: str
    description: str
    passed: str
    """What passes, as `ShardSet`'s queries."""
    judged: str
    """Of which items the share is."""
    sources: tuple[str, ...] = ()
    """Where it comes from; not hashed."""

    @property
    def hash(self) -> str:
        """What `hash_of` says of all fields."""
        return hash_of(dataclasses.asdict(self))

    @classmethod
    def load(cls, name: str) -> RateProtocol:
        """One of the package's ``protocols/rates``, or of a YAML file.

        Raises:
            UsageError: if there is none, or it cannot be used.
        """
        path, fields = read_fields(name, "rates")
        try:
            return cls(**fields)
        except TypeError as error:
            raise UsageError(f"The rate protocol {path} cannot be used ({error}).") from error


@dataclass(frozen=True)
class Rate:
    """A share of a shard set's items.

    Args:
        passed: How many pass.
        judged: Of how many.
        items: How many there are, those without a judgement included.
        interval: The share with its 95 % interval (Wilson).
    """

    passed: int
    judged: int
    items: int
    interval: Interval


def rate_of(location: str, protocol: RateProtocol) -> Rate:
    """The rate of a shard set.

    Args:
        location: A folder or an address, as `vfusion3d data pack RUN` leaves; all finished orbits of a run should be in
            it, not only those that were kept.
        protocol: The rate.

    Raises:
        ShardError: if there is no such set, or none of its items was judged.
        UsageError: if it has no such column.
    """
    shards = ShardSet(location, cameras=False)
    table = shards.attributes()
    try:
        judged = table.filter(parse_query(protocol.judged, shards.columns)[0])
        passed = judged.filter(parse_query(protocol.passed, shards.columns)[0])
    except pa.ArrowException as error:
        raise UsageError(f"The protocol {protocol.name} does not fit the columns of {location} ({error}).") from error
    if not len(judged):
        raise ShardError(f"None of the {len(table)} items of {location} has been judged ({protocol.judged}).")
    return Rate(len(passed), len(judged), len(table), wilson_interval(len(passed), len(judged)))
