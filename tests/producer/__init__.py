"""What a producer promises: acks, futures, partitions, threads, forks, errors."""
