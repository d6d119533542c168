"""The agent loop, networks of agents, and what builds them from declarations."""
