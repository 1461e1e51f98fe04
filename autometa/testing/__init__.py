"""The conformance kit: what every plugin's components must do, as plain named check functions."""

from autometa.testing.checklist import Check, checks_of
from autometa.testing.kit import check_plugin, parametrize_with_plugin_checks

__all__ = ["Check", "check_plugin", "checks_of", "parametrize_with_plugin_checks"]
