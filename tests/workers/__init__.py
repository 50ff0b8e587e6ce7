"""Workers: processes, pools, and what becomes of tasks whose process dies."""
