"""What a stopped process may hold up, and what not.

holding      processes that are stopped in a lock: at a chosen place, or at any instruction
"""
