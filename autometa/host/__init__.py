"""The pluggy host: finds plugins by entry point, keeps what they offer, and makes components by name."""

from autometa.host.catalog import Component, make_backbone, make_learner, make_meta_optimizer, make_tasks, plugins
from autometa.host.discovery import GROUP, Host, PluginRecord, get_host

__all__ = [
    "GROUP",
    "Component",
    "Host",
    "PluginRecord",
    "get_host",
    "make_backbone",
    "make_learner",
    "make_meta_optimizer",
    "make_tasks",
    "plugins",
]
