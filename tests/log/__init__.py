"""What the log promises: order, both tiers, views in place, retention."""
