"""Judging a selection: tables of measured times, ways to choose, and the report card of each on unseen problems."""
