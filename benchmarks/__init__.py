"""Headrace beside what a user would pick instead: the same work, the same broker, the same run."""
