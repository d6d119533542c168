"""Skills of agents: folders with a SKILL.md, read when they are needed. Read next: `kastra.agent.skills.shelf`."""
