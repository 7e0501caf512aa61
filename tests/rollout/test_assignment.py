"""Sticky, monotone, uniform, and unrelated between rollouts."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
import pytest

from rollout.assignment import bucket, buckets, is_canary, salt_for

ENTITIES = [f"N{number:05d}" for number in range(20_000)]


def test_bucket__worked_by_hand__is_the_leading_53_bits_of_blake2b() -> None:
    digest = blake2b(b"salt:N00001", digest_size=8).digest()
    assert bucket("N00001", salt="salt") == (int.from_bytes(digest, "big") >> 11) / 2**53


def test_buckets__many_entities__are_uniform_and_below_one() -> None:
    where = buckets(ENTITIES, salt="a")
    assert where.min() >= 0
    assert where.max() < 1
    counts = np.histogram(where, bins=20, range=(0, 1))[0]
    chi_square = float(np.square(counts - 1000).sum() / 1000)
    assert chi_square < 43.8  # 99.9 % quantile of chi-square with 19 degrees of freedom


@pytest.mark.parametrize(("smaller", "larger"), [(0.01, 0.05), (0.05, 0.25), (0.25, 0.5)])
def test_is_canary__when_the_share_rises__keeps_every_entity(smaller: float, larger: float) -> None:
    where = buckets(ENTITIES, salt="a")
    before, after = is_canary(where, share=smaller), is_canary(where, share=larger)
    assert before.sum() > 0
    assert (before & ~after).sum() == 0
    assert abs(after.mean() - larger) < 0.01


def test_is_canary__at_the_ends__is_nobody_and_everybody() -> None:
    where = buckets(ENTITIES, salt="a")
    assert not is_canary(where, share=0.0).any()
    assert is_canary(where, share=1.0).all()


def test_buckets__two_salts__are_uncorrelated() -> None:
    first = buckets(ENTITIES, salt=salt_for("delay-warning", version="arrival v3", gate_run=1))
    second = buckets(ENTITIES, salt=salt_for("delay-warning", version="arrival v3", gate_run=2))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.025  # 3.5 standard errors at 20,000
    both = is_canary(first, share=0.1) & is_canary(second, share=0.1)
    assert abs(both.mean() - 0.01) < 0.0025


def test_salt_for__same_rollout__is_the_same_for_ever() -> None:
    assert salt_for("delay-warning", version="arrival v3", gate_run=1) == salt_for(
        "delay-warning", version="arrival v3", gate_run=1
    )
    assert salt_for("delay-warning", version="arrival v3", gate_run=1) != salt_for(
        "boarding", version="arrival v3", gate_run=1
    )
