"""The benchmark: systems x languages x protocols on one cache, and its leaderboard."""
