"""What may be said of an agent's answer in numbers. Read next: `kastra.agent.scorers.scoring`."""
