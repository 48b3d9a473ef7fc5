"""Benchmarks: ratios between contenders on the same rows in one run, alternated and repeated. No test asserts them."""
