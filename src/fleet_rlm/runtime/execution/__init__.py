"""What happens while a turn runs: events, journal, budget, scheduling, observation, execution."""
