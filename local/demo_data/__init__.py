"""Makes the demo's files from real flights: history to train on, months to score, and files broken on purpose."""
