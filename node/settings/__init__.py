"""Settings: how they are declared, and the kinds of value that they take. Which there are is in `node.config`."""

from node.settings.declaring import Setting, declared, differences, load, setting, template

__all__ = ["Setting", "declared", "differences", "load", "setting", "template"]
