"""`nodemeter-agent inspect`: what the agent would meter now, on this node or on a saved tree.

Asks every provider and sampler once, writes nothing and talks to no aggregator. A saved
tree (`--root`) holds `sys`, `proc`, `run` and `dev` of another machine; `--save` makes one.
"""

from agent.inspection.look import Report, look_at_node
from agent.inspection.render import as_json, as_text
from agent.inspection.save import save_tree

__all__ = ["Report", "as_json", "as_text", "look_at_node", "save_tree"]
