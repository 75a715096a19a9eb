"""What tests share: servers with a guaranteed end, and the comparison of two servers' answers."""
