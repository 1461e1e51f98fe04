"""The learner does what autometa asks of every learner."""

from __future__ import annotations

from collections.abc import Callable

from nearest_neighbour.learner import NearestNeighbour

import autometa as am


@am.parametrize_with_plugin_checks(NearestNeighbour(), expected_failures={})
def test_conformance(check: Callable[[], None]) -> None:
    check()
