"""The pluggy host: finds plugins by entry point, keeps what they offer, and makes components by name."""

from autometa.host.catalog import (
    Component,
    components,
    find,
    listing,
    make,
    make_backbone,
    make_learner,
    make_meta_optimizer,
    make_tasks,
    name_of,
    plugins,
)
from autometa.host.discovery import GROUP, Host, PluginRecord, disable, get_host

__all__ = [
    "GROUP",
    "Component",
    "Host",
    "PluginRecord",
    "components",
    "disable",
    "find",
    "get_host",
    "listing",
    "make",
    "make_backbone",
    "make_learner",
    "make_meta_optimizer",
    "make_tasks",
    "name_of",
    "plugins",
]
