"""Tiers: the order of candidates, whatever they cost."""

from itertools import product

import pytest

from penstock.domain.routing_decision import Tier


@pytest.mark.parametrize(
    ("tier", "label"),
    [
        (Tier.FITS, "fits"),
        (Tier.FITS_RESERVE, "fits, in reserve"),
        (Tier.LESSER, "lesser"),
        (Tier.LESSER_RESERVE, "lesser, in reserve"),
        (Tier.FITS_UNAVAILABLE, "fits, away"),
        (Tier.LESSER_RESERVE_UNAVAILABLE, "lesser, in reserve, away"),
    ],
)
def test_a_tier_has_a_label_for_people(tier: Tier, label: str) -> None:
    assert tier.label == label


def test_every_combination_of_properties_has_its_own_tier() -> None:
    tiers = set()
    for is_lesser, is_reserve, is_available in product((False, True), repeat=3):
        tier = Tier.classify(is_lesser=is_lesser, is_reserve=is_reserve, is_available=is_available)
        assert (tier.is_lesser, tier.is_available) == (is_lesser, is_available)
        assert ("reserve" in tier.label) == is_reserve
        tiers.add(tier)
    assert tiers == set(Tier)


@pytest.mark.parametrize("tier", Tier)
def test_an_unavailable_server_ranks_behind_every_available_one(tier: Tier) -> None:
    unavailable = tier.as_unavailable
    assert not unavailable.is_available
    assert unavailable.is_lesser == tier.is_lesser
    assert all(unavailable > other for other in Tier if other.is_available)
    assert unavailable.as_unavailable is unavailable
