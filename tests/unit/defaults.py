"""The default config, for tests of steps that take a section of it."""

from livermet.config import DEFAULT_CONFIG, load_yaml

DEFAULTS = load_yaml(DEFAULT_CONFIG)
