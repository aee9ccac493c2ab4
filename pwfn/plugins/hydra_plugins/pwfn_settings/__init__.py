"""The structured configs, under the names by which ``conf/`` calls them; Hydra runs this module when it starts."""

from hydra.core.config_store import ConfigStore

from pwfn.experiment.method_settings import METHODS
from pwfn.experiment.settings import CLOSED, FIXING

ConfigStore.instance().store(name="settings", node=CLOSED, provider="pwfn")
for group, options in (("fixing", FIXING), ("method", METHODS)):
    for name, node in options.items():
        ConfigStore.instance().store(group=f"settings/{group}", name=name, node=node, provider="pwfn")
