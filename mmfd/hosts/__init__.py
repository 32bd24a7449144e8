"""Calls to private parts of other libraries; each call is in one place."""
