"""Accounts at model providers: kept encrypted, brought in from files, tried out, put into service.

Knows nothing of HTTP routes or commands. What leaves here for people has at most the last four characters
of a key in it.
"""
